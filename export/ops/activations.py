"""Functions of one element that are cut out of the number line: rectified, clipped, or in steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compress.fixed import Codes, FixedPoint, as_codes
from export.intervals import Bounds, spanned
from export.ir import Const, Op, Tensor
from export.ops.casts import along_channels, per_channel, same_shape


@dataclass(frozen=True)
class ReLU(Op):
    """``y = max(0, x)``, in a format with the same fraction bits that holds it."""

    x: Tensor

    def __post_init__(self) -> None:
        same_shape(self, self.x)
        have, need = self.output.format, self.x.format
        if have.frac != need.frac or have.max_code < need.max_code:
            raise self.fail(f"{have} does not hold max(0, x) of {need}; use {self.positive(need)}")

    @staticmethod
    def positive(fmt: FixedPoint) -> FixedPoint:
        """The unsigned format of the non-negative values of ``fmt``."""
        return FixedPoint.covering(0, fmt.max_code, fmt.frac)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        return np.maximum(x, 0)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        return Bounds(np.maximum(reach.low, 0), np.maximum(reach.high, 0))


@dataclass(frozen=True)
class Clip(Op):
    """``y = min(max(x, low), high)`` per channel, in x's own format or another that holds it with the same point."""

    x: Tensor
    low: Const
    high: Const

    def __post_init__(self) -> None:
        same_shape(self, self.x)
        per_channel(self, low=self.low.shape, high=self.high.shape)
        for what, const in (("low", self.low), ("high", self.high)):
            if const.format != self.x.format:
                raise self.fail(f"{what} is {const.format}, x is {self.x.format}; give it as codes of x")
        if np.any(self.low.codes > self.high.codes):
            raise self.fail("low exceeds high in some channel")
        if self.output.format.frac != self.x.format.frac:
            raise self.fail(f"{self.output.format} and {self.x.format} have different fraction bits; cast instead")

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        low, high = (along_channels(c.codes, self.x.shape) for c in (self.low, self.high))
        return as_codes(np.minimum(np.maximum(x, low), high))

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        low, high = self.eval(np.stack([reach.low, reach.high]))
        return Bounds(low, high)


@dataclass(frozen=True)
class Threshold(Op):
    """``y = start + sum of step[k] over every k with x >= level[k]`` per channel: any step function, exactly.

    ``level`` is (channels, steps), with the fraction bits and the sign of x; ``start`` and ``step`` are output codes.
    ``step`` is (channels,), the same at every level, or (channels, steps).
    """

    x: Tensor
    level: Const
    start: Const
    step: Const

    def __post_init__(self) -> None:
        same_shape(self, self.x)
        per_channel(self, level=self.level.shape[:1], start=self.start.shape, step=self.step.shape[:1])
        if len(self.step.shape) > 1 and self.step.shape != self.level.shape:
            raise self.fail(f"steps of shape {self.step.shape} for levels of shape {self.level.shape}; give one each")
        if self.level.format.frac != self.x.format.frac:
            raise self.fail(f"levels have {self.level.format.frac} fraction bits, x has {self.x.format.frac}")
        if self.level.format.signed != self.x.format.signed:  # ap_fixed compares those wrongly beyond 16 bits
            raise self.fail(f"levels are {self.level.format}, x is {self.x.format}; make both signed or both unsigned")
        if np.any(np.diff(self.level.codes, axis=1) < 0):
            raise self.fail("levels must ascend within a channel")

    @cached_property
    def _results(self) -> Codes:
        """What a channel gives once the first k levels are passed: (channels, steps + 1)."""
        steps = np.broadcast_to(self.step.codes.reshape(len(self.level.codes), -1), self.level.shape)
        return np.cumsum(np.concatenate([self.start.codes[:, None], steps], axis=1), axis=1)

    def passed(self, x: Codes) -> Codes:
        """How many levels each of the codes (batch, \\*shape) passes."""
        counts = np.empty(x.shape, dtype=np.int64)
        for channel, levels in enumerate(self.level.codes):
            mine = x[:, channel]
            counts[:, channel] = np.searchsorted(levels, mine.ravel(), side="right").reshape(mine.shape)
        return counts

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        channel = np.arange(x.shape[1]).reshape((-1,) + (1,) * (x.ndim - 2))
        return self._results[channel, self.passed(x)]

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        return spanned(self._results, *self.passed(np.stack([reach.low, reach.high])))
