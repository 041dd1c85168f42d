"""A Vivado HLS or Vitis HLS project: firmware, test bench with vectors, build script."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from compress.fixed import Codes, as_codes
from export.backend import FIRMWARE, Backend, BackendError
from export.backends.vendors import AP
from export.firmware import Firmware, Port
from export.ops import Input

# Family, package with or without its hyphen, speed grade, then perhaps temperature and silicon.
_PART = re.compile(r"x[acq][a-z0-9]*\d[a-z0-9]*-?[a-z]{2,4}\d{2,4}-[0-9][A-Za-z]{0,2}(-[A-Za-z0-9]{1,4}){0,2}")
_EXAMPLES = "xcvu9p-flga2577-2-e, xcu250-figd2104-2L-e, xczu7ev-ffvc1156-2-e, xc7z020clg400-1"

_GENERATED_SAMPLES = 100


@dataclass(frozen=True)
class VitisOptions:
    """``part`` is the device, ``clock_ns`` the period in nanoseconds.

    ``vectors`` are values for the test bench, (samples, \\*shape), one array or a tuple with one per input; by default
    100 samples that exercise the whole range of every input are generated, the same ones every time.
    """

    part: str = "xcvu9p-flga2577-2-e"
    clock_ns: float = 5.0
    vectors: ArrayLike | tuple[ArrayLike, ...] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.part, str) or not _PART.fullmatch(self.part):
            raise BackendError(f"{self.part!r} is not the name of a Xilinx part; known are, for example, {_EXAMPLES}")
        number = isinstance(self.clock_ns, int | float) and not isinstance(self.clock_ns, bool)
        if not number or not 0.1 <= self.clock_ns <= 1000:
            raise BackendError(f"clock_ns is the clock period in nanoseconds, from 0.1 to 1000; got {self.clock_ns!r}")


@dataclass(frozen=True)
class Vectors:
    """What the test bench reads: codes, one sample per line."""

    port: Port
    codes: Codes

    @property
    def lines(self) -> list[str]:
        """As C++ reads them into a long long: those of an unsigned 64-bit format modulo 2^64."""
        rows = self.codes.reshape(len(self.codes), -1).tolist()
        return [" ".join(str((code + 2**63) % 2**64 - 2**63) for code in row) for row in rows]


def vectors(firmware: Firmware, given: ArrayLike | tuple[ArrayLike, ...] | None) -> tuple[Vectors, ...]:
    """Codes of every port, the outputs' from the graph."""
    ops = firmware.entries
    if given is None:
        entering = [_exercise(op, np.random.default_rng(index)) for index, op in enumerate(ops)]
    else:
        arrays = given if isinstance(given, tuple) else (given,)
        if len(arrays) != len(ops):
            raise BackendError(f"{firmware.name}: {len(ops)} inputs, vectors for {len(arrays)}; give one array each")
        entering = [op.encode(values) for op, values in zip(ops, arrays, strict=True)]
    if len({len(codes) for codes in entering}) != 1 or not len(entering[0]):
        raise BackendError(f"{firmware.name}: the vectors of all inputs need the same number of samples, at least one")
    traced = firmware.graph.trace(*entering)
    return tuple(Vectors(port, traced[port.signal.tensor.name]) for port in firmware.ports)


def _exercise(op: Input, rng: np.random.Generator) -> Codes:
    """The ends of the range and zero in all elements, then ends mixed among the elements, then anything."""
    low, high = op.bounds().range
    shape = op.output.shape
    corners = [np.full(shape, code, dtype=object) for code in (low, high, 0)]
    ends = [rng.choice(np.array([low, high], dtype=object), size=shape) for _ in range(7)]
    anywhere = rng.integers(0, 1 << 64, size=(_GENERATED_SAMPLES - 10, *shape), dtype=np.uint64).astype(object)
    return op.settled(as_codes(np.concatenate([np.stack(corners + ends), low + anywhere % (high - low + 1)])))


def _context(firmware: Firmware, options: VitisOptions) -> Mapping[str, Any]:
    made = vectors(firmware, options.vectors)
    return {
        "options": options,
        "vectors": {v.port.name: v for v in made},
        "samples": len(made[0].codes),
    }


VITIS = Backend(
    name="vitis",
    files={
        **FIRMWARE,
        "tb/{name}_tb.cpp": "vitis/tb.cpp.j2",
        "tb/data/{port}.dat": "vitis/vectors.dat.j2",
        "build.tcl": "vitis/build.tcl.j2",
        "README.md": "vitis/README.md.j2",
    },
    spelling=AP,
    options=VitisOptions,
    context=_context,
)
