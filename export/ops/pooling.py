"""The ops that make one number of each window: the largest, or the sum."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from compress.fixed import MAX_WIDTH, Codes, FixedPoint, as_codes, code_width
from export.arithmetic import shifted
from export.intervals import Bounds
from export.ir import Const, Op, Tensor
from export.ops.windows import Window


@dataclass(frozen=True)
class Pool(Op):
    """``window`` over each channel of ``x``."""

    x: Tensor
    window: Window

    @property
    def interval(self) -> int:
        return prod(self.window.positions)

    def _check(self) -> None:
        if self.x.shape[1:] != self.window.size:
            raise self.fail(f"the windows are over {self.window.size}, {self.x} has other spatial axes")
        if self.output.shape != (self.x.shape[0], *self.window.positions):
            raise self.fail(f"must be {self.x.shape[0]} channels of {self.window.positions}, got {self.output}")
        if not self.window.counts.all():
            raise self.fail("a window reads nothing but padding; use less of it")


@dataclass(frozen=True)
class MaxPool(Pool):
    """The largest element of each window, in a format that holds it without a cast. Padding never wins."""

    def __post_init__(self) -> None:
        self._check()
        if not self.output.format.holds(self.x.format):
            raise self.fail(f"{self.output.format} does not hold {self.x}; widen it, or cast before")

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        largest = self.window.taken(x, self.x.format.min_code).max(axis=-1)
        return shifted(largest.reshape(len(x), *self.output.shape), self.output.format.frac - self.x.format.frac)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        low, high = self.eval(np.stack([reach.low, reach.high]))
        return Bounds(low, high)


@dataclass(frozen=True)
class SumPool(Pool):
    """The exact sum of each window times ``weight``, a positive number of each position, or one for all.

    Padding reads zero. An average is such a sum: a power of two among the divisors is a place of the binary point of
    the weights, and where windows differ in how many elements they read, weights bring them to a common divisor.
    """

    weight: Const

    def __post_init__(self) -> None:
        self._check()
        if self.weight.shape not in ((1,), (self.window.counts.size,)):
            raise self.fail(f"{self.window.counts.size} positions have weights of shape {self.weight.shape}")
        if np.any(self.weight.codes < 1):
            raise self.fail("weights must be positive")
        if self.output.format.frac != self.exact_frac:
            raise self.fail(f"the exact sum has {self.exact_frac} fraction bits, got {self.output}")
        if (width := self.sum_format.width + self.weight.format.width) > MAX_WIDTH:
            raise self.fail(f"a weighted sum needs {width} bits, the limit is {MAX_WIDTH}; narrow what enters")

    @property
    def exact_frac(self) -> int:
        return self.x.format.frac + self.weight.format.frac

    @property
    def sum_format(self) -> FixedPoint:
        """Holds the sum of every window, and of any part of one, before it is weighted."""
        fmt, most = self.x.format, int(self.window.counts.max())
        if (width := code_width(most * fmt.min_code, most * fmt.max_code)) > MAX_WIDTH:
            raise self.fail(f"sums of {most} elements need {width} bits, the limit is {MAX_WIDTH}; narrow what enters")
        return FixedPoint.covering(most * fmt.min_code, most * fmt.max_code, fmt.frac)

    def accumulator(self, reach: Bounds) -> FixedPoint:
        """The narrowest format that holds every result."""
        return self.bounds(reach).format(self.exact_frac)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        wide = self.sum_format.width + self.weight.format.width > 62
        sums = self.window.taken(x.astype(object) if wide else x).sum(axis=-1)
        return as_codes((sums * self.weight.codes).reshape(len(x), *self.output.shape))

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        low, high = self.eval(np.stack([reach.low, reach.high]))
        return Bounds(low, high)
