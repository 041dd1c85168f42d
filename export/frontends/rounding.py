"""What a quantizer makes of a value: its scale, offset and function taken exactly, and rounded once."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np

from compress.fixed import FixedPoint, FixedPointError, Overflow, round_ratio
from export.frontends.curves import Curve
from export.frontends.functions import Clamp, Function, Leak
from export.frontends.stairs import Quantized, Stairs, compared, stairs, tabulated
from export.frontends.value import ONE, ZERO, Rationals, UnsupportedLayer, Value, spread
from export.ir import Tensor
from export.modes import Modes
from export.ops import BySign, Cast, ChannelCast, Maximum, Minimum, ReLU, Requantize
from export.ops.casts import Formats, covering
from export.ops.lookup import MAX_INDEX_WIDTH
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
        case Leak(slopes):
            return _leaked(build, label, bare, slopes, target, modes, unit)
        case Curve():
            return _stepped(build, label, bare, x.function, target, modes, unit)


def sign(build: Builder, label: str, x: Value, fmt: FixedPoint) -> Tensor:
    """The code +1 of ``fmt`` where ``x`` is zero or more, else -1."""
    if not _keeps_sign(x.function):
        raise UnsupportedLayer(
            f"{label}: takes the sign of a {x.function}, which is never negative; leave out one of the two"
        )
    if isinstance(x.function, Curve) and x.function.turn is not None:
        raise UnsupportedLayer(
            f"{label}: takes the sign of a {x.function}, which floats lose far below zero; leave out the {x.function}, "
            "whose argument has the same sign"
        )
    output = Tensor(build.unique(label), x.tensor.shape, fmt)
    return build.add(compared(output, x.tensor, [_signs(*line, *ends) for line, ends in _channels(build, x)]))


def _signs(slope: Fraction, offset: Fraction, low: int, high: int) -> Stairs:
    """+1 where ``slope * code + offset`` is zero or more, else -1, for the codes from ``low`` to ``high``."""
    first, last = (1 if slope * code + offset >= 0 else -1 for code in (low, high))
    if first == last:
        return Stairs(low, high, first, (), ())
    level = ceil(-offset / slope) if slope > 0 else floor(-offset / slope) + 1
    return Stairs(low, high, first, (level,), (last,))


def _channels(build: Builder, x: Value) -> Iterator[tuple[tuple[Fraction, Fraction], tuple[int, int]]]:
    """For each channel the slope and offset that make a number of a code, and the ends of what it reaches."""
    reach = build.reach(x.tensor)
    for (scale, offset), low, high in zip(x.lines, reach.low, reach.high, strict=True):
        yield (scale * x.tensor.format.lsb, offset), (int(np.min(low)), int(np.max(high)))


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
        case Leak(slopes):
            return all(slope > 0 for slope in slopes)
        case Curve():
            return function.negative
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


def _leaked(
    build: Builder, label: str, x: Value, slopes: Rationals, target: FixedPoint | Formats, modes: Modes, unit: Fraction
) -> Tensor:
    """A saturating cast rises: the larger of two lines is the larger of the two cast, and the smaller the smaller."""
    above = _line(build, f"{label}.above", x, target, modes, unit)
    below = _line(build, f"{label}.below", x.mapped(slopes, (ZERO,)), target, modes, unit)
    output = Tensor(build.unique(label), above.shape, above.format)
    if all(slope <= 1 for slope in slopes):
        return build.add(Maximum(output, above, below))
    if all(slope >= 1 for slope in slopes):
        return build.add(Minimum(output, above, below))
    return build.add(BySign(output, sign(build, f"{label}.sign", x, FixedPoint(2, 0)), above, below))


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


def _stepped(
    build: Builder, label: str, x: Value, curve: Curve, target: FixedPoint | Formats, modes: Modes, unit: Fraction
) -> Tensor:
    """A comparison for each step of a curve, or a table where there are too many of those."""
    if not isinstance(target, FixedPoint):
        raise UnsupportedLayer(f"{label}: a {curve} with a format for each channel has no lowering; give it one format")
    low, high = build.reach(x.tensor).range
    if 1 << target.width > MAX_THRESHOLDS and high - low >= 1 << MAX_INDEX_WIDTH:
        raise UnsupportedLayer(
            f"{label}: a {curve} of {target.width} bits takes up to {(1 << target.width) - 1} comparisons, the limit "
            f"is {MAX_THRESHOLDS}, and {x.tensor} has too many codes for a table; quantize it to fewer bits, or put a "
            f"QuantIdentity of at most {MAX_INDEX_WIDTH} bits before it"
        )
    function = Quantized(curve, target, modes, unit)
    channels = [stairs(function, *line, *ends) for line, ends in _channels(build, x)]
    output = Tensor(build.unique(label), x.tensor.shape, target)
    make = compared if max(len(s.levels) for s in channels) <= MAX_THRESHOLDS else tabulated
    return build.add(make(output, x.tensor, channels))


def _code(number: Fraction, fmt: FixedPoint, modes: Modes) -> int:
    """One number as a code."""
    scaled = number / fmt.lsb
    whole = round_ratio(np.array([scaled.numerator], dtype=object), scaled.denominator, modes.rounding)
    return int(modes.cast(whole, fmt.frac, fmt)[0])
