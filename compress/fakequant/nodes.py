"""The fake quantizers as autograd nodes: one each for a linear layer, a parameter and an activation.

An autograd node costs more than the arithmetic of a small layer, hence one for a whole linear layer.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from compress.fakequant import device, host
from compress.fakequant.grid import Grid


def fake_quantized_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    weight_grid: Grid,
    bias_grid: Grid | None,
    kept: Tensor | None = None,
) -> Tensor:
    """``x @ q(weight).T + q(bias)`` for ``x`` of shape (..., in_features), ``weight`` of (out_features, in_features).

    ``q`` rounds to the nearest value of a grid, whose range comes from the largest magnitude where it has no constant
    binary point; ``bias_grid=None`` leaves the bias as it is. ``kept`` has the shape and type of the weight: where it
    is 0 the weight counts as +0.0, elsewhere it is 1.
    """
    if x.dim() == 2:
        y: Tensor = _Linear.apply(x, weight, bias, weight_grid, bias_grid, kept)
        return y
    y = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias, weight_grid, bias_grid, kept)
    return y.view(*x.shape[:-1], -1)


def fake_quantize_parameter(parameter: Tensor, grid: Grid, kept: Tensor | None = None) -> Tensor:
    """The nearest values of ``grid``, found as in :func:`fake_quantized_linear`, to a parameter of any shape."""
    quantized: Tensor = _Parameter.apply(parameter, grid, kept)
    return quantized


def fake_quantize_activation(x: Tensor, log2_range: Tensor | None, grid: Grid, rectify: bool) -> Tensor:
    """The nearest values of ``grid`` to activations of any shape, negative ones first set to zero if ``rectify``.

    ``log2_range`` has no dimensions; the range is ``2**ceil(log2_range)``. It is None exactly if ``grid.frac`` is set.
    """
    quantized: Tensor = _Activation.apply(x, log2_range, grid, rectify)
    return quantized


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        weight_grid: Grid,
        bias_grid: Grid | None,
        kept: Tensor | None,
    ) -> Tensor:
        way = _way(x)
        # What is made here is kept as it is: only what comes from outside has to be watched for changes.
        weight, ctx.quantized_weight, ctx.found = way.snap_masked(weight, kept, weight_grid)
        ctx.kept = kept
        if bias is None or bias_grid is None:
            ctx.save_for_backward(x, weight)
            return nn.functional.linear(x, ctx.quantized_weight, bias)
        ctx.quantized_bias, ctx.bias_found = way.snap_parameter(bias, bias_grid)
        ctx.save_for_backward(x, weight, bias)
        return nn.functional.linear(x, ctx.quantized_weight, ctx.quantized_bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        x, weight, *quantized_from = ctx.saved_tensors
        way = _way(x)
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        of_x = gradient.mm(ctx.quantized_weight) if needs_x else None
        of_weight = of_bias = None
        if needs_weight:
            of_weight = way.gradient_of_parameter(gradient.t().mm(x), weight, ctx.kept, ctx.quantized_weight, ctx.found)
        if needs_bias:
            of_bias = gradient.sum(0)
            if quantized_from:
                of_bias = way.gradient_of_parameter(of_bias, *quantized_from, None, ctx.quantized_bias, ctx.bias_found)
        return of_x, of_weight, of_bias, None, None, None


class _Parameter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor, grid: Grid, kept: Tensor | None) -> Tensor:
        parameter, quantized, ctx.found = _way(parameter).snap_masked(parameter, kept, grid)
        ctx.kept = kept
        ctx.save_for_backward(parameter, quantized)
        return quantized

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        refuse_second_derivative()
        parameter, quantized = ctx.saved_tensors
        # A copy: the gradient that autograd hands over is not ours to change.
        own = gradient.clone()
        return _way(parameter).gradient_of_parameter(own, parameter, ctx.kept, quantized, ctx.found), None, None


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, log2_range: Tensor | None, grid: Grid, rectify: bool) -> Tensor:
        quantized, ctx.scale = _way(x).snap_activation(x, log2_range, grid)
        ctx.grid, ctx.rectify = grid, rectify
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(x, quantized)
        else:
            ctx.save_for_backward(x)
        return quantized

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        refuse_second_derivative()
        x, *quantized = ctx.saved_tensors
        passed = _way(x).passed_by_activation(gradient, x, ctx.grid, ctx.rectify, ctx.scale)
        of_log2_range = None
        if quantized:
            gained, lost = host.sums_of_products(gradient, quantized[0], passed, x)
            of_log2_range = gained.sub_(lost).mul_(host.scalar(host.LN2, x.dtype))
        return passed, of_log2_range, None, None


def _way(x: Tensor) -> ModuleType:
    return host if x.is_cpu else device


def refuse_second_derivative() -> None:
    """torch's own ``once_differentiable`` says the same for ten times the price."""
    if torch.is_grad_enabled():
        raise RuntimeError("fake quantization has no second derivative; build the layers with lean=False for one")
