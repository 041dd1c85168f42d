"""A design on an accelerator card: a kernel that reads batches from memory, and the program on the host that feeds it.

The kernel wraps the very firmware of every other backend. How samples lie in memory is written down in
``hls_lib/qapsule/wide.h`` and, once more, computed here for the host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike

from export.backend import FIRMWARE, Backend, BackendError
from export.backends.settings import (
    Memory,
    WeightMemory,
    check_clock,
    check_count,
    check_memory,
    check_xilinx_part,
    storage,
)
from export.backends.vectors import bench
from export.backends.vendors import AP
from export.firmware.design import Firmware, Port
from export.streams.access import Io

#: Bits of a memory word: what the memory controllers of the cards move in a cycle.
WORD = 512

# A name that Vitis knows, or the path of an .xpfm file.
_PLATFORM = re.compile(r"/?[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_.+-]+)*")
_BANK = re.compile(r"(DDR|HBM|PLRAM|HOST|LPDDR|MC_NOC)\[\d+(:\d+)?\]")

# Vitis HLS makes one word of a packet, up to this many bits.
_WIDEST_PACKET = 4096

# The kernel and the host count in 32 bits.
_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class VitisAccelOptions:
    """``platform`` is the card as Vitis names it, ``part`` its device, ``clock_ns`` the kernel's period.

    The host sends ``batch`` samples at a time to each of ``compute_units`` copies of the kernel. ``banks`` are the
    memories of the platform that the copies use in turn, such as DDR[0], HBM[0:3]; by default Vitis chooses.
    ``weight_memory``, and ``vectors``, values for host and test bench, are as for ``vitis``.
    """

    platform: str = "xilinx_u250_gen3x16_xdma_4_1_202210_1"
    part: str = "xcu250-figd2104-2L-e"
    clock_ns: float = 5.0
    batch: int = 1024
    compute_units: int = 1
    banks: tuple[str, ...] = ()
    weight_memory: WeightMemory = Memory.AUTO
    vectors: ArrayLike | tuple[ArrayLike, ...] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.platform, str) or not _PLATFORM.fullmatch(self.platform):
            raise BackendError(
                f"platform is a name as `platforminfo -l` lists it, or the path of an .xpfm file; got {self.platform!r}"
            )
        check_xilinx_part(self.part)
        check_clock(self.clock_ns)
        check_memory(self.weight_memory)
        check_count("batch", self.batch, 1 << 24)
        check_count("compute_units", self.compute_units, 60)  # as many as Vitis links
        object.__setattr__(self, "banks", (self.banks,) if isinstance(self.banks, str) else tuple(self.banks))
        for bank in self.banks:
            if not isinstance(bank, str) or not _BANK.fullmatch(bank):
                raise BackendError(f"banks are memories of the platform, such as DDR[0] or HBM[0:3]; got {bank!r}")

    @property
    def hertz(self) -> int:
        return round(1e9 / self.clock_ns)


@dataclass(frozen=True)
class Lane:
    """A port of the kernel: its memory interface, and how packets lie in the words that go through it.

    A packet is a whole sample where the design takes arrays.
    """

    port: Port
    number: int
    streams: bool

    @property
    def width(self) -> int:
        """Bits of an element."""
        return self.port.signal.tensor.format.width

    @property
    def elements(self) -> int:
        """Elements of a packet."""
        return self.port.signal.channels if self.streams else self.port.signal.size

    @property
    def packets(self) -> int:
        """Packets of a sample."""
        return self.port.signal.size // self.elements

    @property
    def per_word(self) -> int:
        """Elements in a word."""
        return WORD // self.width

    @property
    def sharing(self) -> int:
        """Packets in a word."""
        return max(1, self.per_word // self.elements)

    @property
    def words(self) -> int:
        """Words of a packet, or of those that share one."""
        return -(-self.elements // self.per_word)

    @property
    def types(self) -> str:
        """What the processes that move words are instantiated with."""
        return f"{self.port.signal.type}, {self.elements}, {self.packets}"

    def total(self, samples: int) -> int:
        """Words that hold so many samples."""
        return -(-samples * self.packets // self.sharing) * self.words


def _connections(firmware: Firmware, options: VitisAccelOptions) -> Iterator[str]:
    """The memory of every port of every copy of the kernel."""
    for unit in range(options.compute_units if options.banks else 0):
        for port in firmware.ports:
            bank = options.banks[unit % len(options.banks)]
            yield f"{firmware.name}_kernel_{unit + 1}.{port.name}:{bank}"


def _context(firmware: Firmware, options: VitisAccelOptions) -> Mapping[str, Any]:
    lanes = {port.name: Lane(port, number, firmware.io is Io.STREAM) for number, port in enumerate(firmware.ports)}
    for lane in lanes.values():
        if lane.streams and lane.elements * lane.width > _WIDEST_PACKET:
            raise BackendError(
                f"{lane.port.signal.tensor.name}: a packet of {lane.elements} elements of {lane.width} bits exceeds "
                f"the {_WIDEST_PACKET} bits of a stream's word; use io='parallel'"
            )
        if (needed := lane.total(options.batch) * WORD // 8) > _MOST_BYTES:
            raise BackendError(
                f"batch={options.batch}: the samples of {lane.port.name} take {needed} bytes, more than {_MOST_BYTES}; "
                "use a smaller batch"
            )
    return {
        "options": options,
        "storage": storage(firmware, options.weight_memory),
        "word": WORD,
        "lanes": lanes,
        "entering": [lanes[port.name] for port in firmware.inputs],
        "leaving": [lanes[port.name] for port in firmware.outputs],
        "interval": max(lane.words for lane in lanes.values()),
        "connections": tuple(_connections(firmware, options)),
        **bench(firmware, options.vectors),
    }


VITIS_ACCEL = Backend(
    name="vitis_accel",
    files={
        **FIRMWARE,
        "kernel/{name}_kernel.h": "vitis_accel/kernel.h.j2",
        "kernel/{name}_kernel.cpp": "vitis_accel/kernel.cpp.j2",
        "host/vectors.h": "vitis_accel/vectors.h.j2",
        "host/host.cpp": "vitis_accel/host.cpp.j2",
        "tb/{name}_kernel_tb.cpp": "vitis_accel/tb.cpp.j2",
        "data/{port}.dat": "vitis/vectors.dat.j2",
        "kernel.tcl": "vitis_accel/kernel.tcl.j2",
        "connectivity.cfg": "vitis_accel/connectivity.cfg.j2",
        "Makefile": "vitis_accel/Makefile.j2",
        "README.md": "vitis_accel/README.md.j2",
    },
    spelling=AP,
    headers=("wide.h",),
    ios=(Io.PARALLEL, Io.STREAM),
    options=VitisAccelOptions,
    context=_context,
)
