"""Layers whose widths have been learned and are final: integer codes, and an activation format for each channel.

Every number a frozen network computes is a whole multiple of a power of two. In float64 its forward is therefore exact
as long as no sum needs more than 53 bits, and equals what integers do with the codes, bit for bit.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from compress.fixed import FixedPoint, Overflow, Rounding, code_width
from compress.readout import ChannelFormats, QuantizedArray, finite

#: Fraction bits that float32 can scale by and back without leaving its normal range.
MAX_FRAC = 64


class FrozenLinear(nn.Module):
    """``y = x @ weight.T + bias`` for ``x`` of shape (..., in_features), with weights and bias that are integer codes.

    ``weight`` has codes of shape (out_features, in_features), ``bias`` of (out_features,), each one power-of-two scale.
    Nothing here is trained: ``weight_codes()`` and ``bias_codes()`` say all there is.
    """

    def __init__(self, weight: QuantizedArray, bias: QuantizedArray | None = None) -> None:
        super().__init__()
        if weight.codes.ndim != 2:
            raise ValueError(f"weights of a linear layer have 2 axes, got codes of shape {weight.codes.shape}")
        if bias is not None and bias.codes.shape != weight.codes.shape[:1]:
            raise ValueError(
                f"a bias of shape {bias.codes.shape} for {weight.codes.shape[0]} outputs; give one code for each"
            )
        self.out_features, self.in_features = weight.codes.shape
        self._weight_format = weight.format
        self._bias_format = None if bias is None else bias.format
        self.register_buffer("_weight", torch.from_numpy(weight.codes))
        self.register_buffer("_bias", None if bias is None else torch.from_numpy(bias.codes))

    _weight: Tensor
    _bias: Tensor | None

    def weight_codes(self) -> QuantizedArray:
        return _array(self._weight, self._weight_format)

    def bias_codes(self) -> QuantizedArray | None:
        if self._bias is None or self._bias_format is None:
            return None
        return _array(self._bias, self._bias_format)

    def forward(self, x: Tensor) -> Tensor:
        weight = _values(self._weight, self._weight_format, x.dtype)
        bias = None
        if self._bias is not None and self._bias_format is not None:
            bias = _values(self._bias, self._bias_format, x.dtype)
        return nn.functional.linear(x, weight, bias)

    def extra_repr(self) -> str:
        bias = "no" if self._bias_format is None else str(self._bias_format)
        return f"{self.in_features}, {self.out_features}, weights {self._weight_format}, bias {bias}"


class FrozenActivation(nn.Module):
    """Fits activations of shape (batch, channels, ...) into the format of their channel: to nearest even, saturating.

    A channel whose format is None is always zero. With ``rectify`` this is a ReLU with its quantizer, whose formats are
    unsigned; without, it quantizes what enters a network.
    """

    def __init__(self, formats: tuple[FixedPoint | None, ...], rectify: bool) -> None:
        super().__init__()
        self._formats = ChannelFormats(formats, Rounding.RND_CONV, Overflow.SAT)
        self.rectify = rectify
        if rectify and self._formats.signed:
            raise ValueError("what leaves a ReLU is never negative; give it unsigned formats, or rectify=False")
        for channel, format in enumerate(formats):
            if format is not None and abs(format.frac) > MAX_FRAC:
                raise ValueError(
                    f"channel {channel} has {format.frac} fraction bits; floats scale by at most {MAX_FRAC} either way"
                )

    def channel_formats(self) -> ChannelFormats:
        return self._formats

    def forward(self, x: Tensor) -> Tensor:
        formats = self._formats.formats
        if x.dim() < 2 or x.shape[1] != len(formats):
            raise ValueError(f"{len(formats)} channels have a format, got activations of shape {tuple(x.shape)}")
        shape = (-1, *[1] * (x.dim() - 2))

        def column(numbers: list[float]) -> Tensor:
            return torch.tensor(numbers, dtype=x.dtype, device=x.device).view(shape)

        scale = column([0.0 if format is None else 2.0**format.frac for format in formats])
        step = column([0.0 if format is None else 2.0**-format.frac for format in formats])
        low = column([0.0 if format is None else format.min_code for format in formats])
        high = column([0.0 if format is None else format.max_code for format in formats])
        return (x * scale).round().clamp(low, high) * step

    def extra_repr(self) -> str:
        shown = ", ".join("none" if format is None else str(format) for format in self._formats.formats)
        return f"{'ReLU, ' if self.rectify else ''}{shown}"


def finest_grid(values: np.ndarray) -> QuantizedArray:
    """``values`` as codes of one scale, the largest power of two that all of them are whole multiples of.

    All zeros become codes of one bit with the scale 1.
    """
    reals = finite(values)
    frac = max((_frac(value) for value in reals.flat if value), default=0)
    codes = np.ldexp(reals, frac)
    if np.abs(codes).max(initial=0) >= 1 << 62:
        raise ValueError(f"values down to 2**-{frac} next to {np.abs(reals).max()} need codes of more than 62 bits")
    integers = codes.astype(np.int64)
    low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
    return QuantizedArray(integers, (Fraction(2) ** -frac,), code_width(low, high), signed=low < 0)


def _frac(value: float) -> int:
    """The fraction bits of ``value``'s lowest set bit; negative where that stands above the binary point."""
    numerator, denominator = abs(value).as_integer_ratio()
    return denominator.bit_length() - 1 if denominator > 1 else 1 - (numerator & -numerator).bit_length()


def _array(codes: Tensor, format: FixedPoint) -> QuantizedArray:
    return QuantizedArray(codes.cpu().numpy(), (format.lsb,), format.width, format.signed)


def _values(codes: Tensor, format: FixedPoint, dtype: torch.dtype) -> Tensor:
    return codes.to(dtype) * 2.0**-format.frac
