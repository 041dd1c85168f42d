"""A scale and an offset for each channel, and one rounding: in integers, or in the rationals that training means."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm
from typing import ClassVar

import numpy as np

from compress.fixed import MAX_WIDTH, Codes, FixedPoint, as_codes, code_width, magnitude, round_ratio
from export.arithmetic import shifted
from export.intervals import Bounds
from export.ir import Const, Op, Tensor
from export.modes import Modes
from export.ops.casts import Formats, along_channels, check_formats, per_channel, same_shape


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
