"""Layers whose widths are parameters, trained with the weights and then frozen."""

from __future__ import annotations

from enum import Enum

import numpy as np
import torch
from torch import Tensor, nn

from compress.fixed import FixedPoint
from compress.learned.frozen import FrozenActivation, FrozenLinear, finest_grid
from compress.learned.surrogate import fit_activation, round_parameter, width


class Granularity(Enum):
    """What has a width of its own."""

    LAYER = "layer"  # the weights of a layer, its biases, its activations
    CHANNEL = "channel"  # the weights and the bias of an output channel; a channel of activations
    WEIGHT = "weight"  # a weight, a bias; a channel of activations


class LearnedLinear(nn.Module):
    """``y = x @ q(weight).T + q(bias)``, ``x`` (..., in_features); ``q`` rounds to learned numbers of fraction bits.

    A number that rounds to zero has width zero: it is pruned, and comes back should the loss want it. There is no
    largest code; the integer bits are those that the value needs.
    """

    def __init__(self, linear: nn.Linear, granularity: Granularity = Granularity.WEIGHT, frac: float = 5.0) -> None:
        """``frac``: fraction bits of all weights and biases at the start."""
        super().__init__()
        self.granularity = granularity
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = nn.Parameter(linear.weight.detach().clone())
        bias = linear.bias.detach().clone() if linear.bias is not None else linear.weight.new_zeros(self.out_features)
        self.bias = nn.Parameter(bias)
        shape = {
            Granularity.LAYER: (1, 1),
            Granularity.CHANNEL: (self.out_features, 1),
            Granularity.WEIGHT: (self.out_features, self.in_features),
        }[granularity]
        self.weight_frac = nn.Parameter(torch.full(shape, float(frac), dtype=bias.dtype))
        self.bias_frac = nn.Parameter(torch.full(shape[:1], float(frac), dtype=bias.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.quantized_weight(), self.quantized_bias())

    def quantized_weight(self) -> Tensor:
        return round_parameter(self.weight, self.weight_frac)

    def quantized_bias(self) -> Tensor:
        return round_parameter(self.bias, self.bias_frac)

    def freeze(self) -> FrozenLinear:
        """The layer in integer codes. Raises ``ValueError`` where a weight is NaN or infinite."""
        with torch.no_grad():
            weight, bias = (q.double().cpu().numpy() for q in (self.quantized_weight(), self.quantized_bias()))
        return FrozenLinear(finest_grid(weight), finest_grid(bias) if np.any(bias) else None)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, widths per {self.granularity.value}"


class LearnedActivation(nn.Module):
    """Fits activations (batch, channels, ...) to learned fraction and integer bits of each channel, or of the layer.

    Unsigned it is a ReLU with its quantizer; signed it quantizes what enters a network. See ``fit_activation``.
    """

    def __init__(
        self, channels: int, signed: bool, granularity: Granularity = Granularity.WEIGHT, frac: float = 4.0
    ) -> None:
        """``frac``: fraction bits at the start; the integer bits start at 3 and are found by :meth:`cover`."""
        super().__init__()
        self.granularity = granularity
        self.channels, self.signed = channels, signed
        size = 1 if granularity is Granularity.LAYER else channels
        self.frac = nn.Parameter(torch.full((size,), float(frac)))
        self.integer = nn.Parameter(torch.full((size,), 3.0))

    def forward(self, x: Tensor) -> Tensor:
        return fit_activation(x, self.frac, self.integer, self.signed)

    @torch.no_grad()
    def cover(self, x: Tensor, share: float = 0.999) -> None:
        """Start the integer bits at the power of two that holds the ``share`` quantile of magnitudes in ``x``."""
        magnitudes = x.abs() if self.signed else x.relu()
        rows = magnitudes.movedim(1, -1).reshape(-1, self.channels)
        largest = rows.flatten() if self.granularity is Granularity.LAYER else rows
        exponents = largest.quantile(share, dim=0).clamp(min=0.125).log2().ceil()
        self.integer.copy_(exponents.expand_as(self.integer))

    @property
    def widths(self) -> Tensor:
        """(channels,) bits besides the sign; 0 where the channel is always zero."""
        return width(self.frac, self.integer).detach().expand(self.channels)

    def freeze(self) -> FrozenActivation:
        formats = tuple(
            FixedPoint(int(bits) + self.signed, int(frac), self.signed) if bits else None
            for bits, frac in zip(
                self.widths.tolist(), self.frac.detach().round().expand(self.channels).tolist(), strict=True
            )
        )
        return FrozenActivation(formats, rectify=not self.signed)

    def extra_repr(self) -> str:
        kind = "signed" if self.signed else "ReLU"
        return f"{self.channels}, {kind}, widths per {'layer' if len(self.frac) == 1 else 'channel'}"
