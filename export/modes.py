"""How a number is fitted into a format: rounding and overflow, and what they leave reachable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.fixed import Codes, FixedPoint, Overflow, Rounding, as_codes, cast, rescaled
from export.intervals import Bounds


@dataclass(frozen=True, slots=True)
class Modes:
    """How a number is fitted into a format: vendors' rounding and overflow."""

    rounding: Rounding = Rounding.TRN
    overflow: Overflow = Overflow.WRAP

    def cast(self, codes: Codes, frac: int, target: FixedPoint) -> Codes:
        return cast(codes, frac, target, self.rounding, self.overflow)

    def bounds(self, reach: Bounds, frac: int, target: FixedPoint) -> Bounds:
        """What a cast of everything in ``reach`` can give. Rounding and saturation keep the order of numbers."""
        low, high = self.cast(reach.low, frac, target), self.cast(reach.high, frac, target)
        if self.overflow in (Overflow.SAT, Overflow.SAT_SYM):
            return Bounds(low, high)
        rounded = Bounds(*(rescaled(v, frac, target.frac, self.rounding) for v in (reach.low, reach.high)))
        kept = (rounded.low >= target.min_code) & (rounded.high <= target.max_code) | (reach.low == reach.high)
        everywhere = Bounds.everywhere(reach.low.shape, target.min_code, target.max_code)
        return Bounds(as_codes(np.where(kept, low, everywhere.low)), as_codes(np.where(kept, high, everywhere.high)))
