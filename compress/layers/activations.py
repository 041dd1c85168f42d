"""The activation layers: a float function, then a quantizer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import brevitas.nn as bnn
import torch
from brevitas.nn.mixin import QuantWeightMixin
from brevitas.nn.quant_layer import QuantNonLinearActLayer
from torch import Tensor, nn
from torch.nn import functional as F

from compress.fakequant import Grid, fake_quantize_parameter, range_exponent
from compress.layers.quantizers import activation_quantizer, weight_quantizer
from compress.layers.ranges import LearnedRange
from compress.layers.state import is_in_other_use, is_plain
from compress.spec import QuantSpec, Scale

_DEFAULT = QuantSpec()


class QuantReLU(LearnedRange, bnn.QuantReLU):
    """A ReLU whose results are quantized to ``spec.activation_width`` bits, unsigned. Any shape."""

    _rectify = True

    def __init__(self, *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        quantizer = activation_quantizer(spec.activation_grid, spec.activation_scale)
        bnn.QuantReLU.__init__(self, act_quant=quantizer)
        self._prepare(spec, spec.activation_grid, spec.activation_scale, lean)

    def function(self, x: Tensor) -> Tensor:
        return x.relu()


class QuantIdentity(LearnedRange, bnn.QuantIdentity):
    """Quantizes its input, any shape, to ``spec.input_width`` bits, signed unless ``spec.input_signed`` is False.

    One signed bit is binary: the sign times the scale, with zero counting as positive.
    """

    def __init__(self, *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        bnn.QuantIdentity.__init__(self, act_quant=activation_quantizer(spec.input_grid, spec.input_scale))
        self._prepare(spec, spec.input_grid, spec.input_scale, lean)


class FunctionLayer(LearnedRange, QuantNonLinearActLayer):
    """A function that Brevitas's quantizers do not know, computed by torch and then quantized. Any shape.

    ``spec.activation_width`` bits, signed where the function can be negative. Where it is bounded and nothing is said
    otherwise, its bound is its range, a constant one; ``spec.activation_frac`` states another, and a float scale
    (``spec.activation_scale``) is learned.
    """

    def _build(self, spec: QuantSpec, lean: bool, *, signed: bool, bound: float | None) -> None:
        grid = spec.signed_activation_grid if signed else spec.activation_grid
        if bound is not None and grid.frac is None and spec.activation_scale is Scale.POWER_OF_TWO:
            grid = _covering(grid, bound)
        quantizer = activation_quantizer(grid, spec.activation_scale)
        QuantNonLinearActLayer.__init__(
            self, act_impl=None, passthrough_act=True, input_quant=None, act_quant=quantizer, return_quant_tensor=False
        )
        self._prepare(spec, grid, spec.activation_scale, lean)


class QuantReLU6(FunctionLayer):
    """``min(max(x, 0), 6)``, quantized without a sign; its range is [0, 8) (see :class:`FunctionLayer`)."""

    def __init__(self, *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        self._build(spec, lean, signed=False, bound=6.0)

    def function(self, x: Tensor) -> Tensor:
        return F.relu6(x)


class QuantLeakyReLU(FunctionLayer):
    """``x`` where positive, else ``negative_slope * x``, quantized with a sign and a learned range.

    The slope has to be stated: hardware multiplies by it, exactly and for free if it is a power of two.
    """

    def __init__(self, negative_slope: float, *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        if not 0 < negative_slope < 1:
            raise ValueError(f"QuantLeakyReLU: the slope lies between 0 and 1, got {negative_slope}; 0 is a QuantReLU")
        self._build(spec, lean, signed=True, bound=None)
        self.negative_slope = float(negative_slope)

    def function(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def _says(self) -> list[str]:
        return [f"slope {self.negative_slope}", *super()._says()]


class QuantPReLU(FunctionLayer, QuantWeightMixin):
    """``x`` where positive, else a trained slope times ``x``: one slope, or one per channel (axis 1).

    The slopes, ``weight`` as in torch, have ``spec.weight_width`` bits, 2 or more, and a power-of-two scale: from their
    largest magnitude, or the constant ``spec.weight_frac``. What else ``spec`` says of weights is not about them. The
    results are quantized with a sign and a learned range.
    """

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, spec: QuantSpec = _DEFAULT, lean: bool = True
    ) -> None:
        if spec.weight_width == 1:
            raise ValueError("QuantPReLU: weight_width=1 leaves but the signs of its slopes; use 2 or more")
        self._build(spec, lean, signed=True, bound=None)
        self.weight = nn.Parameter(torch.full((num_parameters,), float(init)))
        of_slopes = QuantSpec(weight_width=spec.weight_width, weight_frac=spec.weight_frac)
        QuantWeightMixin.__init__(self, weight_quant=weight_quantizer(of_slopes))

    @property
    def output_channel_dim(self) -> int:
        return 0

    @property
    def out_channels(self) -> int:
        return len(self.weight)

    def function(self, x: Tensor) -> Tensor:
        if self.lean and is_plain(x) and not is_in_other_use(self, "weight_quant"):
            return F.prelu(x, fake_quantize_parameter(self.weight, self.spec.weight_grid))
        slopes: Any = QuantWeightMixin.quant_weight(self)  # plain numbers where Brevitas's tools switch it off
        return F.prelu(x, getattr(slopes, "value", slopes))

    def _says(self) -> list[str]:
        slopes = f"{len(self.weight)} slopes" if len(self.weight) > 1 else "one slope"
        point = "" if self.spec.weight_frac is None else f", {self.spec.weight_frac} of them behind the point"
        return [f"{slopes} of {self.spec.weight_width} bits{point}", *super()._says()]


class QuantHardTanh(FunctionLayer):
    """``x`` clipped to ``[min_val, max_val]``, quantized with a sign if ``min_val`` is negative.

    Its range is the next power of two at or above the larger bound, [-1, 1) as it comes. With one bit it is the sign,
    {-1, +1}, whose gradient passes where the clip is inactive; with two it is ternary, {-1, 0, +1}.
    """

    def __init__(
        self, min_val: float = -1.0, max_val: float = 1.0, *, spec: QuantSpec = _DEFAULT, lean: bool = True
    ) -> None:
        if not min_val <= 0 < max_val:
            raise ValueError(f"QuantHardTanh: needs min_val <= 0 < max_val, got {min_val} and {max_val}")
        if math.isinf(max_val - min_val):
            raise ValueError(
                f"QuantHardTanh: needs finite bounds, got {min_val} and {max_val}; without bounds it is a QuantIdentity"
            )
        self._build(spec, lean, signed=min_val < 0, bound=max(-min_val, max_val))
        self.min_val, self.max_val = float(min_val), float(max_val)

    def function(self, x: Tensor) -> Tensor:
        return F.hardtanh(x, self.min_val, self.max_val)

    def _says(self) -> list[str]:
        return [f"{self.min_val} to {self.max_val}", *super()._says()]


class QuantHardSigmoid(FunctionLayer):
    """``min(max(x + 3, 0), 6) / 6``, torch's, quantized without a sign; its range is [0, 1)."""

    def __init__(self, *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        self._build(spec, lean, signed=False, bound=1.0)

    def function(self, x: Tensor) -> Tensor:
        return F.hardsigmoid(x)


class QuantTanh(FunctionLayer):
    """The hyperbolic tangent, quantized with a sign; its range is [-1, 1).

    With one bit it is {-1, +1}, with two {-1, 0, +1}.
    """

    def __init__(self, *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        self._build(spec, lean, signed=True, bound=1.0)

    def function(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


class QuantSigmoid(FunctionLayer):
    """``1 / (1 + exp(-x))``, quantized without a sign; its range is [0, 1)."""

    def __init__(self, *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        self._build(spec, lean, signed=False, bound=1.0)

    def function(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


class QuantSiLU(FunctionLayer):
    """``x * sigmoid(x)``, quantized with a sign and a learned range. Hardware wants few bits at its input."""

    def __init__(self, *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        self._build(spec, lean, signed=True, bound=None)

    def function(self, x: Tensor) -> Tensor:
        return F.silu(x)


class QuantGELU(FunctionLayer):
    """``x * Phi(x)``, or torch's tanh form of it, quantized with a sign and a learned range.

    ``approximate`` is that of ``nn.GELU``: "none" or "tanh". Hardware wants few bits at its input.
    """

    def __init__(self, approximate: str = "none", *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"QuantGELU: approximate is 'none' or 'tanh', got {approximate!r}")
        self._build(spec, lean, signed=True, bound=None)
        self.approximate = approximate

    def function(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate=self.approximate)

    def _says(self) -> list[str]:
        return [*(["tanh form"] if self.approximate == "tanh" else []), *super()._says()]


def _covering(grid: Grid, bound: float) -> Grid:
    """``grid`` with the constant range ``[-2**e, 2**e)`` or ``[0, 2**e)`` that covers ``bound``.

    Where 1 is the highest code there is, it stands for the highest power of two within the bound.
    """
    if grid.high == 1:
        return replace(grid, frac=1 - math.frexp(bound)[1])
    return replace(grid, frac=grid.magnitude_bits - range_exponent(bound, torch.float64))
