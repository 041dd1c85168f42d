"""Vectors for the test benches of every backend: codes that enter, and the codes that must leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from compress.fixed import Codes, as_codes
from export.backend import BackendError
from export.firmware.design import Firmware, Port
from export.ops import Input

_GENERATED_SAMPLES = 100


@dataclass(frozen=True)
class Vectors:
    """What a test bench reads: codes, one sample per line."""

    port: Port
    codes: Codes

    @property
    def lines(self) -> list[str]:
        """As C++ reads them into a long long: those of an unsigned 64-bit format modulo 2^64."""
        rows = self.codes.reshape(len(self.codes), -1).tolist()
        return [" ".join(str((code + 2**63) % 2**64 - 2**63) for code in row) for row in rows]


def vectors(firmware: Firmware, given: ArrayLike | tuple[ArrayLike, ...] | None) -> tuple[Vectors, ...]:
    """Codes of every port, the outputs' from the graph.

    ``given`` are values, (samples, \\*shape), one array or a tuple with one per input; None stands for 100 samples
    that exercise the whole range of every input, the same ones every time.
    """
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


def bench(firmware: Firmware, given: ArrayLike | tuple[ArrayLike, ...] | None) -> Mapping[str, Any]:
    """What the templates of a test bench need: ``vectors`` by port and the number of ``samples``."""
    made = vectors(firmware, given)
    return {"vectors": {v.port.name: v for v in made}, "samples": len(made[0].codes)}


def _exercise(op: Input, rng: np.random.Generator) -> Codes:
    """The ends of the range and zero in all elements, then ends mixed among the elements, then anything."""
    low, high = op.bounds().range
    shape = op.output.shape
    corners = [np.full(shape, code, dtype=object) for code in (low, high, 0)]
    ends = [rng.choice(np.array([low, high], dtype=object), size=shape) for _ in range(7)]
    anywhere = rng.integers(0, 1 << 64, size=(_GENERATED_SAMPLES - 10, *shape), dtype=np.uint64).astype(object)
    return op.settled(as_codes(np.concatenate([np.stack(corners + ends), low + anywhere % (high - low + 1)])))
