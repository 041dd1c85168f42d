"""Ops that treat every element, or every channel of a window, alike: as many copies of one circuit; and mere wires."""

from __future__ import annotations

from dataclasses import replace

from compress.fixed import FixedPoint, Overflow, Rounding
from export.costs.basis import (
    ADDER_LUT,
    BITS_OF_LUT,
    CHOICE_LUT,
    COMPARE_LUT,
    OpEstimate,
    Target,
    copied,
    estimate_op,
    levels,
)
from export.costs.multipliers import Multipliers, by_constant, by_variable
from export.intervals import Bounds
from export.ir import Op
from export.modes import Modes
from export.ops import (
    Add,
    Affine,
    ArgMax,
    BySign,
    Cast,
    ChannelCast,
    Clip,
    Concat,
    Input,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Rearrange,
    ReLU,
    Reshape,
    Subtract,
    SumPool,
    Table,
    Threshold,
)
from export.ops.softmax import Softmax


@estimate_op.register(Input)
@estimate_op.register(Reshape)
@estimate_op.register(Concat)
@estimate_op.register(Rearrange)
def _(op: Op, target: Target) -> OpEstimate:
    return OpEstimate(name=op.name, kind=type(op).__name__, interval=op.interval)  # wires


def _cast(x: FixedPoint, y: FixedPoint, modes: Modes) -> tuple[float, int]:
    """LUTs and adders: an adder where bits are rounded off; where ends are kept a comparison, and a choice for each."""
    rounds = x.frac > y.frac and modes.rounding is not Rounding.TRN
    lut = ADDER_LUT * (y.width + 1) if rounds else 0.0
    if modes.overflow is not Overflow.WRAP:
        lut += COMPARE_LUT * max(1, x.integer - y.integer + 1) + (1 + x.signed) * CHOICE_LUT * y.width
    return lut, int(rounds)


@estimate_op.register
def _(op: Cast, target: Target) -> OpEstimate:
    lut, adders = _cast(op.x.format, op.output.format, op.modes)
    return copied(op, target, copies=op.output.size, lut=lut, adders=adders)


@estimate_op.register
def _(op: ChannelCast, target: Target) -> OpEstimate:
    casts = [_cast(op.x.format, fmt, op.modes) for fmt in op.formats if fmt is not None]
    each = op.output.size // len(op.formats)  # elements of a channel, which have one format
    lut, adders = sum(lut for lut, _ in casts), sum(adders for _, adders in casts)
    made = copied(op, target, copies=each, lut=lut, adders=adders)
    return replace(made, ff=made.ff * len(casts))


@estimate_op.register
def _(op: ReLU, target: Target) -> OpEstimate:
    lut = COMPARE_LUT * op.x.format.width + CHOICE_LUT * op.output.format.width
    return copied(op, target, copies=op.output.size, lut=lut)


@estimate_op.register
def _(op: Clip, target: Target) -> OpEstimate:
    lut = 2 * (COMPARE_LUT + CHOICE_LUT) * op.x.format.width
    return copied(op, target, copies=op.output.size, lut=lut, depth=(0, 2))


@estimate_op.register(Maximum)
@estimate_op.register(Minimum)
def _(op: Maximum | Minimum, target: Target) -> OpEstimate:
    lut = (COMPARE_LUT + CHOICE_LUT) * op.output.format.width
    return copied(op, target, copies=op.output.size, lut=lut)


@estimate_op.register
def _(op: BySign, target: Target) -> OpEstimate:
    return copied(op, target, copies=op.output.size, lut=CHOICE_LUT * op.output.format.width)


@estimate_op.register(Add)
@estimate_op.register(Subtract)
def _(op: Add | Subtract, target: Target) -> OpEstimate:
    lut = ADDER_LUT * op.output.format.width
    return copied(op, target, copies=op.output.size, lut=lut, adders=1)


@estimate_op.register
def _(op: Multiply, target: Target) -> OpEstimate:
    work = by_variable(op.a.format.width, op.b.format.width).times(op.output.size)
    return copied(op, target, copies=op.output.size, lut=0.0, depth=(1, 0), multipliers=work)


@estimate_op.register
def _(op: Affine, target: Target) -> OpEstimate:
    """A constant multiplier and an adder for each element, then a cast from ``exact_frac``."""
    each = op.output.size // op.output.shape[0]
    work = sum((by_constant(code, op.x.format).times(each) for code in op.scale.codes.tolist()), Multipliers())
    exact = FixedPoint.covering(*op.exact_sums(_everywhere(op)).range, op.exact_frac)
    lut, adders = _cast(exact, op.output.format, op.modes)
    return copied(
        op,
        target,
        copies=op.output.size,
        lut=lut + ADDER_LUT * exact.width,
        adders=adders + 1,
        depth=(int(work.count > 0), 2),
        multipliers=work,
    )


def _everywhere(op: Affine) -> Bounds:
    fmt = op.x.format
    return Bounds.everywhere(op.x.shape, fmt.min_code, fmt.max_code)


@estimate_op.register
def _(op: Threshold, target: Target) -> OpEstimate:
    """A comparison for each level, and an adder that counts it or adds its step."""
    steps = op.level.shape[1]
    lut = steps * (COMPARE_LUT * op.x.format.width + CHOICE_LUT * op.output.format.width)
    return copied(op, target, copies=op.output.size, lut=lut, adders=steps, depth=(0, 1 + levels(steps)))


@estimate_op.register
def _(op: Table, target: Target) -> OpEstimate:
    """A table of its own for each element, since all are read at once."""
    entries, width = op.entries.shape[1], op.output.format.width
    lut = width * max(1.0, entries / BITS_OF_LUT)
    return copied(
        op, target, copies=op.output.size, lut=lut, depth=(0, 2), memory_bits=op.output.size * entries * width
    )


@estimate_op.register
def _(op: ArgMax, target: Target) -> OpEstimate:
    channels, places = op.x.shape[0], op.output.size
    lut = (channels - 1) * ((COMPARE_LUT + CHOICE_LUT) * op.x.format.width + CHOICE_LUT * op.output.format.width)
    return copied(op, target, copies=places, lut=lut, depth=(0, 2 * levels(channels)))


@estimate_op.register
def _(op: MaxPool, target: Target) -> OpEstimate:
    """One position at a time, all channels at once."""
    lut = (op.window.taps - 1) * (COMPARE_LUT + CHOICE_LUT) * op.x.format.width
    return copied(op, target, copies=op.x.shape[0], lut=lut, depth=(0, 2 * levels(op.window.taps)))


@estimate_op.register
def _(op: SumPool, target: Target) -> OpEstimate:
    """As :class:`MaxPool`, then a multiplier by a constant, or by the weight of the position."""
    channels, additions, sums = op.x.shape[0], op.window.taps - 1, op.sum_format
    if op.weight.codes.size == 1:
        work = by_constant(int(op.weight.codes[0]), sums).times(channels)
    else:
        work = by_variable(sums.width, op.weight.format.width).times(channels)
    return copied(
        op,
        target,
        copies=channels,
        lut=ADDER_LUT * sums.width * additions,
        adders=additions,
        depth=(int(work.count > 0), levels(op.window.taps)),
        multipliers=work,
    )


@estimate_op.register
def _(op: Softmax, target: Target) -> OpEstimate:
    """The largest of all unless it is known, a table for each element, their sum, a table by octave, a product each."""
    size, octaves, mantissas = op.output.size, *op.reciprocals.shape
    largest = 0 if op.high is not None else size - 1
    entry, inverse = op.exponentials.format.width, op.reciprocals.format.width
    places = op.exponentials.codes.size
    work = by_variable(entry, inverse).times(size)
    lut = (
        largest * (COMPARE_LUT + CHOICE_LUT) * op.x.format.width
        + size * ADDER_LUT * op.x.format.width
        + size * entry * max(1.0, places / BITS_OF_LUT)
        + (size - 1) * ADDER_LUT * op.sums.width
        + octaves * (inverse * max(1.0, mantissas / BITS_OF_LUT) + COMPARE_LUT * op.sums.width + CHOICE_LUT * inverse)
    )
    in_a_row = (2 * levels(size) if largest else 0) + 1 + 2 + levels(size) + 2 + octaves
    made = copied(op, target, copies=1, lut=lut, adders=2 * size - 1, depth=(1, in_a_row), multipliers=work)
    memory = size * places * entry + octaves * mantissas * inverse
    return replace(made, memory_bits=memory, ff=made.ff * size)
