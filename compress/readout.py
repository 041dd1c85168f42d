"""What is read off a quantized layer: integer codes with their exact scale, or the quantizer of an activation."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.fixed import FixedPoint, Overflow, Rounding


class UnreadableQuantizer(ValueError):
    """A quantizer whose meaning in integers cannot be told, or is not one the hardware side knows."""


class UncalibratedQuantizer(UnreadableQuantizer):
    """An activation quantizer that has not seen any data, so that its range means nothing yet."""


@dataclass(frozen=True, eq=False)
class QuantizedArray:
    """``value = code * scale``, the scale of the one tensor or of each output channel (the first axis of ``codes``).

    A scale is the layer's float as an exact fraction. ``codes`` are int64 and fit ``width`` bits, ``signed`` or not.
    """

    codes: NDArray[np.int64]
    scale: tuple[Fraction, ...]
    width: int
    signed: bool

    def __post_init__(self) -> None:
        if len(self.scale) not in (1, self.codes.shape[0]):
            raise UnreadableQuantizer(f"{len(self.scale)} scales for codes of shape {self.codes.shape}")
        if not all(scale > 0 for scale in self.scale):
            raise UnreadableQuantizer(f"a scale must be positive, got {min(self.scale)}")
        format = FixedPoint(self.width, 0, self.signed)
        low, high = int(self.codes.min(initial=0)), int(self.codes.max(initial=0))
        if low < format.min_code or high > format.max_code:
            raise UnreadableQuantizer(
                f"codes from {low} to {high} do not fit {'signed' if self.signed else 'unsigned'} {self.width} bits "
                f"({format.min_code} to {format.max_code})"
            )

    @classmethod
    def of(cls, values: NDArray[Any], scale: NDArray[Any], width: int, signed: bool) -> QuantizedArray:
        """The codes of ``values``, checked: codes times ``scale`` must give them back, bit for bit in their float type.

        ``scale`` holds one number, or one per index of the first axis (shape (n,), (n, 1), ...).
        """
        reals = finite(values)
        if scale.size > 1 and (scale.shape[0] != scale.size or scale.size != len(reals)):
            raise UnreadableQuantizer(f"scales of shape {scale.shape} are neither one nor one per output channel")
        broadcast = scale.reshape(-1, *[1] * (reals.ndim - 1)) if scale.size > 1 else scale.reshape(())
        codes = np.rint(reals / broadcast.astype(np.float64))
        if not np.array_equal(codes.astype(values.dtype) * broadcast, values):
            cure = "; read codes this wide off a model in float64" if width > 24 and values.dtype != np.float64 else ""
            raise UnreadableQuantizer(f"its values are not whole multiples of its scale{cure}")
        return cls(codes.astype(np.int64), tuple(Fraction(float(s)) for s in scale.flat), width, signed)

    @property
    def format(self) -> FixedPoint:
        """The fixed-point format, where there is one power-of-two scale. Raises ``UnreadableQuantizer`` otherwise."""
        if len(self.scale) > 1 and len(set(self.scale)) > 1:
            raise UnreadableQuantizer(f"{len(self.scale)} scales, one per output channel, are not one format")
        return FixedPoint(self.width, frac_of(self.scale[0]), self.signed)


@dataclass(frozen=True)
class ActivationQuantizer:
    """``code = clip(rounding(value / scale))`` in ``width`` bits; ``narrow`` leaves out the lowest signed code."""

    width: int
    signed: bool
    narrow: bool
    scale: Fraction
    rounding: Rounding

    @property
    def format(self) -> FixedPoint:
        """The fixed-point format, where the scale is a power of two. Raises ``UnreadableQuantizer`` otherwise."""
        return FixedPoint(self.width, frac_of(self.scale), self.signed)


@dataclass(frozen=True)
class BinaryQuantizer:
    """``code = +1`` where ``value >= 0``, else ``-1``; what leaves the layer is ``code * scale``."""

    scale: Fraction

    @property
    def format(self) -> FixedPoint:
        """A format of two bits that holds both codes, where the scale is a power of two. Raises otherwise."""
        return FixedPoint(2, frac_of(self.scale), signed=True)


@dataclass(frozen=True)
class ChannelFormats:
    """Activations with a format of their own in each channel (axis 1); None: that channel is always zero.

    A number becomes ``code = overflow(rounding(value * 2**frac))`` of its channel's format. Signs are alike throughout.
    """

    formats: tuple[FixedPoint | None, ...]
    rounding: Rounding
    overflow: Overflow

    def __post_init__(self) -> None:
        if not self.formats:
            raise UnreadableQuantizer("formats for no channel at all; give one for each")
        if len({format.signed for format in self.formats if format is not None}) > 1:
            raise UnreadableQuantizer(
                "signed and unsigned channels in one tensor; make the formats of all channels signed, or none"
            )

    @property
    def signed(self) -> bool:
        """Whether codes may be negative; False where no channel has any bits."""
        return any(format.signed for format in self.formats if format is not None)


def finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """``values`` as float64; raises ``UnreadableQuantizer`` counting those that are NaN or infinite."""
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise UnreadableQuantizer(f"{bad} of {values.size} values are NaN or infinite; the training has diverged")
    return values.astype(np.float64)


def frac_of(scale: Fraction) -> int:
    """The fraction bits of codes with this scale: ``scale == 2**-frac``."""
    frac = scale.denominator.bit_length() - scale.numerator.bit_length()
    if scale <= 0 or scale != Fraction(2) ** -frac:
        raise UnreadableQuantizer(
            f"the scale {float(scale)} is not a power of two, so the codes are not fixed-point numbers; "
            "train with the layers of compress.layers, or with a power-of-two quantizer of Brevitas"
        )
    return frac
