"""What a quantizer makes of a value: its scale, offset and function taken exactly, and rounded once."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from compress.fixed import FixedPoint, FixedPointError, Overflow, round_ratio
from export.casts import Formats, covering
from export.frontends.functions import Clamp, Curve, Function, Leak, crossings, exactly, threshold
from export.frontends.value import ONE, ZERO, UnsupportedLayer, Value, spread
from export.ir import Tensor
from export.modes import Modes
from export.ops import Cast, ChannelCast, Maximum, ReLU, Requantize
from export.passes.lower_requantize import MAX_THRESHOLDS

if TYPE_CHECKING:
    from export.frontends.builder import Builder


def rounded(
    build: Builder, label: str, x: Value, target: FixedPoint | Formats, modes: Modes, unit: Fraction = ONE
) -> Tensor:
    """``x / unit`` cast to ``target``, one format or one per channel."""
    if x.function is None:
        return _line(build, label, x, target, modes, unit)
    if modes.overflow not in (Overflow.SAT, Overflow.SAT_SYM):
        raise UnsupportedLayer(f"{label}: a {x.function} before a cast that wraps; quantize before the {x.function}")
    bare = Value(x.tensor, label, x.scale, x.offset)
    match x.function:
        case Clamp():
            return _clamped(build, label, bare, x.function, target, modes, unit)
        case Leak(slope):
            above = _line(build, f"{label}.above", bare, target, modes, unit)
            below = _line(build, f"{label}.below", bare.mapped((slope,), (ZERO,)), target, modes, unit)
            return build.add(Maximum(Tensor(build.unique(label), above.shape, above.format), above, below))
        case Curve():
            return _compared(build, label, bare, x.function, target, modes, unit)


def sign(build: Builder, label: str, x: Value, fmt: FixedPoint) -> Tensor:
    """The code +1 of ``fmt`` where ``x`` is zero or more, else -1."""
    if not _keeps_sign(x.function):
        raise UnsupportedLayer(
            f"{label}: takes the sign of a {x.function}, which is never negative; leave out one of the two"
        )
    lines = [(scale * x.tensor.format.lsb, offset) for scale, offset in x.lines]
    output = Tensor(build.unique(label), x.tensor.shape, fmt)
    return build.add(threshold(output, x.tensor, lines, (-1, [exactly(ZERO)]), build.reach(x.tensor), step=2))


def covered(label: str, formats: Formats) -> FixedPoint:
    """The format of a tensor with these channels."""
    try:
        return covering(formats)
    except FixedPointError as error:
        raise UnsupportedLayer(f"{label}: its channels have no common format ({error}); bring them closer") from None


def _keeps_sign(function: Function | None) -> bool:
    match function:
        case Clamp(low, high):
            return (low is None or low < 0) and (high is None or high >= 0)
        case Leak(slope):
            return slope > 0
        case Curve():
            return function.limits[0] < 0
    return True


def _line(build: Builder, label: str, x: Value, target: FixedPoint | Formats, modes: Modes, unit: Fraction) -> Tensor:
    """Without any function."""
    formats = None if isinstance(target, FixedPoint) else target
    fmt = target if isinstance(target, FixedPoint) else covered(label, target)
    output = Tensor(build.unique(label), x.tensor.shape, fmt)
    if unit == ONE and x.unscaled:
        cast = Cast(output, x.tensor, modes) if formats is None else ChannelCast(output, x.tensor, formats, modes)
        return build.add(cast)
    channels = x.tensor.shape[0]
    scale, offset = (tuple(v / unit for v in spread(values, channels)) for values in (x.scale, x.offset))
    return build.add(Requantize(output, x.tensor, scale, offset, modes, formats))


def _clamped(
    build: Builder, label: str, x: Value, clamp: Clamp, target: FixedPoint | Formats, modes: Modes, unit: Fraction
) -> Tensor:
    """A saturating cast rises, so that the clip may follow it, between the codes that its limits are cast to."""
    if clamp.low is not None and clamp.low >= 0:  # what lies below zero is not told apart
        positive = ReLU.positive
        target = positive(target) if isinstance(target, FixedPoint) else tuple(f and positive(f) for f in target)
    formats = (target,) * x.tensor.shape[0] if isinstance(target, FixedPoint) else target
    common = covered(label, formats)
    lows, highs, idle = [], [], True
    for fmt in formats:
        if fmt is None:
            lows.append(0)
            highs.append(0)
            continue
        ends = fmt.ends(modes.overflow)
        low, high = (
            end if limit is None else _code(limit / unit, fmt, modes)
            for limit, end in zip((clamp.low, clamp.high), ends, strict=True)
        )
        idle &= (low, high) == ends
        lows.append(low << (common.frac - fmt.frac))
        highs.append(high << (common.frac - fmt.frac))
    made = _line(build, label if idle else f"{label}.cast", x, target, modes, unit)
    return made if idle else build.clip(label, made, lows, highs)


def _compared(
    build: Builder, label: str, x: Value, curve: Curve, target: FixedPoint | Formats, modes: Modes, unit: Fraction
) -> Tensor:
    """A comparison for each step of a curve."""
    if not isinstance(target, FixedPoint):
        raise UnsupportedLayer(f"{label}: a {curve} with a format for each channel has no lowering; give it one format")
    if (steps := (1 << target.width) - 1) > MAX_THRESHOLDS:
        raise UnsupportedLayer(
            f"{label}: a {curve} of {target.width} bits is {steps} comparisons, the limit is {MAX_THRESHOLDS}; "
            "quantize it to fewer bits"
        )
    lines = [(scale * x.tensor.format.lsb, offset) for scale, offset in x.lines]
    output = Tensor(build.unique(label), x.tensor.shape, target)
    passes = crossings(curve, target, modes, unit)
    return build.add(threshold(output, x.tensor, lines, passes, build.reach(x.tensor)))


def _code(number: Fraction, fmt: FixedPoint, modes: Modes) -> int:
    """One number as a code."""
    scaled = number / fmt.lsb
    whole = round_ratio(np.array([scaled.numerator], dtype=object), scaled.denominator, modes.rounding)
    return int(modes.cast(whole, fmt.frac, fmt)[0])
