"""Monotone step functions of an integer, and the smallest multiplier that reproduces one exactly.

Rounding ``(p * code + q) / d`` to an integer gives a staircase: step j is passed at the threshold ``t_j``, the least
code whose result is at least j. For a given shift k, ``(M * code + C) >> k`` is the same function iff for every j

    t_j M + C >= j 2**k      and      (t_j - 1) M + C <= j 2**k - 1,

two linear inequalities per step. For fixed M they leave an interval of C, whose length is concave in M; so whether a
k is feasible, and the smallest one that is, is decided exactly by bisection. The inequalities are the proof. Only the
convex hulls of the points (t_j, j) can bind, which keeps the search short for wide activations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compress.fixed import Codes, Rounding, round_ratio

#: Staircases with more steps than this are not searched.
MAX_STEPS = 1 << 17


@dataclass(frozen=True)
class Multiplier:
    """``(factor * code + offset) >> shift``."""

    factor: int
    offset: int
    shift: int

    def at_shift(self, shift: int) -> Multiplier:
        """The same function with a larger shift."""
        extra = shift - self.shift
        return Multiplier(self.factor << extra, self.offset << extra, shift)


@dataclass(frozen=True, eq=False)
class Staircase:
    """The function on codes from ``low`` to ``high``: ``first`` at ``low``, ``first + 1 + n`` from ``threshold[n]`` on.

    ``falling`` staircases are stored mirrored: their thresholds, low and high are those of ``-code``.
    ``open_below`` / ``open_above``: the function is clipped there afterwards, so going further down / up is harmless.
    """

    thresholds: Codes
    first: int
    low: int
    high: int
    falling: bool
    open_below: bool
    open_above: bool

    @property
    def last(self) -> int:
        return self.first + len(self.thresholds)

    def steps(self) -> Codes:
        return np.arange(self.first + 1, self.last + 1, dtype=object)


def staircase(
    p: int, q: int, d: int, rounding: Rounding, reach: tuple[int, int], clip: tuple[int, int] | None
) -> Staircase | None:
    """The staircase of ``round((p * code + q) / d)`` for codes in ``reach``, results clipped to ``clip``.

    None where it has more than MAX_STEPS steps.
    """
    falling = p < 0
    low, high = (-reach[1], -reach[0]) if falling else reach
    p = abs(p)
    first, last = (_rounded(p * c + q, d, rounding) for c in (low, high))
    open_below = open_above = False
    if clip is not None:
        open_below, open_above = first <= clip[0], last >= clip[1]
        first, last = (min(max(v, clip[0]), clip[1]) for v in (first, last))
    if last - first > MAX_STEPS:
        return None
    steps = np.arange(first + 1, last + 1, dtype=object)
    twice, strict = _half_units(steps, rounding)
    numerator = twice * d - 2 * q
    thresholds = (
        np.where(strict, numerator // (2 * p) + 1, -((-numerator) // (2 * p))) if p else np.zeros(0, dtype=object)
    )
    return Staircase(thresholds, first, low, high, falling, open_below, open_above)


def _rounded(numerator: int, d: int, rounding: Rounding) -> int:
    return int(round_ratio(np.array([numerator], dtype=object), d, rounding)[0])


def _half_units(steps: Codes, rounding: Rounding) -> tuple[Codes, Codes]:
    """For each step j: the value that must be reached, in half units, and whether it must be exceeded."""
    never = np.zeros(len(steps), dtype=bool)
    positive = np.asarray(steps > 0, dtype=bool)
    nearest = 2 * steps - 1
    match rounding:
        case Rounding.TRN:
            return 2 * steps, never
        case Rounding.TRN_ZERO:
            return np.where(positive, 2 * steps, 2 * steps - 2), ~positive
        case Rounding.RND:
            return nearest, never
        case Rounding.RND_MIN_INF:
            return nearest, ~never
        case Rounding.RND_ZERO:
            return nearest, positive
        case Rounding.RND_INF:
            return nearest, ~positive
        case Rounding.RND_CONV:
            return nearest, np.asarray(steps % 2 == 1, dtype=bool)


def smallest_multiplier(stairs: Staircase, max_shift: int) -> Multiplier | None:
    """The multiplier with the smallest shift that equals ``stairs`` on its whole range, or None up to ``max_shift``."""
    steps = stairs.steps()
    at_least = list(zip(stairs.thresholds, steps, strict=True))  # t M + C >= j 2**k
    below = [(t - 1, j) for t, j in at_least]  # t M + C < j 2**k
    if not stairs.open_below:
        at_least.insert(0, (stairs.low, stairs.first))
    if not stairs.open_above:
        below.append((stairs.high, stairs.last + 1))
    if not stairs.thresholds.size:  # a constant needs no multiplier
        return Multiplier(0, stairs.first, 0)
    lower, upper = _hull(at_least, sign=1), _hull(below, sign=-1)
    for shift in range(max_shift + 1):
        found = _solve(lower, upper, shift)
        if found is not None:
            factor, offset = found
            return Multiplier(-factor if stairs.falling else factor, offset, shift)
    return None


def _solve(lower: list[tuple[int, int]], upper: list[tuple[int, int]], shift: int) -> tuple[int, int] | None:
    """Integers M >= 0 and C that meet every inequality at this shift; the roundest there are."""
    unit = 1 << shift

    def least(m: int) -> int:
        return max(j * unit - t * m for t, j in lower)

    def most(m: int) -> int:
        return min(j * unit - 1 - t * m for t, j in upper)

    def slack(m: int) -> int:
        return most(m) - least(m)

    ceiling = (upper[-1][1] - lower[0][1] + 2) * unit
    best = _first(lambda m: slack(m + 1) <= slack(m), 0, ceiling)
    if slack(best) < 0:
        return None
    left = _first(lambda m: slack(m) >= 0, 0, best)
    right = _first(lambda m: slack(m) < 0, best + 1, ceiling + 1) - 1
    factor = roundest(left, right)
    return factor, roundest(least(factor), most(factor))


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The least n in [low, high) for which a monotone predicate holds, else ``high``."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def roundest(low: int, high: int) -> int:
    """The integer in [low, high] with the most trailing zero bits; the smallest magnitude among those."""
    if low <= 0 <= high:
        return 0
    if high < 0:
        return -roundest(-high, -low)
    bits = (low ^ high).bit_length()  # above these bits the two agree
    while bits:
        candidate = -(-low >> bits) << bits
        if candidate <= high:
            return candidate
        bits -= 1
    return low


def _hull(points: list[tuple[int, int]], sign: int) -> list[tuple[int, int]]:
    """The upper (sign 1) or lower (sign -1) convex hull of points sorted by their first coordinate."""
    hull: list[tuple[int, int]] = []
    for t, j in points:
        while len(hull) >= 2:
            (t0, j0), (t1, j1) = hull[-2], hull[-1]
            if sign * ((j1 - j0) * (t - t0) - (j - j0) * (t1 - t0)) > 0:
                break
            hull.pop()
        hull.append((int(t), int(j)))
    return hull
