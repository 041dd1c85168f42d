"""A component for the Intel HLS compiler: the firmware over ``ac_fixed``, an interface around it, a test bench."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from numpy.typing import ArrayLike

from export.backend import FIRMWARE, Backend, BackendError
from export.backends.settings import check_clock
from export.backends.vectors import bench
from export.backends.vendors import AC
from export.firmware.design import Firmware

# A device family as i++ spells it, or an ordering code such as 10AX115N2F45E1SG.
_FAMILIES = ("Agilex", "Agilex7", "Arria10", "ArriaV", "Cyclone10GX", "CycloneV", "MAX10", "Stratix10", "StratixV")
_ORDERING_CODE = re.compile(r"(?=.*[0-9])[0-9A][A-Z0-9]{9,19}")


class Interface(Enum):
    """How samples reach the component: as the arguments and the result of a call, or through streams."""

    PARALLEL = "parallel"
    STREAM = "stream"


@dataclass(frozen=True)
class IntelOptions:
    """``part`` is a device family or ordering code, ``clock_ns`` the period in nanoseconds.

    With ``interface`` "parallel" every number of a sample has wires of its own beside the call's handshake; with
    "stream" samples pass through Avalon streams, one in each beat. ``vectors`` are values for the test bench, as for
    ``vitis``.
    """

    part: str = "Arria10"
    clock_ns: float = 5.0
    interface: Interface = Interface.PARALLEL
    vectors: ArrayLike | tuple[ArrayLike, ...] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.part, str) or not (self.part in _FAMILIES or _ORDERING_CODE.fullmatch(self.part)):
            raise BackendError(
                f"{self.part!r} is not an Intel device; give a family, {', '.join(_FAMILIES)}, or an ordering code "
                "such as 10AX115N2F45E1SG"
            )
        check_clock(self.clock_ns)
        try:
            object.__setattr__(self, "interface", Interface(self.interface))
        except ValueError:
            offer = " or ".join(repr(member.value) for member in Interface)
            raise BackendError(f"interface is {offer}; got {self.interface!r}") from None

    @property
    def clock_mhz(self) -> str:
        return f"{1000 / self.clock_ns:.10g}MHz"


def _context(firmware: Firmware, options: IntelOptions) -> Mapping[str, Any]:
    streams = options.interface is Interface.STREAM
    return {"options": options, "streams": streams, **bench(firmware, options.vectors)}


INTEL = Backend(
    name="intel",
    files={
        **FIRMWARE,
        "component/{name}_component.h": "intel/component.h.j2",
        "component/{name}_component.cpp": "intel/component.cpp.j2",
        "tb/{name}_tb.cpp": "intel/tb.cpp.j2",
        "tb/data/{port}.dat": "vitis/vectors.dat.j2",
        "Makefile": "intel/Makefile.j2",
        "README.md": "intel/README.md.j2",
    },
    spelling=replace(AC, preamble=lambda graph: ('#include "HLS/ac_fixed.h"', '#include "HLS/ac_int.h"')),
    options=IntelOptions,
    context=_context,
)
