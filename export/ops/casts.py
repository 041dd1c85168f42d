"""The ops that fit numbers into a format, one for the whole tensor or one for each channel: on entering, and later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from compress.fixed import Codes, FixedPoint, Overflow, Rounding, as_codes, cast, encode
from export.arithmetic import shifted
from export.intervals import Bounds
from export.ir import Op, Tensor
from export.modes import Modes
from export.scales import encode_scaled

#: One format for each channel. None: the channel is always zero, and has no bits at all.
Formats = tuple[FixedPoint | None, ...]

_NEAREST = Modes(Rounding.RND_CONV, Overflow.SAT)


@dataclass(frozen=True)
class Input(Op):
    """Where data enters. ``modes`` say how a real number becomes a code of the output's format.

    With ``formats`` it is rounded once into the format of its channel, and written as a code of the output's. With a
    ``scale`` the number is ``scale`` times the code's value, and the exact quotient is rounded.
    """

    modes: Modes = _NEAREST
    formats: Formats | None = None
    scale: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        if self.formats is not None:
            check_formats(self, self.formats)
        if self.scale <= 0 or (self.formats is not None and self.scale != 1):
            raise self.fail(f"scale {self.scale}; a scale is positive, and 1 where the formats differ by channel")

    def encode(self, values: np.typing.ArrayLike) -> Codes:
        """Real numbers of shape (batch, \\*shape) to codes."""
        reals, fmt = np.asarray(values), self.output.format
        if reals.shape[1:] != self.output.shape:
            raise self.fail(f"expects samples of shape {self.output.shape}, got an array of shape {reals.shape}")
        if self.scale != 1:
            return encode_scaled(reals, self.scale, fmt, self.modes.rounding, self.modes.overflow)
        if self.formats is None:
            return encode(reals, fmt, self.modes.rounding, self.modes.overflow)
        codes = _no_codes(reals.shape, fmt)
        for own, channels in channels_by_format(self.formats).items():
            # A channel without bits takes any number, but a number it must be.
            made = encode(reals[:, channels], own or FixedPoint(1, 0), self.modes.rounding, self.modes.overflow)
            if own is not None:
                codes[:, channels] = shifted(made, fmt.frac - own.frac)
        return codes

    def settled(self, codes: Codes) -> Codes:
        """Codes of the output's format, those that cannot enter moved to ones that can."""
        frac = self.output.format.frac
        if self.formats is None:
            return cast(codes, frac, self.output.format, self.modes.rounding, self.modes.overflow)
        return cast_channels(codes, frac, self.formats, self.modes, self.output.format)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        if x.shape[1:] != self.output.shape:
            raise self.fail(f"expects samples of shape {self.output.shape}, got codes of shape {x.shape}")
        low, high = self.bounds().range
        if x.size and (int(x.min()) < low or int(x.max()) > high):
            raise self.fail(
                f"codes from {int(x.min())} to {int(x.max())} do not fit {self.output.format} ({low} to {high}); "
                "encode() the values"
            )
        if self.formats is not None and (wrong := np.argwhere(self.settled(x) != x)).size:
            channel = int(wrong[0][1])
            raise self.fail(f"channel {channel} is {self.formats[channel]}, which lacks codes; encode() the values")
        return x

    def bounds(self, *bounds: Bounds) -> Bounds:
        if self.formats is None:
            return Bounds.everywhere(self.output.shape, *self.output.format.ends(self.modes.overflow))
        low, high = (_no_codes(self.output.shape, self.output.format) for _ in range(2))
        for channel, fmt in enumerate(self.formats):
            if fmt is not None:
                low[channel], high[channel] = (
                    end << (self.output.format.frac - fmt.frac) for end in fmt.ends(self.modes.overflow)
                )
        return Bounds(as_codes(low), as_codes(high))


@dataclass(frozen=True)
class Cast(Op):
    """``y = x`` in another format, rounded and limited by ``modes``, element by element."""

    x: Tensor
    modes: Modes

    def __post_init__(self) -> None:
        same_shape(self, self.x)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        return self.modes.cast(x, self.x.format.frac, self.output.format)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        return self.modes.bounds(reach, self.x.format.frac, self.output.format)


@dataclass(frozen=True)
class ChannelCast(Op):
    """``y = x`` with each channel in a format of its own, written as codes of the one format of the output.

    The bits that a channel does not have are constant: those above are its sign or zero, those below are zero.
    """

    x: Tensor
    formats: Formats
    modes: Modes

    def __post_init__(self) -> None:
        same_shape(self, self.x)
        check_formats(self, self.formats)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        return cast_channels(x, self.x.format.frac, self.formats, self.modes, self.output.format)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        return channel_bounds(reach, self.x.format.frac, self.formats, self.modes, self.output.format)


def covering(formats: Sequence[FixedPoint | None]) -> FixedPoint:
    """The narrowest format that holds every value of each. Raises FixedPointError beyond 64 bits."""
    real = [fmt for fmt in formats if fmt is not None]
    frac = max((fmt.frac for fmt in real), default=0)
    low = min((fmt.min_code << (frac - fmt.frac) for fmt in real), default=0)
    high = max((fmt.max_code << (frac - fmt.frac) for fmt in real), default=0)
    return FixedPoint.covering(low, high, frac)


def channels_by_format(formats: Formats) -> dict[FixedPoint | None, list[int]]:
    """Which channels have each format, in the order of their first channel."""
    channels: dict[FixedPoint | None, list[int]] = {}
    for channel, fmt in enumerate(formats):
        channels.setdefault(fmt, []).append(channel)
    return channels


def cast_channels(codes: Codes, frac: int, formats: Formats, modes: Modes, target: FixedPoint) -> Codes:
    """Codes (batch, channels, ...) with ``frac`` fraction bits, cast to each channel's format, codes of ``target``."""
    y = _no_codes(codes.shape, target)
    for fmt, channels in channels_by_format(formats).items():
        if fmt is not None:
            y[:, channels] = shifted(modes.cast(codes[:, channels], frac, fmt), target.frac - fmt.frac)
    return y


def channel_bounds(reach: Bounds, frac: int, formats: Formats, modes: Modes, target: FixedPoint) -> Bounds:
    """What :func:`cast_channels` can make of ``reach``."""
    low, high = (_no_codes(reach.low.shape, target) for _ in range(2))
    for fmt, channels in channels_by_format(formats).items():
        if fmt is not None:
            made = modes.bounds(Bounds(reach.low[channels], reach.high[channels]), frac, fmt)
            low[channels], high[channels] = (shifted(end, target.frac - fmt.frac) for end in (made.low, made.high))
    return Bounds(as_codes(low), as_codes(high))


def _no_codes(shape: tuple[int, ...], fmt: FixedPoint) -> Codes:
    """Zeros that any code of ``fmt`` may replace."""
    return np.zeros(shape, dtype=object if fmt.width > 62 else np.int64)


def same_shape(op: Op, x: Tensor) -> None:
    if op.output.shape != x.shape:
        raise op.fail(f"acts element by element, but x is {x.shape} and the output {op.output.shape}")


def per_channel(op: Op, **shapes: tuple[int, ...]) -> None:
    channels = op.output.shape[:1]
    for what, shape in shapes.items():
        if shape != channels:
            raise op.fail(f"{what} has shape {shape} for {channels[0]} channels; give one per channel")


def check_formats(op: Op, formats: Formats) -> None:
    """One format for each channel, every value of which the output holds."""
    per_channel(op, formats=(len(formats),))
    have = op.output.format
    for channel, fmt in enumerate(formats):
        if fmt is not None and not have.holds(fmt):
            raise op.fail(f"channel {channel} is {fmt}, which {have} does not hold; use {covering(formats)}")


def along_channels(values: Codes, shape: tuple[int, ...]) -> Codes:
    """Per-channel constants shaped to broadcast against (batch, \\*shape)."""
    return values.reshape((-1,) + (1,) * (len(shape) - 1))
