"""A Vivado HLS or Vitis HLS project: firmware, test bench with vectors, build script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from export.backend import FIRMWARE, Backend, BackendError
from export.backends.settings import Memory, WeightMemory, check_clock, check_memory, check_xilinx_part, storage
from export.backends.vectors import Vectors, bench, vectors
from export.backends.vendors import AP
from export.firmware.design import Firmware
from export.firmware.reload import loaded, rearranged
from export.firmware.storage import Delivery
from export.ir import Graph
from export.streams.access import Io

# Bits of an AXI stream, in which each element of a packet begins at a byte of its own.
_WIDEST_BEAT = 4096


def _aligned(width: int) -> int:
    """The bits that an element of ``width`` bits takes there."""
    return next(size for size in (8, 16, 32, 64) if width <= size)


@dataclass(frozen=True)
class VitisOptions:
    """``part`` is the device, ``clock_ns`` the period in nanoseconds.

    ``weight_memory`` is where the weights of layers with shared multipliers lie: "bram", "lutram" or "auto" (the tool
    decides), one for all of them or one by layer name.

    ``vectors`` are values for the test bench, (samples, \\*shape), one array or a tuple with one per input; by default
    100 samples that exercise the whole range of every input are generated, the same ones every time. Where weights are
    reloadable, it loads those of ``reload``, a graph of the same layers, and runs the samples again; by default the
    constants of the design in other places.
    """

    part: str = "xcvu9p-flga2577-2-e"
    clock_ns: float = 5.0
    vectors: ArrayLike | tuple[ArrayLike, ...] | None = field(default=None, compare=False)
    weight_memory: WeightMemory = Memory.AUTO
    reload: Graph | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_xilinx_part(self.part)
        check_clock(self.clock_ns)
        check_memory(self.weight_memory)
        if self.reload is not None and not isinstance(self.reload, Graph):
            raise BackendError(f"reload is a graph, such as to_graph makes of a network; got {self.reload!r}")


def _context(firmware: Firmware, options: VitisOptions) -> Mapping[str, Any]:
    for port in firmware.ports if firmware.network else ():
        width = port.signal.channels * _aligned(port.signal.tensor.format.width)
        if width > _WIDEST_BEAT:
            raise BackendError(
                f"{port.signal.tensor.name}: a packet of {port.signal.channels} elements takes {width} bits of an AXI "
                f"stream, the limit is {_WIDEST_BEAT}; give it spatial axes, each position of which is a packet, or "
                "use io='parallel'"
            )
    return {
        "options": options,
        "storage": storage(firmware, options.weight_memory),
        **(_reloading(firmware, options) if firmware.loading else _unchanging(firmware, options)),
    }


def _unchanging(firmware: Firmware, options: VitisOptions) -> Mapping[str, Any]:
    if options.reload is not None:
        raise BackendError(f"{firmware.name}: there is nothing to reload; use weights='reloadable'")
    return bench(firmware, options.vectors)


def _reloading(firmware: Firmware, options: VitisOptions) -> Mapping[str, Any]:
    """All vectors twice, what is expected behind the first half being that of other constants."""
    graph = firmware.graph
    second = rearranged(graph) if options.reload is None else loaded(graph, options.reload)
    first = vectors(firmware, options.vectors)
    samples = len(first[0].codes)
    traced = second.trace(*(each.codes for each in first[: len(firmware.inputs)]))
    both = [Vectors(each.port, np.concatenate([each.codes, traced[each.port.signal.tensor.name]])) for each in first]
    other = Firmware(second, firmware.io, [step.op.name for step in firmware if step.redundant], firmware.delivery)
    return {
        "vectors": {each.port.name: each for each in both},
        "samples": 2 * samples,
        "before": samples,
        "words": [word for step in other.loading for load in step.loads for word in load.words.tolist()],
    }


VITIS = Backend(
    name="vitis",
    files={
        **FIRMWARE,
        "tb/{name}_tb.cpp": "vitis/tb.cpp.j2",
        "tb/data/{port}.dat": "vitis/vectors.dat.j2",
        "tb/data/{weights}.dat": "vitis/weights.dat.j2",
        "build.tcl": "vitis/build.tcl.j2",
        "README.md": "vitis/README.md.j2",
    },
    spelling=AP,
    ios=tuple(Io),
    delivery=Delivery.BUS,
    options=VitisOptions,
    context=_context,
)
