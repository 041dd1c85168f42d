"""Rounding to learned widths, and the gradients that stand in for those it does not have.

The fraction bits ``f`` of a number are a real parameter, rounded to a whole one when used. With ``q`` the rounded
value of ``w``, the error ``w - q`` shrinks like ``2**-f``, so ``dq/df`` is taken to be ``ln 2 (w - q)``, and ``dq/dw``
is taken to be 1: the surrogate of HGQ (Sun et al., FPGA 2026, doi 10.1145/3748173.3779200). Where an activation
saturates it *is* the end of its range, ``2**i - 2**-f`` or ``-2**i``, whose derivatives are known: of the former
``ln 2 * 2**-f`` by ``f`` and ``ln 2 * 2**i`` by the integer bits ``i``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

LN2 = math.log(2.0)


def round_parameter(parameter: Tensor, frac: Tensor) -> Tensor:
    """``parameter`` rounded to ``round(frac)`` fraction bits, half to even; ``frac`` broadcasts to its shape."""
    rounded: Tensor = _Parameter.apply(parameter, frac)
    return rounded


def fit_activation(x: Tensor, frac: Tensor, integer: Tensor, signed: bool) -> Tensor:
    """``x`` of shape (batch, channels, ...) in the formats of its channels: to nearest even, saturating.

    A channel has ``width = round(frac) + round(integer)`` bits besides a sign, and is zero where those are none.
    Unsigned, the lowest code is 0, so a ReLU is included. ``frac`` and ``integer`` have shape (channels,) or (1,).
    """
    shape = (-1, *[1] * (x.dim() - 2))
    fitted: Tensor = _Activation.apply(x, frac.view(shape), integer.view(shape), signed)
    return fitted


def width(frac: Tensor, integer: Tensor) -> Tensor:
    """The bits of activations besides their sign; 0 for a channel that is always zero."""
    return (frac.round() + integer.round()).clamp(min=0)


def bits(codes: Tensor) -> Tensor:
    """The bits of integer-valued ``codes`` besides their sign: 0 for 0, 1 for 1, 2 for 2 and 3, ..."""
    return torch.where(codes == 0, 0, torch.frexp(codes)[1]).to(codes.dtype)


def code_range(frac: Tensor, integer: Tensor, signed: bool) -> tuple[Tensor, Tensor]:
    """The lowest and the highest code of every channel; both 0 where it has no bits."""
    magnitudes = torch.exp2(width(frac, integer))
    return torch.where(magnitudes > 1, -magnitudes, 0.0) if signed else torch.zeros_like(magnitudes), magnitudes - 1


class _Parameter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor, frac: Tensor) -> Tensor:
        scale = torch.exp2(frac.round())
        rounded = (parameter * scale).round_().div_(scale)
        ctx.save_for_backward(parameter, rounded)
        ctx.shape = frac.shape
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        parameter, rounded = ctx.saved_tensors
        of_frac = (parameter - rounded) * gradient * LN2
        return gradient, of_frac.sum_to_size(ctx.shape)


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, frac: Tensor, integer: Tensor, signed: bool) -> Tensor:
        low, high = code_range(frac, integer, signed)
        scale = torch.exp2(frac.round())
        scaled = x * scale
        limited = scaled.clamp(low, high)
        codes = limited.round()
        ctx.save_for_backward(scaled, limited, codes, scale, high)
        ctx.signed = signed
        return codes / scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        scaled, limited, codes, scale, high = ctx.saved_tensors
        of_x = gradient * (limited == scaled)
        above = (gradient * (scaled > high)).sum_to_size(scale.shape)
        below = (gradient * (scaled < -high - 1)).sum_to_size(scale.shape) if ctx.signed else 0.0
        of_frac = ((limited - codes) * of_x).sum_to_size(scale.shape) + above
        of_integer = (above - below) * (high + 1)
        return of_x, of_frac * LN2 / scale, of_integer * LN2 / scale, None
