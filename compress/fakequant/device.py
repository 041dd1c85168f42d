"""What :mod:`compress.fakequant.host` computes, for tensors on a GPU: scales stay tensors, and nothing waits for them.

The same functions with the same results, in the plain order of the formulas. What is ``found`` about a parameter is
its largest magnitude here, and the scale of activations a tensor without dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compress.fakequant import host
from compress.fakequant.grid import SMALLEST_RANGE, Grid, open_interval
from compress.fakequant.host import LN2, sums_of_products

#: The bits of a float before its fraction, by type: (integers of its size, bits of the fraction, exponent of one).
_LAYOUT = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}


def snap(x: Tensor, grid: Grid, scale: Tensor) -> Tensor:
    """``x`` rounded to multiples of ``scale`` within the grid; NaN throughout if the scale is NaN."""
    return (x / scale).round_().clamp_(*grid.limits(x.dtype)).mul_(scale)


def snap_parameter(parameter: Tensor, grid: Grid) -> tuple[Tensor, Tensor | None]:
    if grid.frac is not None:
        return host.snap(parameter, grid, -grid.frac), None
    absmax = parameter.abs().max()
    exponent = absmax.clamp_min(SMALLEST_RANGE).log2().ceil()
    return snap(parameter, grid, power_of_two(exponent - grid.magnitude_bits)), absmax


def snap_masked(parameter: Tensor, kept: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor, Tensor | None]:
    masked = parameter if kept is None else masked_by_choice(parameter, kept)
    return masked, *snap_parameter(masked, grid)


def gradient_of_parameter(
    gradient: Tensor, parameter: Tensor, kept: Tensor | None, quantized: Tensor, absmax: Tensor | None
) -> Tensor:
    if absmax is None:
        return gradient if kept is None else masked_by_choice(gradient, kept)
    gained, lost = sums_of_products(gradient, quantized, gradient, parameter)
    of_log2_range = (gained - lost) * LN2
    of_absmax = of_log2_range / (absmax.clamp_min(SMALLEST_RANGE) * LN2)
    is_largest = parameter.abs() == absmax
    share = of_absmax / is_largest.count_nonzero()
    if kept is not None:
        gradient = masked_by_choice(gradient, kept)
    # All-zero parameters have a largest magnitude but no sign, so nothing reaches them through the scale.
    return gradient.add_(torch.where(is_largest, parameter.sign() * share, 0.0))


def snap_activation(x: Tensor, log2_range: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor]:
    if log2_range is None:
        quantized, shift = host.snap_activation(x, None, grid)
        assert shift is not None, "a constant scale is a number"
        return quantized, torch.full((), 2.0**shift, dtype=x.dtype, device=x.device)
    scale = power_of_two(log2_range.ceil() - grid.magnitude_bits)
    return snap(x, grid, scale), scale


def passed_by_activation(gradient: Tensor, x: Tensor, grid: Grid, rectify: bool, scale: Tensor) -> Tensor:
    low, high = open_interval(grid, x.dtype, rectify, 0)
    return torch.where((x > low * scale) & (x < high * scale), gradient, 0.0)


def masked_by_choice(tensor: Tensor, kept: Tensor) -> Tensor:
    return torch.where(kept != 0, tensor, 0.0)


def power_of_two(exponent: Tensor) -> Tensor:
    """``2**exponent`` for whole numbers, exactly: the logarithm and power of a device may be off in the last place.

    NaN for exponents that are no numbers; those beyond the normal range count as its ends.
    """
    integer, fraction_bits, bias = _LAYOUT[exponent.dtype]
    biased = exponent.clamp(1 - bias, bias).nan_to_num().to(integer) + bias
    power = (biased << fraction_bits).view(exponent.dtype)
    return torch.where(exponent.isfinite(), power, math.nan)
