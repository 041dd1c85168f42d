"""Softmax in integers: the one layer that is not what the float network computes, with a bound on how far from it.

    d_i = m - x_i                       m the largest x, or what no x exceeds
    e_i = exponentials[d_i]             exp(-d) rounded, by the upper bits of d
    s   = e_1 + ... + e_n               exact
    r   = reciprocals[k][s / 2**k]      1 / s, by the bits behind the leading one of s, which stands at 2**k
    y_i = cast(e_i * r)

:meth:`Softmax.error` bounds the distance from the real softmax of the same x, and derives the bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np

from compress.fixed import Codes, FixedPoint, Overflow, Rounding, as_codes
from export.intervals import Bounds
from export.ir import Const, Op, Tensor
from export.modes import Modes
from export.ops.casts import same_shape

#: How the distance from the largest number becomes the place of an entry.
TO_INDEX = Modes(Rounding.RND, Overflow.SAT)
#: How a sum becomes the place of an entry.
TO_MANTISSA = Modes(Rounding.TRN, Overflow.WRAP)

_CONTEXT = Context(prec=60)


@dataclass(frozen=True)
class Softmax(Op):
    """``y_i = exp(scale * x_i) / sum of all exp(scale * x_j)`` over the one axis of x, as the two tables have it.

    ``exponentials`` is (places,), a power of two of them, its first entry 1; ``index`` is the format of a distance as a
    place among them. ``reciprocals`` is (octaves, mantissas), ``powers`` 2**-k for the k of each octave, ascending.
    ``high`` is the m that no x exceeds, one code of x; without it m is the largest x, which is the stable way.
    """

    x: Tensor
    index: FixedPoint
    exponentials: Const
    reciprocals: Const
    powers: Const
    modes: Modes
    scale: Fraction = Fraction(1)
    high: Const | None = None

    def __post_init__(self) -> None:
        same_shape(self, self.x)
        if len(self.x.shape) != 1:
            raise self.fail(f"takes samples of one axis, got {self.x}; flatten it")
        if self.index.signed or self.exponentials.shape != (1 << self.index.width,):
            raise self.fail(
                f"{self.exponentials.shape} exponentials for places of {self.index}; give one for each place"
            )
        if len(self.reciprocals.shape) != 2 or self.reciprocals.shape[1] != 1 << self.mantissa.width:
            raise self.fail(f"reciprocals have shape {self.reciprocals.shape}; give (octaves, a power of two above 1)")
        if self.modes.overflow is not Overflow.SAT:
            raise self.fail(f"a probability of 1 must saturate, got {self.modes.overflow.value}; use SAT")
        ascending = self.powers.codes[0] >> np.arange(len(self.powers.codes))
        if (
            self.powers.shape != self.reciprocals.shape[:1]
            or (self.powers.codes != ascending).any()
            or ascending[-1] != 1
        ):
            raise self.fail(f"powers are {self.powers.codes.tolist()}; give 2**k for each octave, down to 1")
        if self.high is not None and (self.high.shape != (1,) or self.high.format != self.x.format):
            raise self.fail(f"high is {self.high}; give one code of x")
        if (
            self.sums.width + self.powers.format.width > 62
            or self.exponentials.format.width + self.reciprocals.format.width > 62
        ):
            raise self.fail("a sum or a product needs more than 62 bits; use a narrower output")

    @property
    def mantissa(self) -> FixedPoint:
        """The bits of a sum behind its leading one, once that stands at 1."""
        bits = max(1, int(self.reciprocals.shape[1]).bit_length() - 1)
        return FixedPoint(bits, bits, signed=False)

    @property
    def sums(self) -> FixedPoint:
        fmt = self.exponentials.format
        return FixedPoint.covering(0, self.x.size * fmt.max_code, fmt.frac)

    @property
    def octaves(self) -> range:
        """k of each row of reciprocals: it is for sums from 2**k up to 2**(k + 1), the first also for smaller ones."""
        last = self.powers.format.frac
        return range(last - len(self.powers.codes) + 1, last + 1)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        high = x.max(axis=1, keepdims=True) if self.high is None else self.high.codes
        places = TO_INDEX.cast(high - x, self.x.format.frac, self.index)
        e = self.exponentials.codes[places]
        total = e.sum(axis=1)
        return self.modes.cast(e * self.reciprocal(total)[:, None], self.product_frac, self.output.format)

    @property
    def product_frac(self) -> int:
        """Fraction bits of a result before its cast."""
        return self.exponentials.format.frac + self.reciprocals.format.frac

    def reciprocal(self, total: Codes) -> Codes:
        """1 / s as its table has it, for sums in codes of ``sums``."""
        found = np.zeros_like(total)
        for row, octave in zip(self.reciprocals.codes, self.octaves, strict=True):
            frac = self.sums.frac + octave
            here = row[TO_MANTISSA.cast(total, frac, self.mantissa)]
            found = np.where((total >= 2.0**frac) | (octave == self.octaves[0]), here, found)
        return found

    def bounds(self, *bounds: Bounds) -> Bounds:
        fmt = self.output.format
        top = self.modes.cast(
            as_codes([int(self.exponentials.codes.max()) * int(self.reciprocals.codes.max())]), self.product_frac, fmt
        )
        return Bounds.everywhere(self.output.shape, 0, int(top[0]))

    def verify(self, *bounds: Bounds) -> None:
        most = bounds[0].range[1]
        if self.high is not None and most > self.high.codes[0]:
            raise self.fail(f"x reaches {most}, beyond the {self.high.codes[0]} that no x should exceed; raise it")
        least = self.least_sum(bounds[0])
        if least < Fraction(2) ** self.octaves[0]:
            raise self.fail(f"sums may be as small as {float(least)}, the reciprocals begin at 2**{self.octaves[0]}")

    def least_sum(self, reach: Bounds) -> Fraction:
        """A sum that none falls below, in units of 1."""
        if self.high is None:  # the largest x adds 1
            return Fraction(1)
        farthest = as_codes([int(self.high.codes[0]) - reach.range[0]])
        (least,) = self.exponentials.codes[TO_INDEX.cast(farthest, self.x.format.frac, self.index)]
        return self.x.size * int(least) * self.exponentials.format.lsb

    def error(self, reach: Bounds) -> Fraction:
        """How far any y can be from the real softmax p of the same x.

        The place of d_i is off by at most h (times scale), so that a_i, what is looked up, is exp(-d_i) times some
        exp(t), |t| <= h, plus a rounding of at most r; beyond the last place r grows by that place's entry. With A the
        sum of a, at least the stated least sum:

        - by the factors alone, the odds of i against the rest change by exp(2 h) at most, and a probability, the
          logistic function of the log odds, by a quarter of 2 h;
        - the roundings change a_i / A by (t_i (1 - q) - q T) / A for a t_i of at most r and a T of at most (n - 1) r:
          by max(1, n - 1) r / A;
        - the reciprocal is off by a relative error that is read off its table, and a_i / A is at most 1;
        - the cast rounds, and saturates where 1 is no code: one unit at most.
        """
        low, high = reach.range
        lsb = self.exponentials.format.lsb
        farthest = (high if self.high is None else int(self.high.codes[0])) - low
        half = self.index.lsb / 2 if self.index.frac < self.x.format.frac else Fraction(0)
        rounding = lsb / 2
        last = self.scale * self.index.lsb * self.index.max_code
        if farthest * self.x.format.lsb > self.index.lsb * self.index.max_code:
            rounding += exponential(-last) + lsb
        least = self.least_sum(reach)
        by_index = self.scale * half / 2
        by_rounding = max(1, self.x.size - 1) * rounding / least
        return by_index + by_rounding + self._relative_error(least) + self.output.format.lsb

    def _relative_error(self, least: Fraction) -> Fraction:
        """The largest ``|r s - 1|`` over the sums that there can be."""
        most = self.x.size * self.exponentials.format.max_code * self.exponentials.format.lsb
        return max(
            abs(int(entry) * self.reciprocals.format.lsb * end - 1)
            for octave, row in zip(self.octaves, self.reciprocals.codes, strict=True)
            for entry, (first, end_) in zip(row, mantissas(octave, self.mantissa.width, self.sums), strict=True)
            for end in (max(first, least), min(end_, most))
            if first <= most and end_ >= least
        )


def exponential(x: Fraction) -> Fraction:
    """``exp(x)`` to 50 digits or more, for x of at most a thousand."""
    return Fraction(_CONTEXT.exp(_CONTEXT.divide(Decimal(x.numerator), Decimal(x.denominator))))


def mantissas(octave: int, bits: int, sums: FixedPoint) -> Iterator[tuple[Fraction, Fraction]]:
    """The smallest and the largest sum, both reached, of each place of an octave."""
    width = Fraction(2) ** (octave - bits)
    for place in range(1 << bits):
        first = Fraction(2) ** octave + place * width
        yield first, first + max(Fraction(0), width - sums.lsb)
