"""Monotone step functions of an integer, and the smallest multiplier that reproduces one exactly.

Rounding ``(p * code + q) / d`` to an integer gives a staircase: step j is passed at the threshold ``t_j``, the least
code whose result is at least j. For a given shift k, ``(M * code + C) >> k`` is the same function iff for every j

    t_j M + C >= j 2**k      and      (t_j - 1) M + C <= j 2**k - 1,

two linear inequalities per step. For fixed M they leave an interval of C, whose length is concave in M, and what is
exact at one k is so at the next; so whether a k is feasible, and the smallest one that is, is decided exactly by
bisection. The inequalities are the proof. Only the convex hulls of the points (t_j, j) can bind, and those are short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compress.fixed import Codes, Rounding, round_ratio
from export.arithmetic import magnitude

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
        return _integers(self.first + 1, self.last + 1)


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
    thresholds = _thresholds(p, q, d, rounding, _integers(first + 1, last + 1)) if p else np.zeros(0, dtype=np.int64)
    return Staircase(thresholds, first, low, high, falling, open_below, open_above)


def _rounded(numerator: int, d: int, rounding: Rounding) -> int:
    return int(round_ratio(np.array([numerator], dtype=object), d, rounding)[0])


def _integers(start: int, stop: int) -> Codes:
    fits = max(abs(start), abs(stop)) < 1 << 62
    return np.arange(start, stop, dtype=np.int64 if fits else object)


def _thresholds(p: int, q: int, d: int, rounding: Rounding, steps: Codes) -> Codes:
    """For each step j the least code with ``round((p * code + q) / d) >= j``; p, d positive, ``steps`` consecutive."""
    strict, below, below_strict = landings(steps, rounding)
    # (p code + q) / d >= j - below / 2, or > where strict, and code * a >= b is code > (b - 1) / a.
    either = [
        _floor_line(2 * d, -behind * d - 2 * q - (not exceeded), 2 * p, steps)
        for exceeded, behind in ((False, below), (True, below_strict))
    ]
    return np.where(strict, either[1], either[0]) + 1


def landings(steps: Codes, rounding: Rounding) -> tuple[Codes, int, int]:
    """Where each step j is passed: half units below j, and which steps must be exceeded, not only reached.

    The two numbers are those of steps to reach and of steps to exceed.
    """
    never = np.zeros(len(steps), dtype=bool)
    positive = np.asarray(steps > 0, dtype=bool)
    match rounding:
        case Rounding.TRN:
            return never, 0, 0
        case Rounding.TRN_ZERO:
            return ~positive, 0, 2
        case Rounding.RND:
            return never, 1, 1
        case Rounding.RND_MIN_INF:
            return ~never, 1, 1
        case Rounding.RND_ZERO:
            return positive, 1, 1
        case Rounding.RND_INF:
            return ~positive, 1, 1
        case Rounding.RND_CONV:
            return np.asarray(steps % 2 == 1, dtype=bool), 1, 1


def _floor_line(a: int, b: int, c: int, n: Codes) -> Codes:
    """``floor((a * n + b) / c)`` for consecutive integers n and coefficients of any size, c > 0.

    In int64, from a truncated quotient whose error is known; the few n where that could matter are done in full.
    """
    if not n.size:
        return n
    b, n = b + a * int(n[0]), n - n[0]
    (whole, a), (start, b) = divmod(a, c), divmod(b, c)
    if abs(start) + abs(whole) * len(n) >= 1 << 61:
        return np.asarray((whole * c + a) * n.astype(object) + start * c + b) // c
    n = n.astype(np.int64)
    bits = 62 - len(n).bit_length()
    under = ((a << bits) // c) * n + (b << bits) // c  # at most n + 1 too small
    fraction = under >> bits
    for i in np.flatnonzero((under + n + 1) >> bits != fraction).tolist():
        fraction[i] = (a * i + b) // c
    return whole * n + start + fraction


def smallest_multiplier(stairs: Staircase, max_shift: int) -> Multiplier | None:
    """The multiplier with the smallest shift that equals ``stairs`` on its whole range, or None up to ``max_shift``."""
    if not stairs.thresholds.size:  # a constant needs no multiplier
        return Multiplier(0, stairs.first, 0)
    steps, thresholds = stairs.steps(), stairs.thresholds
    lower = _hull(thresholds, steps, sign=1)  # t M + C >= j 2**k
    upper = _hull(thresholds - 1, steps, sign=-1)  # t M + C < j 2**k
    if not stairs.open_below:
        lower.insert(0, (stairs.low, stairs.first))
    if not stairs.open_above:
        upper.append((stairs.high, stairs.last + 1))
    slack = _Slack(lower, upper)
    finest = slack.roomiest(max_shift)
    if slack(finest, max_shift) < 0:
        return None

    def feasible(shift: int) -> int | None:
        """A factor that is exact at this shift: concavity leaves only the neighbours of the roomiest one."""
        coarser = max_shift - shift
        near = range(max(0, (finest - 1) >> coarser), ((finest + 1) >> coarser) + 2)
        return next((m for m in near if slack(m, shift) >= 0), None)

    shift = _first(lambda k: feasible(k) is not None, 0, max_shift)
    inside = feasible(shift)
    assert inside is not None
    left = _first(lambda m: slack(m, shift) >= 0, 0, inside)
    right = _first(lambda m: slack(m, shift) < 0, inside + 1, slack.ceiling(shift) + 1) - 1
    factor = roundest(left, right)
    offset = roundest(slack.least(factor, shift), slack.most(factor, shift))
    return Multiplier(-factor if stairs.falling else factor, offset, shift)


@dataclass(frozen=True)
class _Slack:
    """How many offsets less one each factor M >= 0 leaves at a shift: concave in the factor, negative where none."""

    lower: list[tuple[int, int]]
    upper: list[tuple[int, int]]

    def __call__(self, factor: int, shift: int) -> int:
        return self.most(factor, shift) - self.least(factor, shift)

    def least(self, factor: int, shift: int) -> int:
        return max((j << shift) - t * factor for t, j in self.lower)

    def most(self, factor: int, shift: int) -> int:
        return min((j << shift) - 1 - t * factor for t, j in self.upper)

    def ceiling(self, shift: int) -> int:
        """A factor that climbs every step in one code; more is never needed."""
        return (self.upper[-1][1] - self.lower[0][1] + 2) << shift

    def roomiest(self, shift: int) -> int:
        return _first(lambda m: self(m + 1, shift) <= self(m, shift), 0, self.ceiling(shift))


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


def _hull(t: Codes, j: Codes, sign: int) -> list[tuple[int, int]]:
    """The upper (sign 1) or lower (sign -1) convex hull of points (t, j), both ascending.

    A point that is not beyond the line through its neighbours is no corner, whatever else is left out with it.
    """
    if magnitude(t) >= 1 << 60 or (int(t[-1]) - int(t[0])) * len(j) >= 1 << 61:
        t, j = t.astype(object), j.astype(object)
    while True:
        right, up = np.diff(t), np.diff(j)
        corner = np.ones(len(t), dtype=bool)
        corner[1:-1] = sign * (up[:-1] * right[1:] - up[1:] * right[:-1]) > 0
        if corner.all():
            return [(int(a), int(b)) for a, b in zip(t, j, strict=True)]
        t, j = t[corner], j[corner]
