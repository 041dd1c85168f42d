"""How the vendors spell number types."""

from __future__ import annotations

from compress.fixed import FixedPoint
from export.backend import Spelling, StreamSpelling
from export.ops import Modes

_DEFAULT = Modes()


def _xilinx(fmt: FixedPoint, modes: Modes | None = None) -> str:
    cast = "" if modes in (None, _DEFAULT) else f", AP_{modes.rounding.value}, AP_{modes.overflow.value}"
    return f"ap_{'' if fmt.signed else 'u'}fixed<{fmt.width}, {fmt.integer}{cast}>"


def _siemens(fmt: FixedPoint, modes: Modes | None = None) -> str:
    cast = "" if modes in (None, _DEFAULT) else f", AC_{modes.rounding.value}, AC_{modes.overflow.value}"
    return f"ac_fixed<{fmt.width}, {fmt.integer}, {str(fmt.signed).lower()}{cast}>"


#: Xilinx (AMD): Vivado HLS and Vitis HLS.
AP = Spelling(
    preamble=lambda graph: ('#include "ap_fixed.h"', '#include "ap_int.h"'),
    signal=_xilinx,
    constant=_xilinx,
    index=lambda bits: f"ap_uint<{bits}>",
    streams=StreamSpelling(('#include "hls_stream.h"',), lambda stream: f"hls::stream<{stream.packet}>"),
)

#: Siemens: Catapult; Intel HLS takes the same types.
AC = Spelling(
    preamble=lambda graph: ('#include "ac_fixed.h"', '#include "ac_int.h"'),
    signal=_siemens,
    constant=_siemens,
    index=lambda bits: f"ac_int<{bits}, false>",
    streams=StreamSpelling(('#include "ac_channel.h"',), lambda stream: f"ac_channel<{stream.packet}>"),
)
