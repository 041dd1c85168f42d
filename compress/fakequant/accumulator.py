"""Sums as a fixed-point register holds them: the bits below its binary point cut off, those above its width too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compress.fakequant.nodes import refuse_second_derivative
from compress.fixed import FixedPoint


def accumulated(sums: Tensor, register: FixedPoint) -> Tensor:
    """``sums``, any shape, truncated and wrapped into ``register``: what ``compress.fixed.cast`` does to their codes.

    Computed in float64, so exact for sums that are, as long as their float type holds the register's codes. The
    gradient passes straight through where nothing wrapped and is zero elsewhere.
    """
    stored: Tensor = _Accumulated.apply(sums, register)
    return stored


class _Accumulated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sums: Tensor, register: FixedPoint) -> Tensor:
        codes = sums.to(torch.float64).mul(2.0**register.frac).floor_()
        turns = ((codes - register.min_code) * 2.0**-register.width).floor_()
        ctx.save_for_backward(turns == 0)
        return codes.sub_(turns.mul_(2.0**register.width)).mul_(2.0**-register.frac).to(sums.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        refuse_second_derivative()
        (held,) = ctx.saved_tensors
        return torch.where(held, gradient, 0.0), None
