"""How the vendors spell number types."""

from __future__ import annotations

from dataclasses import replace

from compress.fixed import FixedPoint, Overflow
from export.backend import Spelling, StreamSpelling
from export.ops import Modes

_DEFAULT = Modes()


def _xilinx(fmt: FixedPoint, modes: Modes | None = None) -> str:
    cast = "" if modes in (None, _DEFAULT) else f", AP_{modes.rounding.value}, AP_{modes.overflow.value}"
    return f"ap_{'' if fmt.signed else 'u'}fixed<{fmt.width}, {fmt.integer}{cast}>"


def siemens_modes(fmt: FixedPoint, modes: Modes | None) -> Modes:
    """The modes that a number of ``fmt`` has as an ``ac_fixed``.

    AC_SAT_SYM leaves one signed bit {-1, 0}, as SAT does; but what is cast from a type with it is taken for a number
    that has no lowest code, and overflows.
    """
    modes = modes or _DEFAULT
    alike = fmt.signed and fmt.width == 1 and modes.overflow is Overflow.SAT_SYM
    return replace(modes, overflow=Overflow.SAT) if alike else modes


def _siemens(fmt: FixedPoint, modes: Modes | None = None) -> str:
    modes = siemens_modes(fmt, modes)
    cast = "" if modes == _DEFAULT else f", AC_{modes.rounding.value}, AC_{modes.overflow.value}"
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
