"""A Vivado HLS or Vitis HLS project: firmware, test bench with vectors, build script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike

from export.backend import FIRMWARE, Backend, BackendError
from export.backends.settings import check_clock, check_xilinx_part
from export.backends.vectors import bench
from export.backends.vendors import AP
from export.firmware.design import Firmware
from export.streams.access import Io

# Bits of an AXI stream, in which each element of a packet begins at a byte of its own.
_WIDEST_BEAT = 4096


def _aligned(width: int) -> int:
    """The bits that an element of ``width`` bits takes there."""
    return next(size for size in (8, 16, 32, 64) if width <= size)


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
        check_xilinx_part(self.part)
        check_clock(self.clock_ns)


def _context(firmware: Firmware, options: VitisOptions) -> Mapping[str, Any]:
    for port in firmware.ports if firmware.network else ():
        width = port.signal.channels * _aligned(port.signal.tensor.format.width)
        if width > _WIDEST_BEAT:
            raise BackendError(
                f"{port.signal.tensor.name}: a packet of {port.signal.channels} elements takes {width} bits of an AXI "
                f"stream, the limit is {_WIDEST_BEAT}; give it spatial axes, each position of which is a packet, or "
                "use io='parallel'"
            )
    return {"options": options, **bench(firmware, options.vectors)}


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
    ios=tuple(Io),
    options=VitisOptions,
    context=_context,
)
