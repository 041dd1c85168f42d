"""Where codes meet real numbers by a scale that is no power of two: rounded exactly on entering, exact on leaving.

The hardware sees codes alone. Both ways are computed in floating point where its error cannot matter, and in fractions
for the few numbers where it could.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compress.fixed import Codes, FixedPoint, FixedPointError, Overflow, Rounding, as_codes, cast, encode, round_ratio

#: A quotient of doubles is this close to the exact one, relatively, and then some.
_SURE = 1e-14


def encode_scaled(
    values: ArrayLike, scale: Fraction, target: FixedPoint, rounding: Rounding, overflow: Overflow
) -> Codes:
    """Real numbers as codes of ``target``, each worth ``scale`` times its value: the exact quotient, rounded once.

    Raises FixedPointError on NaN and infinity.
    """
    reals = np.asarray(values)
    exact = reals.astype(np.float64)
    if not np.isfinite(exact).all():
        encode(exact, target, rounding, overflow)  # refuses them in its own words
    unit, whole = scale * target.lsb, FixedPoint(target.width, 0, target.signed)
    with np.errstate(over="ignore", divide="ignore"):
        near = exact / float(unit)
    sure = np.abs(near) < 2.0**40  # what is larger is decided without floats, as is what is near a place of rounding
    near = np.where(sure, near, 0.0)
    sure &= np.abs(2 * near - np.rint(2 * near)) > _SURE * (1 + np.abs(near))
    codes = encode(near, whole, rounding, overflow).astype(object)
    for place in np.argwhere(~sure):
        here = tuple(place)
        quotient = Fraction(reals[here].item()) / unit
        rounded = round_ratio(np.array([quotient.numerator], dtype=object), quotient.denominator, rounding)
        codes[here] = int(cast(rounded, 0, whole, rounding, overflow)[0])
    return as_codes(codes)


@dataclass(frozen=True)
class Reading:
    """What the values of an output stand for: ``scale * value + offset`` by channel, exact rationals."""

    scale: tuple[Fraction, ...]
    offset: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.offset) or not self.scale:
            raise FixedPointError(f"{len(self.scale)} scales and {len(self.offset)} offsets; give one pair per channel")

    def numbers(self, codes: Codes, fmt: FixedPoint) -> NDArray[np.float64]:
        """For codes (batch, channels, ...) of ``fmt``, the float64 nearest to each exact number."""
        shape = (-1,) + (1,) * (codes.ndim - 2)
        factors = [scale * fmt.lsb for scale in self.scale]
        factor, offset = (_extended(values).reshape(shape) for values in (factors, self.offset))
        product = codes.astype(np.longdouble) * factor
        total = product + offset
        error = 8 * np.finfo(np.longdouble).eps * (np.abs(product) + np.abs(offset))
        low, high = (total - error).astype(np.float64), (total + error).astype(np.float64)
        for place in np.argwhere(low != high):
            here = tuple(place)
            low[here] = float(factors[here[1]] * int(codes[here]) + self.offset[here[1]])
        return low


def _extended(values: tuple[Fraction, ...] | list[Fraction]) -> NDArray[np.longdouble]:
    """To the precision of two doubles, or what of it the machine's longest float holds."""
    upper = [float(v) for v in values]
    lower = [float(v - Fraction(u)) for v, u in zip(values, upper, strict=True)]
    return np.array(upper, dtype=np.longdouble) + np.array(lower, dtype=np.longdouble)
