"""The design as software: the same firmware over native integers, behind a C ABI that ``export._runtime`` loads.

``EMULATOR`` computes with ``qapsule::fixed``, several samples in each vector register. Beside it stand the same
firmware over the vendors' own types, which are slow and independent of ours: what the emulator is checked against.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compress.fixed import FixedPoint
from export.backend import FIRMWARE, Backend, Spelling, StreamSpelling
from export.backends.vendors import AC, AP
from export.firmware.design import Firmware
from export.ir import Graph, Op
from export.ops import Add, Affine, Modes, Multiply, Softmax, Subtract, SumOfProducts, SumPool
from export.ops.casts import channels_by_format
from export.streams.access import Io

# A vector register has no elements beyond 64 bits. Two are kept free, for the sign of an unsigned number and for the
# carry of a sum.
_WIDEST_IN_LANES = 62


def _widest(op: Op) -> int:
    """The bits of the widest number that appears while ``op`` is computed."""
    match op:
        case SumOfProducts():
            product = op.x.format.width + op.weight.format.width
            return max(product, op.output.format.width)
        case Affine():
            frac = max(op.product_frac, op.offset.format.frac)
            integer = max(op.x.format.integer + op.scale.format.integer, op.offset.format.integer)
            return max(frac + integer + 1, op.output.format.width)
        case Add() | Subtract():  # one more for the sign that an unsigned operand takes beside a signed one
            a, b = op.a.format, op.b.format
            return max(max(a.frac, b.frac) + max(a.integer, b.integer) + 2, op.output.format.width)
        case SumPool():
            return max(op.sum_format.width + op.weight.format.width, op.output.format.width)
        case Softmax():
            product = op.exponentials.format.width + op.reciprocals.format.width
            return max(product, op.sums.width + op.powers.format.width, op.x.format.width + 1)
        case Multiply():
            return max(op.a.format.width + op.b.format.width, op.output.format.width)
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
    streams=StreamSpelling(
        ('#include "qapsule/queue.h"',),
        lambda stream: f"qapsule::queue<{stream.packet}, {stream.packets}>",
        headers=("queue.h",),
    ),
)


@dataclass(frozen=True)
class Load:
    """How elements of an input, or all, become numbers; their codes are ``shift`` bits coarser than the port's."""

    input: int
    port: str
    encoder: str
    elements: tuple[int, ...] | None = None
    shift: int = 0


def _context(header: str, lanes: str) -> Any:
    def context(firmware: Firmware, options: Any) -> Mapping[str, Any]:
        loads = [load for number in range(len(firmware.inputs)) for load in _loads(firmware, number)]
        return {"driver": header, "lanes": lanes, "loads": loads}

    return context


def _loads(firmware: Firmware, number: int) -> Iterator[Load]:
    """One for a whole input, or one for each format among its channels."""
    op, port = firmware.entries[number], firmware.inputs[number].name
    fmt, modes = op.output.format, op.modes
    if op.formats is None:
        yield Load(number, port, _encoder(fmt, modes))
        return
    elements = np.arange(op.output.size).reshape(op.output.shape)
    for own, channels in channels_by_format(op.formats).items():
        some = tuple(elements[channels].ravel().tolist())
        if own is None:
            yield Load(number, port, "qapsule::no_encoder", some)
        else:
            yield Load(number, port, _encoder(own, modes), some, fmt.frac - own.frac)


def _encoder(fmt: FixedPoint, modes: Modes) -> str:
    """The C++ type that converts real numbers to codes."""
    cast = f"qapsule::{modes.rounding.value}, qapsule::{modes.overflow.value}"
    return f"qapsule::encoder<{fmt.width}, {fmt.frac}, {str(fmt.signed).lower()}, {cast}>"


EMULATOR = Backend(
    name="emulator",
    files={**FIRMWARE, "emulator.cpp": "emulator/emulator.cpp.j2"},
    spelling=_OWN,
    headers=("emulate.h", "emulate_stream.h", "lanes.h"),
    ios=tuple(Io),
    context=_context("emulate.h", "QAPSULE_LANES"),
)
EMULATOR_AP = replace(
    EMULATOR,
    name="emulator_ap",
    spelling=AP,
    headers=("emulate_ap.h", "emulate_stream.h"),
    context=_context("emulate_ap.h", "1"),
)
EMULATOR_AC = replace(
    EMULATOR,
    name="emulator_ac",
    spelling=AC,
    headers=("emulate_ac.h", "emulate_stream.h"),
    context=_context("emulate_ac.h", "1"),
)
