"""Fake quantization onto fixed-point grids: what Brevitas computes with a hundred small tensor operations, in a few.

With a power-of-two scale, dividing by the scale is exact, and the gradient of the scale collapses to two sums. Each
function here is therefore equal, as numbers, to the Brevitas quantizers it stands for (those :mod:`compress.layers`
builds), forward and backward, in float32 and in float64. The one condition is that no *intermediate* value of
Brevitas's longer way leaves the normal range of the float type; where one does, this shorter way is the more exact of
the two. ``tests/test_compress_fakequant.py`` holds them against each other.

The rules, in words: round half to even; clip to the grid; a gradient passes straight through the rounding. Of a
parameter it also passes through the clip, and reaches the largest magnitude (shared evenly among ties) through the
scale; of an activation it stops where the clip acts, and reaches the learned logarithm of the range through the scale.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

#: The smallest magnitude a parameter's scale is computed from: all-zero weights still have a scale (Brevitas's value).
SMALLEST_RANGE = 1e-10

#: float32 holds every integer of up to this many bits.
FLOAT32_BITS = 24

_LN2 = math.log(2.0)
#: A number of Python as the float type rounds it. After a single operation on such numbers, rounding twice is harmless.
_ROUND: dict[torch.dtype, Callable[[float], float]] = {
    torch.float32: lambda value: ctypes.c_float(value).value,
    torch.float64: float,
}


@dataclass(frozen=True, slots=True)
class Grid:
    """The codes a quantizer may use, and where their binary point is.

    ``frac`` fixes the binary point: ``value = code * 2**-frac``. Without it the range is a power of two found from the
    data, ``[-2**e, 2**e)`` or ``[0, 2**e)``, and the codes divide it. A ``narrow`` grid leaves out the lowest code.
    """

    width: int
    signed: bool = True
    narrow: bool = False
    frac: int | None = None
    #: Bits without the sign: a range of ``2**e`` has the scale ``2**(e - magnitude_bits)``.
    magnitude_bits: int = field(init=False, repr=False, compare=False)
    low: int = field(init=False, repr=False, compare=False)
    high: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bits = self.width - self.signed
        object.__setattr__(self, "magnitude_bits", bits)
        object.__setattr__(self, "low", self.narrow - (1 << bits) if self.signed else 0)
        object.__setattr__(self, "high", (1 << bits) - 1)

    def limits(self, dtype: torch.dtype) -> tuple[int, int]:
        """The outermost codes that ``dtype`` can hold. Past 24 bits in float32 ``high`` itself would round outwards."""
        if self.magnitude_bits <= FLOAT32_BITS or dtype is not torch.float32:
            return self.low, self.high
        excess = self.magnitude_bits - FLOAT32_BITS
        low = -self.low >> excess << excess
        return -low, self.high >> excess << excess


def fake_quantized_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, weight_grid: Grid, bias_grid: Grid | None
) -> Tensor:
    """``x @ q(weight).T + q(bias)`` for ``x`` of shape (..., in_features), ``weight`` of (out_features, in_features).

    ``q`` rounds to the nearest value of a grid, whose range comes from the largest magnitude where it has no constant
    binary point; ``bias_grid=None`` leaves the bias as it is.
    """
    rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    y: Tensor = _Linear.apply(rows, weight, bias, weight_grid, bias_grid)
    return y if x.dim() == 2 else y.view(*x.shape[:-1], -1)


def fake_quantize_activation(x: Tensor, log2_range: Tensor | None, grid: Grid, rectify: bool) -> Tensor:
    """The nearest values of ``grid`` to activations of any shape, negative ones first set to zero if ``rectify``.

    ``log2_range`` has no dimensions; the range is ``2**ceil(log2_range)``. It is None exactly if ``grid.frac`` is set.
    """
    quantized: Tensor = _Activation.apply(x, log2_range, grid, rectify)
    return quantized


def range_exponent(absmax: float, dtype: torch.dtype) -> int:
    """``ceil(log2(absmax))`` exactly as torch computes it in ``dtype``, for finite ``absmax``.

    float32's logarithm of a number just above a power of two may round down to a whole number. Away from that case the
    float's own exponent is the answer, and much faster; near it torch is asked.
    """
    mantissa, exponent = math.frexp(absmax)
    # Here the logarithm is at least 0.001 from a whole number; torch's is off by a few units in the last place at most.
    if 0.501 < mantissa < 0.999:
        return exponent
    return int(torch.tensor(absmax, dtype=dtype).log2().ceil())


class _Linear(torch.autograd.Function):
    """Both quantizers and the product in one node: an autograd node costs more than the arithmetic of a small layer."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, weight_grid: Grid, bias_grid: Grid | None
    ) -> Tensor:
        quantized_weight, ctx.weight_absmax = _snap_parameter(weight, weight_grid)
        if bias is None or bias_grid is None:
            ctx.save_for_backward(x, weight, quantized_weight)
            return nn.functional.linear(x, quantized_weight, bias)
        quantized_bias, ctx.bias_absmax = _snap_parameter(bias, bias_grid)
        ctx.save_for_backward(x, weight, quantized_weight, bias, quantized_bias)
        return torch.addmm(quantized_bias, x, quantized_weight.t())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        x, weight, quantized_weight, *biases = ctx.saved_tensors
        of_x = gradient.mm(quantized_weight) if ctx.needs_input_grad[0] else None
        of_weight = of_bias = None
        if ctx.needs_input_grad[1]:
            of_weight = _gradient_of_parameter(gradient.t().mm(x), weight, quantized_weight, ctx.weight_absmax)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(0)
            if biases:
                bias, quantized_bias = biases
                of_bias = _gradient_of_parameter(of_bias, bias, quantized_bias, ctx.bias_absmax)
        return of_x, of_weight, of_bias, None, None


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, log2_range: Tensor | None, grid: Grid, rectify: bool) -> Tensor:
        shift = _activation_shift(log2_range, grid)
        quantized = _snap(x, grid, shift)
        ctx.inside = _open_interval(grid, x.dtype, rectify, shift)
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(x, quantized)
        else:
            ctx.save_for_backward(x)
        return quantized

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        _refuse_second_derivative()
        x, *quantized = ctx.saved_tensors
        # Despite its name: the gradient where ``x`` lies strictly between two bounds, zero elsewhere, in a single pass.
        passed = torch.ops.aten.hardtanh_backward.default(gradient, x, *ctx.inside)
        of_log2_range = None
        if quantized:
            gained, lost = _sums_of_products(gradient, quantized[0], passed, x)
            of_log2_range = gained.sub_(lost).mul_(_scalar(_LN2, x.dtype))
        return passed, of_log2_range, None, None


def _refuse_second_derivative() -> None:
    """torch's own ``once_differentiable`` says the same for ten times the price."""
    if torch.is_grad_enabled():
        raise RuntimeError("fake quantization has no second derivative; build the layers with lean=False for one")


def _snap_parameter(parameter: Tensor, grid: Grid) -> tuple[Tensor, Tensor | None]:
    """A quantized parameter and its largest magnitude; None where no gradient goes through the scale.

    All-zero parameters have a largest magnitude but no sign, so nothing reaches them through the scale either.
    """
    if grid.frac is not None:
        return _snap(parameter, grid, -grid.frac), None
    low, high = torch.aminmax(parameter)
    absmax = high if high.item() >= -low.item() else low.neg_()
    magnitude = absmax.item()
    if not math.isfinite(magnitude):
        return _snap(parameter, grid, None), absmax
    exponent = range_exponent(max(magnitude, SMALLEST_RANGE), parameter.dtype)
    return _snap(parameter, grid, exponent - grid.magnitude_bits), absmax if magnitude else None


def _gradient_of_parameter(gradient: Tensor, parameter: Tensor, quantized: Tensor, absmax: Tensor | None) -> Tensor:
    """The gradient of a parameter from that of its quantized values; takes ``gradient`` over and returns it."""
    if absmax is None:
        return gradient
    gained, lost = _sums_of_products(gradient, quantized, gradient, parameter)
    is_largest = parameter.abs().eq_(absmax)
    # d absmax = d log2_range / (absmax ln 2), shared among ties; in Python's floats, rounded where a tensor would be.
    fit = _ROUND[parameter.dtype]
    ln2 = fit(_LN2)
    of_log2_range = fit(fit(gained.item() - lost.item()) * ln2)
    of_absmax = fit(of_log2_range / fit(max(absmax.item(), fit(SMALLEST_RANGE)) * ln2))
    return gradient.add_(is_largest.copysign_(parameter), alpha=fit(of_absmax / int(is_largest.count_nonzero())))


def _sums_of_products(of_quantized: Tensor, quantized: Tensor, of_real: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """What the scale ``s`` of ``y = s * clip(round(x / s))`` gains through the product and loses through the quotient.

    ``s dy/ds = y - x`` where the clip is inactive. ``s`` is a constant times ``2**log2_range``, so the difference times
    ln 2 is the gradient of ``log2_range``. Two separate sums, since that is how autograd would round them.
    """
    product = of_quantized * quantized
    gained = product.sum()
    return gained, torch.mul(of_real, real, out=product).sum()


def _activation_shift(log2_range: Tensor | None, grid: Grid) -> int | None:
    """log2 of the scale of activations; None for a scale that is NaN."""
    if log2_range is None:
        assert grid.frac is not None, "a grid without a binary point needs a range"
        return -grid.frac
    value = log2_range.item()
    return math.ceil(value) - grid.magnitude_bits if math.isfinite(value) else None


def _snap(x: Tensor, grid: Grid, shift: int | None) -> Tensor:
    """``x`` rounded to multiples of ``2**shift`` within the grid; NaN throughout if the scale is NaN."""
    if shift is None:
        return torch.full_like(x, math.nan)
    low, high = grid.limits(x.dtype)
    snapped = x * _scalar(2.0**-shift, x.dtype)
    return snapped.round_().clamp_(low, high).mul_(_scalar(2.0**shift, x.dtype))


@lru_cache(maxsize=1024)
def _scalar(value: float, dtype: torch.dtype) -> Tensor:
    """A constant operand. Given as a number instead, torch would make and convert such a tensor at every use."""
    return torch.tensor(value, dtype=dtype)


@lru_cache(maxsize=256)
def _open_interval(grid: Grid, dtype: torch.dtype, rectify: bool, shift: int | None) -> tuple[float, float]:
    """The open interval of ``x`` through which a gradient passes: all that rounds to a code of the grid.

    A tie at the upper end goes to the even code above it, outside; one at the lower end to the even code inside, so the
    lower bound is moved down by one float. Rectified, the interval starts at zero, as the gradient of a ReLU does.
    """
    if shift is None:
        return math.nan, math.nan
    low, high = torch.tensor([grid.low - 0.5, grid.high + 0.5], dtype=torch.float64).to(dtype)
    below = 0.0 if rectify else torch.nextafter(low, torch.full_like(low, -math.inf)).item()
    return math.ldexp(below, shift), math.ldexp(high.item(), shift)
