"""A curve before a quantizer as a function of integers: the codes at which its result changes, each of them proved.

Between two turning points the curve rises or falls, and so does its quantized result. A run of codes with one result
is then known by its ends, and a change of the result by the two codes around it: these are computed, to as many digits
as decide the rounding. Floating point only guesses where to look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from math import ceil, floor

import numpy as np

from compress.fixed import FixedPoint, round_ratio
from export.frontends.curves import Curve
from export.ir import Const, Tensor
from export.modes import Modes
from export.ops import Threshold
from export.ops.lookup import Table

_DIGITS = 20


@dataclass(frozen=True)
class Quantized:
    """A curve and the cast behind it, in saturating modes: its value at a number, in units of ``unit``, as a code.

    The value is the real one, or where float64 settles for the curve's line, that: a number may lie on a tie itself,
    and the model then rounds it to even, though the real SiLU of it is a hair less.
    """

    curve: Curve
    target: FixedPoint
    modes: Modes
    unit: Fraction = Fraction(1)

    def code(self, number: Fraction) -> int:
        digits, step = _DIGITS, self.unit * self.target.lsb
        if (line := self.curve.settled(number)) is not None:
            return self._cast(line / step)
        while True:
            low, high = (end / step for end in self.curve.between(number, digits))
            if low == high:
                return self._cast(low)
            # Halves are where a rounding can change: of what lies next to an end, inside, nothing but the side matters.
            inside = (low + Fraction(floor(2 * low) + 1, 2)) / 2, (high + Fraction(ceil(2 * high) - 1, 2)) / 2
            first, last = map(self._cast, inside)
            if first == last:
                return first
            digits *= 2

    def guess(self, number: float) -> int:
        low, high = self.target.ends(self.modes.overflow)
        return min(max(round(self.curve.near(number) / float(self.unit * self.target.lsb)), low), high)

    def _cast(self, scaled: Fraction) -> int:
        whole = round_ratio(np.array([scaled.numerator], dtype=object), scaled.denominator, self.modes.rounding)
        low, high = self.target.ends(self.modes.overflow)
        return min(max(int(whole[0]), low), high)


@dataclass(frozen=True)
class Stairs:
    """``first`` from the code ``low`` on, then each of ``results`` from its one of ``levels`` on, up to ``high``."""

    low: int
    high: int
    first: int
    levels: tuple[int, ...]
    results: tuple[int, ...]

    def listed(self, low: int, high: int) -> list[int]:
        """The result at every code from ``low`` to ``high``; beyond the own ends, that at the end."""
        edges = [low, *self.levels, high + 1]
        runs = zip((self.first, *self.results), edges, edges[1:], strict=False)
        return [result for result, start, stop in runs for _ in range(start, stop)]


@lru_cache(maxsize=1 << 12)  # channels are often alike
def stairs(function: Quantized, slope: Fraction, offset: Fraction, low: int, high: int) -> Stairs:
    """The results at ``slope * code + offset`` for the codes from ``low`` to ``high``."""
    at = cache(lambda code: function.code(slope * code + offset))
    near, shift = float(slope), float(offset)
    levels: list[int] = []
    results = [at(low)]
    for start, stop in _pieces(function.curve, slope, offset, low, high):
        for code in (start, *_changes(at, lambda code: function.guess(near * code + shift), start, stop)):
            if at(code) != results[-1]:
                levels.append(code)
                results.append(at(code))
    return Stairs(low, high, results[0], tuple(levels), tuple(results[1:]))


def _changes(at: Callable[[int], int], guess: Callable[[int], int], start: int, stop: int) -> Iterator[int]:
    """The codes from ``start`` to ``stop`` with another result than the one before, where ``at`` rises or falls."""
    sign = 1 if at(stop) >= at(start) else -1

    def rising(code: int) -> int:
        return sign * at(code)

    here = start
    while at(here) != at(stop):
        hint = _least_beyond(lambda code: sign * guess(code), rising(here), here + 1, stop)
        here = _least_near(rising, rising(here), here + 1, stop, hint)
        yield here


def _pieces(curve: Curve, slope: Fraction, offset: Fraction, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Runs of codes, in order, on each of which the curve only rises or only falls."""
    if slope == 0:
        yield low, low
        return
    if curve.turn is None:
        yield low, high
        return
    before, behind = sorted((end - offset) / slope for end in curve.turn)
    last, first = min(floor(before), high), max(ceil(behind), low)
    if low <= last:
        yield low, last
    for code in range(max(last + 1, low), min(first, high + 1)):  # between the two: nothing is known of those
        yield code, code
    if first <= high:
        yield first, high


def _least_beyond(rising: Callable[[int], int], mark: int, low: int, high: int) -> int:
    """The least code in [low, high] with more than ``mark``, or ``high``."""
    while low < high:
        middle = (low + high) // 2
        if rising(middle) > mark:
            high = middle
        else:
            low = middle + 1
    return low


def _least_near(rising: Callable[[int], int], mark: int, low: int, high: int, hint: int) -> int:
    """The same, looking around ``hint`` first; ``high`` has more than ``mark``."""
    reach = 1
    while rising(hint) <= mark:
        low, hint, reach = hint + 1, min(hint + reach, high), 2 * reach
    high, reach = hint, 1
    while high > low and rising(below := max(high - reach, low)) > mark:
        high, reach = below, 2 * reach
    return _least_beyond(rising, mark, max(low, high - reach), high)


def compared(output: Tensor, x: Tensor, channels: Sequence[Stairs]) -> Threshold:
    """A comparison for every change of a result; up or down by as much as it changes."""
    count = max(1, *(len(s.levels) for s in channels))
    never = max(s.high for s in channels) + 1
    level = np.full((len(channels), count), never, dtype=object)
    step = np.zeros((len(channels), count), dtype=object)
    for row, s in enumerate(channels):
        level[row, : len(s.levels)] = s.levels
        step[row, : len(s.levels)] = np.diff(np.array([s.first, *s.results], dtype=object))
    lowest = min(int(level.min()), -1 if x.format.signed else 0)
    levels = Const(level, FixedPoint.covering(lowest, int(level.max()), x.format.frac))
    start = Const(np.array([s.first for s in channels], dtype=object), output.format)
    used = [steps[:n] for steps, n in zip(step.tolist(), (len(s.levels) for s in channels), strict=True)]
    if all(
        len(set(steps)) <= 1 for steps in used
    ):  # the same all the way, as where nothing turns and no step is missed
        step = np.array([steps[0] if steps else 0 for steps in used], dtype=object)
    return Threshold(output, x, levels, start, Const.fitting(step, output.format.frac))


def tabulated(output: Tensor, x: Tensor, channels: Sequence[Stairs]) -> Table:
    """A result for every code, one list for all channels if they agree."""
    low, high = min(s.low for s in channels), max(s.high for s in channels)
    rows = [tuple(s.listed(low, high)) for s in channels]
    kept = rows[:1] if len(set(rows)) == 1 else rows
    return Table(output, x, low, Const(np.array(kept, dtype=object), output.format))
