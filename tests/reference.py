"""What the number formats and the ops mean, one number at a time in exact fractions and nothing clever."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np

from compress.fixed import FixedPoint, Overflow, Rounding

MODES = [(r, o) for r in Rounding for o in Overflow]


def rounded(x: Fraction, rounding: Rounding) -> int:
    down, up = floor(x), ceil(x)
    if down == up:
        return down
    if rounding is Rounding.TRN:
        return down
    if rounding is Rounding.TRN_ZERO:
        return down if x > 0 else up
    if x - down != up - x:
        return down if x - down < up - x else up
    return {
        Rounding.RND: up,
        Rounding.RND_MIN_INF: down,
        Rounding.RND_ZERO: min(down, up, key=abs),
        Rounding.RND_INF: max(down, up, key=abs),
        Rounding.RND_CONV: down if down % 2 == 0 else up,
    }[rounding]


def limited(code: int, fmt: FixedPoint, overflow: Overflow) -> int:
    count = 2**fmt.width
    low = -count // 2 if fmt.signed else 0
    high = low + count - 1
    if overflow is Overflow.WRAP:
        return (code - low) % count + low
    if overflow is Overflow.SAT_SYM and low < -high < 0:
        low = -high
    if low <= code <= high:
        return code
    return 0 if overflow is Overflow.SAT_ZERO else low if code < low else high


def cast(x: Fraction, fmt: FixedPoint, rounding: Rounding, overflow: Overflow) -> int:
    return limited(rounded(x * Fraction(2) ** fmt.frac, rounding), fmt, overflow)


def value(code: int, fmt: FixedPoint) -> Fraction:
    return int(code) * Fraction(1, 2) ** fmt.frac


def values(codes: np.ndarray, fmt: FixedPoint) -> np.ndarray:
    """Codes as an object array of fractions."""
    return np.array([value(c, fmt) for c in codes.flat], dtype=object).reshape(codes.shape)


def casts(xs: np.ndarray, fmt: FixedPoint, rounding: Rounding, overflow: Overflow) -> np.ndarray:
    """Fractions as an object array of codes."""
    return np.array([cast(x, fmt, rounding, overflow) for x in xs.flat], dtype=object).reshape(xs.shape)


def every_code(fmt: FixedPoint) -> np.ndarray:
    return np.arange(fmt.min_code, fmt.max_code + 1)


def check_bounds(op, *reaches) -> None:
    """``op`` on all combinations of a few codes in each reach: never outside its bounds."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        codes = [np.where(rng.random(r.low.shape) < 0.5, r.low, r.high)[None] for r in reaches]
        between = [rng.integers(r.low.astype(np.int64), r.high.astype(np.int64), endpoint=True)[None] for r in reaches]
        bounds = op.bounds(*reaches)
        for batch in (codes, between):
            y = op.eval(*batch)
            assert (y >= bounds.low).all() and (y <= bounds.high).all()
