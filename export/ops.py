"""The ops of the integer graph. Each owns its law, its meaning in integers, and what it can reach.

``eval`` is the reference that the C++ kernel of the same name must equal bit for bit. Channels are the first axis of
a sample, as in torch; per-channel constants have shape (channels,).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm
from typing import ClassVar

import numpy as np

from compress.fixed import (
    MAX_WIDTH,
    Codes,
    FixedPoint,
    as_codes,
    code_width,
    magnitude,
    round_ratio,
)
from export.arithmetic import shifted
from export.binary import BinaryDense
from export.casts import Cast, ChannelCast, Formats, Input, check_formats, per_channel, same_shape
from export.conv import Conv
from export.elementwise import Add, ArgMax, BySign, Maximum, Minimum, Multiply, Subtract
from export.intervals import Bounds, spanned
from export.ir import Const, Op, Tensor
from export.linear import Dense, Linear, SparseDense, SumOfProducts
from export.lookup import Table
from export.modes import Modes
from export.movement import Concat, Rearrange, Reshape
from export.pooling import MaxPool, SumPool
from export.softmax import Softmax

__all__ = [
    "Add",
    "Affine",
    "ArgMax",
    "BinaryDense",
    "BySign",
    "Cast",
    "ChannelCast",
    "Clip",
    "Concat",
    "Conv",
    "Dense",
    "Input",
    "Linear",
    "MaxPool",
    "Maximum",
    "Minimum",
    "Modes",
    "Multiply",
    "ReLU",
    "Rearrange",
    "Requantize",
    "Reshape",
    "Softmax",
    "SparseDense",
    "Subtract",
    "SumOfProducts",
    "SumPool",
    "Table",
    "Threshold",
]


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
class Affine(Op):
    """``y = cast(x * scale + offset)`` per channel in integers, one rounding at the end."""

    x: Tensor
    scale: Const
    offset: Const
    modes: Modes

    def __post_init__(self) -> None:
        same_shape(self, self.x)
        per_channel(self, scale=self.scale.shape, offset=self.offset.shape)
        if (width := self._exact_width) > MAX_WIDTH:
            raise self.fail(
                f"x * scale + offset needs {width} bits, the limit is {MAX_WIDTH}; use a narrower format before it"
            )

    @property
    def product_frac(self) -> int:
        return self.x.format.frac + self.scale.format.frac

    @property
    def exact_frac(self) -> int:
        """Fraction bits of the sum before its cast."""
        return max(self.product_frac, self.offset.format.frac)

    def exact_sums(self, reach: Bounds) -> Bounds:
        """What x * scale + offset reaches before its cast, in codes of ``exact_frac``."""
        ends = self._exact(np.stack([reach.low, reach.high]).astype(object))
        return Bounds(as_codes(ends.min(axis=0)), as_codes(ends.max(axis=0)))

    @cached_property
    def _exact_width(self) -> int:
        """Bits of the widest number on the way, whatever code of its format x is."""
        fmt = self.x.format
        sums = self.exact_sums(Bounds.everywhere(self.x.shape, fmt.min_code, fmt.max_code))
        offset = magnitude(self.offset.codes) << (self.exact_frac - self.offset.format.frac)
        return max(code_width(*sums.range), code_width(-offset, offset))

    def _exact(self, x: Codes) -> Codes:
        """Codes of ``exact_frac`` before the cast. ``x`` carries a batch axis."""
        scale, offset = (along_channels(c.codes, self.x.shape) for c in (self.scale, self.offset))
        product = shifted(x * scale, self.exact_frac - self.product_frac)
        return product + shifted(offset, self.exact_frac - self.offset.format.frac)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        # A product is the difference of two of these numbers, hence one bit wider.
        exact = self._exact(x.astype(object) if self._exact_width > 62 else x)
        return self.modes.cast(exact, self.exact_frac, self.output.format)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        return self.modes.bounds(self.exact_sums(reach), self.exact_frac, self.output.format)


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


@dataclass(frozen=True)
class Requantize(Op):
    """``y = cast(x * scale + offset)`` with exact rational constants: what training says, not yet hardware.

    Batch normalisation, float scales and float biases before a quantizer all come together here. It has no kernel:
    :mod:`export.passes.lower_requantize` proves integer ops equal to it and puts those in its place. With ``formats``
    each channel is rounded once, into its own, and written as a code of the output's.
    """

    has_kernel: ClassVar[bool] = False

    x: Tensor
    scale: tuple[Fraction, ...]
    offset: tuple[Fraction, ...]
    modes: Modes
    formats: Formats | None = None

    def __post_init__(self) -> None:
        same_shape(self, self.x)
        per_channel(self, scale=(len(self.scale),), offset=(len(self.offset),))
        if self.formats is not None:
            check_formats(self, self.formats)

    def target(self, channel: int) -> FixedPoint | None:
        """The format that a channel is rounded into; None for one that is always zero."""
        return self.output.format if self.formats is None else self.formats[channel]

    def ratio(self, channel: int) -> tuple[int, int, int]:
        """Integers p, q, d > 0: a channel's code, in its own format and before rounding, is (p * code + q) / d."""
        target = self.target(channel)
        if target is None:
            return 0, 0, 1
        unit = 1 / target.lsb
        scale, offset = self.scale[channel] * self.x.format.lsb * unit, self.offset[channel] * unit
        d = lcm(scale.denominator, offset.denominator)
        return int(scale * d), int(offset * d), d

    def _rounded(self, x: Codes, channel: int) -> Codes:
        """Codes of one channel before the overflow mode is applied. ``x`` are those of the same channel."""
        p, q, d = self.ratio(channel)
        return round_ratio(x.astype(object) * p + q, d, self.modes.rounding)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        y = np.zeros(x.shape, dtype=object)
        for channel in range(len(self.scale)):
            if (fmt := self.target(channel)) is not None:
                made = self.modes.cast(self._rounded(x[:, channel], channel), fmt.frac, fmt)
                y[:, channel] = shifted(made, self.output.format.frac - fmt.frac)
        return as_codes(y)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        low, high = (np.zeros(reach.low.shape, dtype=object) for _ in range(2))
        for channel in range(len(self.scale)):
            if (fmt := self.target(channel)) is not None:
                here = slice(channel, channel + 1)
                ends = self._rounded(np.stack([reach.low[here], reach.high[here]]), channel)
                made = self.modes.bounds(Bounds(ends.min(axis=0), ends.max(axis=0)), fmt.frac, fmt)
                shift = self.output.format.frac - fmt.frac
                low[here], high[here] = shifted(made.low, shift), shifted(made.high, shift)
        return Bounds(as_codes(low), as_codes(high))


def along_channels(values: Codes, shape: tuple[int, ...]) -> Codes:
    """Per-channel constants shaped to broadcast against (batch, \\*shape)."""
    return values.reshape((-1,) + (1,) * (len(shape) - 1))
