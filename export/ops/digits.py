"""Weights that are a sign at most: all of one size, so that a product is an addition, a subtraction or nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.fixed import FixedPoint
from export.ir import Const


@dataclass(frozen=True)
class OneDigit:
    """Weights of ``2**-frac`` and ``-2**-frac`` (binary), or of zero too (ternary)."""

    frac: int
    has_zeros: bool

    @property
    def name(self) -> str:
        """That of the C++ type."""
        return "ternary" if self.has_zeros else "binary"

    @property
    def bits(self) -> int:
        """That such a weight takes in a memory: of a binary one 0 is minus."""
        return 2 if self.has_zeros else 1

    @property
    def format(self) -> FixedPoint:
        """Of the numbers that these weights are."""
        return FixedPoint(2, self.frac)


def one_digit(weight: Const) -> OneDigit | None:
    """What the weights are if they are such; None for any others, and where all are zero."""
    sizes = np.abs(weight.codes)
    size = int(sizes.max()) if sizes.size else 0
    is_zero = sizes == 0
    if size <= 0 or size & (size - 1) or not (is_zero | (sizes == size)).all():
        return None
    digit = OneDigit(weight.format.frac - (size.bit_length() - 1), has_zeros=bool(is_zero.any()))
    return digit if digit.bits <= weight.format.width else None  # 0 or 1 is a bit already
