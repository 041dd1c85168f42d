"""The op that multiplies signs: fully connected layers of one-bit inputs and one-bit weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.fixed import MAX_WIDTH, Codes, FixedPoint, as_codes, code_width
from export.arithmetic import exact_matmul, roomy, shifted
from export.intervals import Bounds
from export.ir import Const, Op, Tensor

#: A sign: bit 0 is -1, bit 1 is +1.
SIGN = FixedPoint(1, 0, signed=False)


@dataclass(frozen=True)
class BinaryDense(Op):
    """``y = offset + 2**-frac * #{i: x_i == weight_i}``, exactly, for signs x and weights stored as bits.

    A product of two signs is +1 where they agree, else -1; so this is a sum of products, each worth half of
    ``2**-frac``, whose offset is the bias less what all of them would make if none agreed. ``weight`` is (outputs,
    inputs).
    """

    x: Tensor
    weight: Const
    offset: Const
    frac: int

    def __post_init__(self) -> None:
        if self.x.format != SIGN or self.weight.format != SIGN:
            raise self.fail(f"x is {self.x.format}, the weights are {self.weight.format}; both are signs, {SIGN}")
        if self.x.shape != self.weight.shape[1:] or self.output.shape != self.weight.shape[:1]:
            raise self.fail(
                f"weights of shape {self.weight.shape} for {self.x} and {self.output}; give (outputs, inputs)"
            )
        if self.offset.shape != self.output.shape:
            raise self.fail(f"{self.output.shape[0]} outputs, but offsets of shape {self.offset.shape}")
        if self.output.format.frac < max(self.frac, self.offset.format.frac):
            raise self.fail(
                f"the sum has {max(self.frac, self.offset.format.frac)} fraction bits, the output has "
                f"{self.output.format.frac}; give it as many"
            )
        if self.count.integer > MAX_WIDTH or self.count.frac > MAX_WIDTH:
            raise self.fail(f"counts are {self.count}, which is beyond {MAX_WIDTH} bits; use scales closer to 1")

    @property
    def count(self) -> FixedPoint:
        """The format of what the agreements add."""
        return FixedPoint(code_width(0, self.x.size), self.frac, signed=False)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        agreements = exact_matmul(x, self.weight.codes) + exact_matmul(1 - x, 1 - self.weight.codes)
        return self._made(agreements)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        bits = self.weight.codes
        free = (reach.low != reach.high).sum()
        fixed = ((reach.low == reach.high) & (reach.low == bits)).sum(axis=1)
        low, high = (self._made(np.asarray(agreements)[None, :])[0] for agreements in (fixed, fixed + free))
        return Bounds(low, high)

    def _made(self, agreements: Codes) -> Codes:
        fmt = self.output.format
        offset = shifted(self.offset.codes, fmt.frac - self.offset.format.frac)
        return as_codes(roomy(shifted(agreements, fmt.frac - self.frac), fmt) + offset)
