"""The design as software: the same firmware over native integers, behind a C ABI that ``export._runtime`` loads.

``EMULATOR`` computes with ``qapsule::fixed``, several samples in each vector register. Beside it stand the same
firmware over the vendors' own types, which are slow and independent of ours: what the emulator is checked against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compress.fixed import FixedPoint
from export.backend import FIRMWARE, Backend, Spelling
from export.backends.vendors import AC, AP
from export.firmware import Firmware
from export.ir import Graph, Op
from export.ops import Affine, Dense, Input, Modes, SparseDense

# A vector register has no elements beyond 64 bits. Two are kept free, for the sign of an unsigned number and for the
# carry of a sum.
_WIDEST_IN_LANES = 62


def _widest(op: Op) -> int:
    """The bits of the widest number that appears while ``op`` is computed."""
    match op:
        case Dense() | SparseDense():
            product = op.x.format.width + op.weight.format.width
            return max(product, op.output.format.width)
        case Affine():
            frac = max(op.product_frac, op.offset.format.frac)
            integer = max(op.x.format.integer + op.scale.format.integer, op.offset.format.integer)
            return max(frac + integer + 1, op.output.format.width)
        case _:
            return op.output.format.width


def _preamble(graph: Graph) -> tuple[str, ...]:
    narrow = max(_widest(op) for op in graph) <= _WIDEST_IN_LANES
    lanes = '#include "qapsule/lanes.h"' if narrow else "#define QAPSULE_LANES 1  // some number exceeds a vector's"
    return '#include "qapsule/fixed.h"', lanes


def _signal(fmt: FixedPoint, modes: Modes | None) -> str:
    rounding, overflow = (modes.rounding.value, modes.overflow.value) if modes else ("TRN", "PROVED")
    cast = f"qapsule::{rounding}, qapsule::{overflow}"
    return f"qapsule::fixed<{fmt.width}, {fmt.integer}, {str(fmt.signed).lower()}, {cast}, QAPSULE_LANES>"


_OWN = Spelling(
    preamble=_preamble,
    signal=_signal,
    constant=lambda fmt: f"qapsule::fixed<{fmt.width}, {fmt.integer}, {str(fmt.signed).lower()}>",
    index=lambda bits: "unsigned short" if bits <= 16 else "unsigned int",
)


def _context(header: str, lanes: str) -> Any:
    def context(firmware: Firmware, options: Any) -> Mapping[str, Any]:
        return {"driver": header, "lanes": lanes, "encoders": [_encoder(op) for op in firmware.entries]}

    return context


def _encoder(op: Input) -> str:
    """The C++ type that converts what enters at ``op``."""
    fmt, modes = op.output.format, op.modes
    cast = f"qapsule::{modes.rounding.value}, qapsule::{modes.overflow.value}"
    return f"qapsule::encoder<{fmt.width}, {fmt.frac}, {str(fmt.signed).lower()}, {cast}>"


EMULATOR = Backend(
    name="emulator",
    files={**FIRMWARE, "emulator.cpp": "emulator/emulator.cpp.j2"},
    spelling=_OWN,
    headers=("emulate.h", "lanes.h"),
    context=_context("emulate.h", "QAPSULE_LANES"),
)
EMULATOR_AP = replace(
    EMULATOR, name="emulator_ap", spelling=AP, headers=("emulate_ap.h",), context=_context("emulate_ap.h", "1")
)
EMULATOR_AC = replace(
    EMULATOR, name="emulator_ac", spelling=AC, headers=("emulate_ac.h",), context=_context("emulate_ac.h", "1")
)
