"""The quantized layers: Brevitas's own, with a shorter way to the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import brevitas.nn as bnn
import torch
from brevitas.quant.fixed_point import Int8BiasPerTensorFixedPointInternalScaling, Int8WeightPerTensorFixedPoint
from torch import Tensor, nn

from compress.fakequant import (
    SMALLEST_RANGE,
    Grid,
    fake_quantize_activation,
    fake_quantized_linear,
    range_exponent,
)
from compress.layers.quantizers import BiasProxy, WeightProxy, activation_quantizer, parameter_quantizer
from compress.readout import UncalibratedQuantizer
from compress.spec import QuantSpec

_DEFAULT = QuantSpec()
_LEAN_DTYPES = (torch.float32, torch.float64)


class QuantLinear(bnn.QuantLinear):
    """``y = x @ quantized(weight).T + quantized(bias)`` for ``x`` of shape (..., in_features), plain float tensors."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        spec: QuantSpec = _DEFAULT,
        lean: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        bias_grid = spec.bias_grid if bias else None
        super().__init__(
            in_features,
            out_features,
            bias,
            weight_quant=parameter_quantizer(Int8WeightPerTensorFixedPoint, WeightProxy, spec.weight_grid),
            bias_quant=bias_grid
            and parameter_quantizer(Int8BiasPerTensorFixedPointInternalScaling, BiasProxy, bias_grid),
            device=device,
            dtype=dtype,
        )
        self.spec = spec
        self.lean = lean
        self._weight_grid = spec.weight_grid
        self._bias_grid = bias_grid

    def forward(self, x: Tensor) -> Tensor:
        in_other_use = _is_in_other_use(self, self.weight_quant) or self.bias_quant.disable_quant
        if in_other_use or not (self.lean and _is_plain(x)):
            through_brevitas: Tensor = super().forward(x)
            return through_brevitas
        return fake_quantized_linear(x, self.weight, self.bias, self._weight_grid, self._bias_grid)

    def __repr__(self) -> str:
        bias = f"{self.spec.bias_width}-bit" if self._bias_grid else "float" if self.bias is not None else "no"
        weights = f"{self.spec.weight_width}-bit weights"
        return f"QuantLinear({self.in_features}, {self.out_features}, {weights}, {bias} bias)"


class _LearnedRange(nn.Module):
    """What QuantReLU and QuantIdentity add to Brevitas's: a range that is either constant or found, then learned.

    The state dict holds the logarithm of the range and ``calibrated``, and nothing else decides what a forward does:
    the first training batch that is not all zeros calibrates, and a restored state behaves as the saved one did.
    """

    _rectify: bool
    calibrated: Tensor
    act_quant: Any

    def _prepare(self, spec: QuantSpec, grid: Grid, lean: bool) -> None:
        self.spec = spec
        self.lean = lean
        self._grid = grid
        self.register_buffer("calibrated", torch.tensor(grid.frac is not None))

    @property
    def log2_range(self) -> nn.Parameter | None:
        """The learned logarithm of the range, rounded up when used; None where the binary point is a constant."""
        if self._grid.frac is not None:
            return None
        parameter: nn.Parameter = self.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value
        return parameter

    def forward(self, x: Tensor) -> Tensor:
        if not self.calibrated:
            if not self.training:
                raise UncalibratedQuantizer(uncalibrated(type(self).__name__))
            self.calibrate_on(x)
        if _is_in_other_use(self, self.act_quant) or not (self.lean and _is_plain(x)):
            through_brevitas: Tensor = super().forward(x)
            return through_brevitas
        return fake_quantize_activation(x, self.log2_range, self._grid, self._rectify)

    @torch.no_grad()
    def calibrate_on(self, x: Tensor) -> bool:
        """Take the power-of-two range with the least squared error on ``x``. False if ``x`` is zero and tells nothing.

        The logarithm is put in the middle of those that round up to it, so that learning does not undo it at once.
        Raises ``ValueError`` for NaN and infinity.
        """
        log2_range = self.log2_range
        real = x.relu() if self._rectify else x
        if not torch.isfinite(x).all():
            raise ValueError(f"{type(self).__name__}: cannot calibrate on NaN or infinite activations; check the data")
        largest = real.abs().max().item() if real.numel() else 0.0
        if log2_range is None or largest == 0:
            return log2_range is None

        def error(exponent: int) -> float:
            middle = torch.full_like(log2_range, exponent - 0.5)
            return (fake_quantize_activation(x, middle, self._grid, self._rectify) - real).square().sum().item()

        # One above the next power of two: a largest magnitude that is itself one would saturate at the next.
        exponent = range_exponent(max(largest, SMALLEST_RANGE), x.dtype) + 1
        while error(exponent - 1) < error(exponent):
            exponent -= 1
        log2_range.fill_(exponent - 0.5)
        self.calibrated.fill_(True)
        return True

    def __repr__(self) -> str:
        point = "learned range" if self._grid.frac is None else f"{self._grid.frac} fraction bits"
        sign = "signed" if self._grid.signed else "unsigned"
        return f"{type(self).__name__}({self._grid.width}-bit {sign}, {point})"


class QuantReLU(_LearnedRange, bnn.QuantReLU):
    """A ReLU whose results are quantized to ``spec.activation_width`` bits, unsigned. Any shape."""

    _rectify = True

    def __init__(self, *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        bnn.QuantReLU.__init__(self, act_quant=activation_quantizer(spec.activation_grid))
        self._prepare(spec, spec.activation_grid, lean)


class QuantIdentity(_LearnedRange, bnn.QuantIdentity):
    """Quantizes its input, any shape, to ``spec.input_width`` bits, signed unless ``spec.input_signed`` is False."""

    _rectify = False

    def __init__(self, *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        bnn.QuantIdentity.__init__(self, act_quant=activation_quantizer(spec.input_grid))
        self._prepare(spec, spec.input_grid, lean)


def calibrate(model: nn.Module, x: Tensor) -> None:
    """Set every learned activation range from one batch ``x``, in the order the model runs, in eval mode.

    Replaces what they were. Raises ``UncalibratedQuantizer``, naming the layers, where the batch is all zeros or is
    not used at all.
    """
    ranges = {name: module for name, module in model.named_modules() if isinstance(module, _LearnedRange)}
    layers = {name: layer for name, layer in ranges.items() if layer.log2_range is not None}
    silent = set(layers)

    def before(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            if layers[name].calibrate_on(args[0]):
                silent.discard(name)

        return hook

    hooks = [layer.register_forward_pre_hook(before(name)) for name, layer in layers.items()]
    try:
        with in_eval_mode(model), torch.no_grad():
            model(x)
    except UncalibratedQuantizer:
        pass  # of a layer in ``silent``; the error below knows its name
    finally:
        for hook in hooks:
            hook.remove()
    if silent:
        raise UncalibratedQuantizer(
            f"{', '.join(sorted(silent))}: the calibration batch of {len(x)} rows brings no activation but zero here; "
            "use a larger or more typical batch, or fix the binary point with activation_frac or input_frac"
        )


def _is_plain(x: Tensor) -> bool:
    """Whether these are numbers that the lean way knows, and not a tensor class of Brevitas or another float type."""
    return type(x) is Tensor and x.dtype in _LEAN_DTYPES


def _is_in_other_use(layer: Any, proxy: Any) -> bool:
    """Whether one of Brevitas's tools has switched the layer to exporting or the quantizer off."""
    return bool(layer.export_mode or proxy.disable_quant)


def uncalibrated(label: str) -> str:
    return (
        f"{label}: its range has not seen any data yet; train for a step, load a trained state, call "
        "compress.layers.calibrate(model, batch), or fix the binary point in its QuantSpec"
    )


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
