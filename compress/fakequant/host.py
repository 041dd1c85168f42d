"""Numbers onto a grid, and the gradients that come back, on the CPU: scales are Python's numbers here.

A small layer costs what its tensor operations are in number, so they are counted: three to round, and a look at a numpy
view where a tensor operation would only find one number. :mod:`compress.fakequant.device` does the same without ever
waiting for a device.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from compress.fakequant.grid import SMALLEST_RANGE, Grid, open_interval, range_exponent

LN2 = math.log(2.0)
#: A number of Python as the float type rounds it. After a single operation on such numbers, rounding twice is harmless.
_ROUND: dict[torch.dtype, Callable[[float], float]] = {
    torch.float32: lambda value: ctypes.c_float(value).value,
    torch.float64: float,
}

#: The lowest and the highest number of a parameter; None where no gradient goes through its scale.
Found = tuple[float, float] | None
#: log2 of a scale; None for a scale that is NaN.
Shift = int | None


def snap(x: Tensor, grid: Grid, shift: Shift) -> Tensor:
    """``x`` rounded to multiples of ``2**shift`` within the grid; NaN throughout if the scale is NaN."""
    if shift is None:
        return torch.full_like(x, math.nan)
    steps = grid.steps(shift, x.dtype)
    if steps is not None:
        return x.add(steps.pivot).sub_(steps.pivot).clamp_(steps.low, steps.high)
    low, high = grid.limits(x.dtype)
    snapped = x * scalar(2.0**-shift, x.dtype)
    return snapped.round_().clamp_(low, high).mul_(scalar(2.0**shift, x.dtype))


def snap_parameter(parameter: Tensor, grid: Grid) -> tuple[Tensor, Found]:
    """A quantized parameter and its extremes.

    All-zero parameters have a largest magnitude but no sign, so nothing reaches them through the scale.
    """
    if grid.frac is not None:
        return snap(parameter, grid, -grid.frac), None
    ends = torch.aminmax(parameter)
    low, high = ends.min.item(), ends.max.item()
    largest = max(-low, high)
    if not math.isfinite(largest):
        return snap(parameter, grid, None), (low, high)
    exponent = range_exponent(max(largest, SMALLEST_RANGE), parameter.dtype)
    return snap(parameter, grid, exponent - grid.magnitude_bits), (low, high) if largest else None


def snap_masked(parameter: Tensor, kept: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor, Found]:
    """A parameter as its mask leaves it, quantized, and its extremes.

    A product is much faster than a choice, but where a pruned entry has diverged it is NaN, which the extremes show.
    """
    if kept is None:
        return parameter, *snap_parameter(parameter, grid)
    if grid.frac is None:
        masked = parameter * kept
        quantized, found = snap_parameter(masked, grid)
        if found is None or math.isfinite(found[1] - found[0]):
            return masked, quantized, found
    masked = masked_by_choice(parameter, kept)
    return masked, *snap_parameter(masked, grid)


def masked_by_choice(tensor: Tensor, kept: Tensor) -> Tensor:
    return torch.where(kept != 0, tensor, scalar(0.0, tensor.dtype))


def gradient_of_parameter(
    gradient: Tensor, parameter: Tensor, kept: Tensor | None, quantized: Tensor, found: Found
) -> Tensor:
    """The gradient of a parameter from that of its quantized values; takes ``gradient`` over and returns it.

    ``parameter`` is what its mask leaves of it. Where that is nothing, so is the gradient, whatever came back there.
    """
    if found is None:
        return gradient if kept is None else masked_by_choice(gradient, kept)
    gained, lost = sums_of_products(gradient, quantized, gradient, parameter)
    difference = gained.item() - lost.item()
    if kept is not None:
        # A finite sum has finite terms, and those finite factors.
        gradient = gradient.mul_(kept) if math.isfinite(difference) else masked_by_choice(gradient, kept)
    low, high = found
    # d absmax = d log2_range / (absmax ln 2), shared among ties; in Python's floats, rounded where a tensor would be.
    fit = _ROUND[parameter.dtype]
    ln2 = fit(LN2)
    of_log2_range = fit(fit(difference) * ln2)
    of_absmax = fit(of_log2_range / fit(max(-low, high, fit(SMALLEST_RANGE)) * ln2))
    values, gradients = parameter.detach().numpy(), gradient.numpy()
    is_largest = np.abs(values) == high if high == -low else values == (high if high > -low else low)
    ties = np.count_nonzero(is_largest)
    if ties == 1:
        gradients.flat[is_largest.argmax()] += of_absmax if high > -low else -of_absmax
    elif ties:
        gradients[is_largest] += fit(of_absmax / ties) * np.sign(values[is_largest])
    return gradient


def snap_activation(x: Tensor, log2_range: Tensor | None, grid: Grid) -> tuple[Tensor, Shift]:
    """Quantized activations and log2 of their scale."""
    if log2_range is None:
        assert grid.frac is not None, "a grid without a binary point needs a range"
        return snap(x, grid, -grid.frac), -grid.frac
    value = log2_range.item()
    shift = math.ceil(value) - grid.magnitude_bits if math.isfinite(value) else None
    return snap(x, grid, shift), shift


def passed_by_activation(gradient: Tensor, x: Tensor, grid: Grid, rectify: bool, shift: Shift) -> Tensor:
    """The gradient where no clip acts on ``x``, zero elsewhere."""
    # Despite its name: the gradient where ``x`` lies strictly between two bounds, zero elsewhere, in a single pass.
    inside = open_interval(grid, x.dtype, rectify, shift)
    return torch.ops.aten.hardtanh_backward.default(gradient, x, *inside)


def sums_of_products(of_quantized: Tensor, quantized: Tensor, of_real: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """What the scale ``s`` of ``y = s * clip(round(x / s))`` gains through the product and loses through the quotient.

    ``s dy/ds = y - x`` where the clip is inactive. ``s`` is a constant times ``2**log2_range``, so the difference times
    ln 2 is the gradient of ``log2_range``. Two separate sums, since that is how autograd would round them.
    """
    product = of_quantized * quantized
    gained = product.sum()
    return gained, torch.mul(of_real, real, out=product).sum()


@lru_cache(maxsize=1024)
def scalar(value: float, dtype: torch.dtype) -> Tensor:
    """A constant operand. Given as a number instead, torch would make and convert such a tensor at every use."""
    return torch.tensor(value, dtype=dtype)
