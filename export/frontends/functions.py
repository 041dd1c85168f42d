"""The functions between a sum and the quantizer behind it, and where an integer passes each step of the two together.

All of them rise. A saturating quantizer rises too, so that a clip may be taken after it, the larger of two lines as the
larger of two quantized ones, and any curve as comparisons: the least integer for which each result is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import Enum
from fractions import Fraction
from functools import cache
from math import ceil, floor

import numpy as np

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Const, Tensor
from export.modes import Modes
from export.ops import Threshold
from export.staircase import landings

_DIGITS = 40


@dataclass(frozen=True)
class Clamp:
    """``min(max(x, low), high)``; None is no limit."""

    low: Fraction | None
    high: Fraction | None = None

    def of(self, number: Fraction) -> Fraction:
        raised = number if self.low is None else max(number, self.low)
        return raised if self.high is None else min(raised, self.high)

    def after(self, other: Clamp) -> Clamp:
        """Both clips, ``other`` first."""
        low = self.low if other.low is None else self.of(other.low)
        return Clamp(low, self.high if other.high is None else self.of(other.high))

    def __str__(self) -> str:
        return "relu" if (self.low, self.high) == (0, None) else "clip"


@dataclass(frozen=True)
class Leak:
    """``x`` where it is positive, else ``slope * x``, for slopes from 0 to 1: the larger of the two."""

    slope: Fraction

    def __str__(self) -> str:
        return "leaky relu"


class Curve(Enum):
    """A function without exact values; where it passes a number is known to as many digits as it takes."""

    TANH = "tanh"
    SIGMOID = "sigmoid"

    @property
    def limits(self) -> tuple[int, int]:
        """What the function stays strictly between."""
        return (-1, 1) if self is Curve.TANH else (0, 1)

    def crossing(self, number: Fraction, strict: bool) -> Crossing:
        """Where the function reaches ``number``, or exceeds it if ``strict``; for numbers within the limits."""
        if self is Curve.TANH:
            return Crossing(lambda digits: _logarithm((1 + number) / (1 - number), Fraction(1, 2), digits), strict)
        return Crossing(lambda digits: _logarithm(number / (1 - number), Fraction(1), digits), strict)

    def __str__(self) -> str:
        return self.value


Function = Clamp | Leak | Curve


@dataclass(frozen=True)
class Activation:
    """``function(slope * x + offset)``, as a layer or a call of the user's says it."""

    function: Function
    slope: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)


RELU = Activation(Clamp(Fraction(0)))
RELU6 = Activation(Clamp(Fraction(0), Fraction(6)))
HARD_SIGMOID = Activation(Clamp(Fraction(0), Fraction(1)), Fraction(1, 6), Fraction(1, 2))
TANH = Activation(Curve.TANH)
SIGMOID = Activation(Curve.SIGMOID)


def hard_tanh(low: float, high: float) -> Activation:
    return Activation(Clamp(Fraction(low), Fraction(high)))


def leaky_relu(slope: float) -> Activation | None:
    """None for slopes with which the function is no maximum of two lines.

    The slope is the decimal number that it prints as: 0.01 times 50 is 0.5, in floats too, and the float nearest to
    0.01 would make it more and round it up.
    """
    return Activation(Leak(Fraction(repr(float(slope))))) if 0 <= slope <= 1 else None


@dataclass(frozen=True)
class Crossing:
    """A real number between two fractions that are closer the more decimal digits are asked for, or one, exactly.

    ``strict``: it has to be exceeded. A number that no two fractions coincide for is irrational, and never met.
    """

    between: Callable[[int], tuple[Fraction, Fraction]]
    strict: bool = False

    def least(self, slope: Fraction, offset: Fraction) -> int:
        """The least integer n with ``slope * n + offset`` at or beyond the number, for positive slopes."""
        return self._settled(lambda t: (t - offset) / slope)

    def reached(self, number: Fraction) -> bool:
        """Whether ``number`` is at or beyond it."""
        return self._settled(lambda t: t - number) <= 0

    def _settled(self, place: Callable[[Fraction], Fraction]) -> int:
        """The least integer at or beyond ``place`` of the number."""
        digits = _DIGITS
        while True:
            ends = (place(end) for end in self.between(digits))
            low, high = (floor(end) + 1 if self.strict else ceil(end) for end in ends)
            if low == high:
                return low
            digits *= 2


def exactly(number: Fraction) -> Crossing:
    return Crossing(lambda _: (number, number))


@cache
def _logarithm(ratio: Fraction, factor: Fraction, digits: int) -> tuple[Fraction, Fraction]:
    """Two fractions around ``factor * ln(ratio)``. Decimal rounds division and logarithm correctly."""
    if ratio == 1:
        return Fraction(0), Fraction(0)
    context = Context(prec=digits)
    found = Fraction(context.ln(context.divide(Decimal(ratio.numerator), Decimal(ratio.denominator))))
    # Half a unit of the last digit of the quotient is as much of its logarithm; then half a unit of the result.
    error = Fraction(1, 10 ** (digits - 1)) * (1 + abs(found))
    return factor * (found - error), factor * (found + error)


def crossings(curve: Curve, fmt: FixedPoint, modes: Modes, unit: Fraction) -> tuple[int, list[Crossing]]:
    """The lowest code of ``curve / unit`` cast to ``fmt`` in saturating modes, and where each next one is reached."""
    lowest, highest = fmt.ends(modes.overflow)
    steps = np.arange(lowest + 1, highest + 1)
    strict, below, below_strict = landings(steps, modes.rounding)
    low, high = curve.limits
    found = []
    for step, exceeds in zip(steps.tolist(), strict.tolist(), strict=True):
        number = (step - Fraction(below_strict if exceeds else below, 2)) * fmt.lsb * unit
        if number <= low:
            lowest = step
        elif number < high:
            found.append(curve.crossing(number, exceeds))
    return lowest, found


def threshold(
    output: Tensor,
    x: Tensor,
    lines: Sequence[tuple[Fraction, Fraction]],
    steps: tuple[int, list[Crossing]],
    reach: Bounds,
    step: int = 1,
) -> Threshold:
    """Comparisons for ``steps``: the first code, and where each next one, ``step`` further up, is reached.

    ``lines`` are slope and offset, one pair for each channel, that make a number of a code of ``x``. Steps that nothing
    in ``reach`` passes, or everything, are left out.
    """
    first, passes = steps
    levels, starts, signs = [], [], []
    for channel, (slope, offset) in enumerate(lines):
        low, high = int(np.min(reach.low[channel])), int(np.max(reach.high[channel]))
        if slope == 0:
            codes, start, sign = [], first + step * sum(p.reached(offset) for p in passes), step
        elif slope > 0:
            codes, start, sign = [p.least(slope, offset) for p in passes], first, step
        else:  # -code >= n  <=>  not (code >= 1 - n)
            codes = [1 - p.least(-slope, offset) for p in reversed(passes)]
            start, sign = first + step * len(passes), -step
        levels.append([code for code in codes if low < code <= high])
        starts.append(start + sign * sum(code <= low for code in codes))
        signs.append(sign)
    never = reach.range[1] + 1
    count = max(1, *map(len, levels))
    table = np.array([[*row, *[never] * (count - len(row))] for row in levels], dtype=object)
    lowest = min(int(table.min()), -1 if x.format.signed else 0)
    level = Const(table, FixedPoint.covering(lowest, int(table.max()), x.format.frac))
    first_codes = Const(np.array(starts, dtype=object), output.format)
    return Threshold(output, x, level, first_codes, Const.fitting(signs, output.format.frac))
