"""The number format every room of the house agrees on.

A tensor is stored as integer *codes*; a :class:`FixedPoint` says what they mean: ``value = code * 2**-frac``.
A *cast* moves codes from one format to another under a :class:`Rounding` and an :class:`Overflow` mode, with
the names and the semantics of the vendors' ``ap_fixed`` and ``ac_fixed`` types. This module is the reference
that the C++ library is tested against; it depends on numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_WIDTH = 64

#: Integer codes: ``int64`` where every code fits, Python integers (dtype ``object``) where it might not.
Codes = NDArray[Any]

# Below this magnitude an int64 survives one addition of a like number, so no intermediate result can wrap.
_INT64_SAFE = 1 << 62


class Rounding(Enum):
    """What happens to the fraction bits that a cast drops (vendors' names and meanings)."""

    TRN = "TRN"  # towards minus infinity: the bits are cut off
    TRN_ZERO = "TRN_ZERO"  # towards zero
    RND = "RND"  # to nearest, ties towards plus infinity
    RND_ZERO = "RND_ZERO"  # to nearest, ties towards zero
    RND_INF = "RND_INF"  # to nearest, ties away from zero
    RND_MIN_INF = "RND_MIN_INF"  # to nearest, ties towards minus infinity
    RND_CONV = "RND_CONV"  # to nearest, ties to even: what numpy, torch and Brevitas do


class Overflow(Enum):
    """What happens to a value outside the target's range (vendors' names and meanings)."""

    WRAP = "WRAP"  # the upper bits are cut off
    SAT = "SAT"  # to the nearest end of the range
    SAT_ZERO = "SAT_ZERO"  # to zero
    SAT_SYM = "SAT_SYM"  # to the nearest end of the range made symmetric: -2**(W-1) never occurs


class FixedPointError(ValueError):
    """A number format that cannot be, or a value that no format of ours can hold."""


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """``value = code * 2**-frac`` with ``code`` an integer of ``width`` bits.

    ``frac`` may be negative or larger than ``width``. Equals ``ap_fixed<width, width - frac>``
    (``ap_ufixed`` if unsigned) and ``ac_fixed<width, width - frac, signed>``.
    """

    width: int
    frac: int
    signed: bool = True

    def __post_init__(self) -> None:
        # A numpy integer would wrap in the shifts below, and reads differently in a digest.
        object.__setattr__(self, "width", index(self.width))
        object.__setattr__(self, "frac", index(self.frac))
        object.__setattr__(self, "signed", bool(self.signed))
        if not 1 <= self.width <= MAX_WIDTH:
            raise FixedPointError(f"a fixed-point width must lie between 1 and {MAX_WIDTH} bits, got {self.width}")

    @classmethod
    def of(cls, width: int, integer: int, signed: bool = True) -> FixedPoint:
        """The format the vendors write ``ap_fixed<width, integer>``."""
        return cls(width, width - integer, signed)

    @classmethod
    def covering(cls, low: int, high: int, frac: int) -> FixedPoint:
        """The narrowest format with ``frac`` fraction bits that holds every code from ``low`` to ``high``."""
        if low > high:
            raise FixedPointError(f"an empty range of codes: [{low}, {high}]")
        return cls(code_width(low, high), frac, low < 0)

    @property
    def integer(self) -> int:
        """Bits before the binary point, the sign bit included (the vendors' ``I``)."""
        return self.width - self.frac

    @property
    def min_code(self) -> int:
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def max_code(self) -> int:
        return (1 << (self.width - self.signed)) - 1

    def ends(self, overflow: Overflow) -> tuple[int, int]:
        """The lowest and the highest code that a cast in this mode gives."""
        # A signed bit has no symmetric range; the vendors leave it {-1, 0}.
        symmetric = overflow is Overflow.SAT_SYM and self.signed and self.width > 1
        return -self.max_code if symmetric else self.min_code, self.max_code

    @property
    def lsb(self) -> Fraction:
        """The value of one unit of the last place."""
        return Fraction(2) ** -self.frac

    def holds(self, other: FixedPoint) -> bool:
        """Whether every value of ``other`` is a value of this format, so that a cast changes nothing."""
        shift = self.frac - other.frac
        return (
            shift >= 0 and other.min_code << shift >= self.min_code and other.max_code << shift <= self.max_code
        )

    def values(self, codes: ArrayLike) -> NDArray[np.float64]:
        """The values of ``codes`` as float64. Raises where float64 cannot hold every code of this format."""
        if self.width - self.signed > 53 or self.frac > 1074 or self.integer - self.signed > 1023:
            raise FixedPointError(f"float64 cannot hold every value of {self}; work on the codes instead")
        return np.ldexp(np.asarray(codes).astype(np.float64), -self.frac)

    def __str__(self) -> str:
        return f"{'' if self.signed else 'u'}fixed<{self.width},{self.integer}>"


def code_width(low: int, high: int) -> int:
    """Bits, the sign's included where ``low`` is negative, that hold every code from ``low`` to ``high``."""
    signed = low < 0
    return max(1, max(high, -low - 1 if signed else 0).bit_length() + signed)


def as_codes(values: ArrayLike) -> Codes:
    """Integers of any size as codes: int64 where they all fit, else Python integers."""
    array = np.asarray(values)
    if array.dtype == object or array.dtype == np.uint64:
        exact = array.astype(object)
        try:
            fits = all(-(1 << 63) <= index(v) < 1 << 63 for v in exact.flat)
        except TypeError as error:
            raise FixedPointError(f"codes must be integers: {error}") from None
        return exact.astype(np.int64) if fits else exact
    if array.dtype.kind not in "iub":
        raise FixedPointError(f"codes must be integers, got an array of {array.dtype}")
    return array.astype(np.int64)


def cast(codes: ArrayLike, frac: int, target: FixedPoint, rounding: Rounding, overflow: Overflow) -> Codes:
    """Codes with ``frac`` fraction bits, any width, as codes of ``target``. Exact for integers of any size."""
    return _overflow(rescaled(codes, frac, target.frac, rounding), target, overflow)


def rescaled(codes: ArrayLike, frac: int, to_frac: int, rounding: Rounding) -> Codes:
    """Codes with ``frac`` fraction bits rounded to ``to_frac``, in no format yet. Exact for integers of any size."""
    exact = np.atleast_1d(as_codes(codes))  # numpy turns an object array without axes into its element
    shift = frac - to_frac
    if shift > 0:
        if shift > 62:
            exact = exact.astype(object)
        quotient = exact >> shift
        rest = exact - (quotient << shift)
        half = 1 << (shift - 1)
        exact = quotient + _carry(quotient, rest, half, exact < 0, rounding)
    elif shift < 0:
        if magnitude(exact) >> max(0, 62 + shift):
            exact = exact.astype(object)
        exact = exact << -shift
    return exact.reshape(np.shape(codes))


def round_ratio(numerator: Codes, denominator: Codes | int, rounding: Rounding) -> Codes:
    """``numerator / denominator`` rounded to integers, for positive denominators. Exact for integers of any size."""
    numerator = numerator.astype(object)
    quotient = numerator // denominator
    twice_rest = 2 * (numerator - quotient * denominator)
    return quotient + _carry(quotient, twice_rest, denominator, numerator < 0, rounding)


def encode(
    values: ArrayLike,
    target: FixedPoint,
    rounding: Rounding = Rounding.RND_CONV,
    overflow: Overflow = Overflow.SAT,
) -> Codes:
    """Real numbers as codes of ``target``, without any error but the stated rounding. Raises on NaN and infinity."""
    given = np.asarray(values)
    if given.dtype.kind in "iub":  # beyond 2**53 a float64 would round first
        return cast(given, 0, target, rounding, overflow)
    reals = given.astype(np.float64)
    if not np.isfinite(reals).all():
        bad = int(np.count_nonzero(~np.isfinite(reals)))
        raise FixedPointError(f"{bad} of {reals.size} values are NaN or infinite; only finite numbers have a code")
    with np.errstate(over="ignore"):  # refused below
        scaled = np.ldexp(reals, target.frac)
    if not np.isfinite(scaled).all() or (scaled == 0).sum() != (reals == 0).sum():
        raise FixedPointError(f"float64 cannot scale these values by 2**{target.frac} exactly")
    floor = np.floor(scaled)
    whole = floor.astype(np.int64) if np.all(np.abs(floor) < _INT64_SAFE) else _integers(floor)
    # Counted from the integer nearer to zero, the rest below a number is exact; ``scaled - floor`` would be rounded.
    rest = np.modf(scaled)[0]
    carry = _carry(whole, rest, np.where(rest < 0, -0.5, 0.5), scaled < 0, rounding)
    return _overflow(whole + carry, target, overflow)


def _carry(quotient: Codes, rest: Any, half: Any, negative: Any, rounding: Rounding) -> Codes:
    """1 where the floor ``quotient`` must go up, given the ``rest`` above it and half a unit in its terms."""
    above, tie = rest > half, rest == half
    match rounding:
        case Rounding.TRN:
            up = np.zeros_like(above)
        case Rounding.TRN_ZERO:
            up = (rest != 0) & negative
        case Rounding.RND:
            up = above | tie
        case Rounding.RND_ZERO:
            up = above | (tie & negative)
        case Rounding.RND_INF:
            up = above | (tie & ~np.asarray(negative, dtype=bool))
        case Rounding.RND_MIN_INF:
            up = above
        case Rounding.RND_CONV:
            up = above | (tie & ((quotient & 1) == 1))
    return np.asarray(up, dtype=bool).astype(np.int64)


def _overflow(exact: Codes, target: FixedPoint, overflow: Overflow) -> Codes:
    low, high = target.ends(overflow)
    shape, exact = np.shape(exact), np.atleast_1d(exact)
    match overflow:
        case Overflow.WRAP:
            if target.width > 62:
                exact = exact.astype(object)
            wrapped = exact & ((1 << target.width) - 1)
            exact = np.where(wrapped > high, wrapped - (1 << target.width), wrapped) if target.signed else wrapped
        case Overflow.SAT | Overflow.SAT_SYM:
            exact = _clip(exact, low, high)
        case Overflow.SAT_ZERO:
            exact = np.where((exact < low) | (exact > high), 0, exact)
    return as_codes(exact).reshape(shape)


def _clip(exact: Codes, low: int, high: int) -> Codes:
    if high >= 1 << 63:
        exact = exact.astype(object)
    return np.minimum(np.maximum(exact, low), high)


def magnitude(exact: Codes) -> int:
    """The largest absolute code; 0 if there is none."""
    return max(abs(int(exact.min())), abs(int(exact.max()))) if exact.size else 0


def _integers(whole: NDArray[np.float64]) -> Codes:
    """Whole float64 numbers as Python integers."""
    return np.array([int(v) for v in whole.flat], dtype=object).reshape(whole.shape)
