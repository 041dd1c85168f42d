"""The quantized layers, and what can be read off them. The only file that names Brevitas.

Each layer *is* the Brevitas layer of its name, with Brevitas's quantizers inside, so whatever works on those works on
these. Its ``forward`` takes a shorter way to the same numbers (:mod:`compress.fakequant`); with ``lean=False`` it takes
Brevitas's own. Layers take and return plain float tensors.

The readers at the end also accept plain Brevitas layers: nobody else has to know what those look like inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from fractions import Fraction
from typing import Any

import brevitas.nn as bnn
import numpy as np
import torch
from brevitas.core.function_wrapper import TensorClamp, TensorClampSte
from brevitas.inject.enum import ScalingImplType
from brevitas.nn.mixin import QuantLayerMixin
from brevitas.proxy import ActQuantProxyFromInjector, BiasQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.quant.fixed_point import (
    Int8ActPerTensorFixedPointMinMaxInit,
    Int8BiasPerTensorFixedPointInternalScaling,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPointMaxInit,
)
from brevitas.quant_tensor import IntQuantTensor
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.fakequant import (
    FLOAT32_BITS,
    SMALLEST_RANGE,
    Grid,
    fake_quantize_activation,
    fake_quantized_linear,
    range_exponent,
)
from compress.fixed import FixedPoint, Rounding
from compress.readout import (
    ActivationQuantizer,
    QuantizedArray,
    UncalibratedQuantizer,
    UnreadableQuantizer,
    finite,
)
from compress.spec import QuantSpec, QuantSpecError

__all__ = [
    "ActivationQuantizer",
    "Kind",
    "QuantIdentity",
    "QuantLinear",
    "QuantReLU",
    "QuantSpec",
    "QuantSpecError",
    "QuantizedArray",
    "UncalibratedQuantizer",
    "UnreadableQuantizer",
    "activation_of",
    "bias_of",
    "calibrate",
    "format_of",
    "is_quantized",
    "kind",
    "weight_of",
    "width_of",
]

_DEFAULT = QuantSpec()
_LEAN_DTYPES = (torch.float32, torch.float64)


# ---------------------------------------------------------------------------------------------------------------------
# Brevitas quantizers


class _LoadsInPlace:
    """Brevitas rebuilds a quantizer on load_state_dict: with new parameters, in float32, unknown to the optimiser."""

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)  # type: ignore[arg-type]


class _WeightProxy(_LoadsInPlace, WeightQuantProxyFromInjector):
    pass


class _BiasProxy(_LoadsInPlace, BiasQuantProxyFromInjector):
    pass


class _ActivationProxy(_LoadsInPlace, ActQuantProxyFromInjector):
    pass


class _InwardClamp(nn.Module):
    """Clips to the outermost codes that the float type holds; Brevitas's own bounds round up to a code too many."""

    def __init__(self, bit_width: int, signed: bool, narrow_range: bool, clamp_impl: nn.Module) -> None:
        super().__init__()
        self.grid = Grid(bit_width, signed, narrow_range)
        self.clamp = clamp_impl

    def forward(self, x: Tensor, min_val: Tensor, max_val: Tensor) -> Tensor:
        low, high = self.grid.limits(x.dtype)
        clamped: Tensor = self.clamp(x, x.new_tensor(low), x.new_tensor(high))
        return clamped


def _parameter_quantizer(base: Any, proxy: type, grid: Grid) -> Any:
    """A Brevitas injector for weights or biases on ``grid``."""
    changes: dict[str, Any] = {"proxy_class": proxy, "bit_width": grid.width, "narrow_range": grid.narrow}
    if grid.frac is not None:
        changes["scaling_impl_type"] = ScalingImplType.CONST
        changes["scaling_const"] = 2.0 ** (grid.magnitude_bits - grid.frac)
    if grid.width > FLOAT32_BITS:
        changes |= {"tensor_clamp_impl": _InwardClamp, "clamp_impl": TensorClampSte}
    return base.let(**changes)


def _activation_quantizer(grid: Grid) -> Any:
    """A Brevitas injector for activations on ``grid``: a learned range that starts at 1, or a constant one."""
    limit = 1.0 if grid.frac is None else 2.0 ** (grid.magnitude_bits - grid.frac)
    changes: dict[str, Any] = {"proxy_class": _ActivationProxy, "bit_width": grid.width, "max_val": limit}
    if grid.signed:
        changes["min_val"] = -limit
    if grid.frac is not None:
        changes["scaling_impl_type"] = ScalingImplType.CONST
    if grid.width > FLOAT32_BITS:
        changes |= {"tensor_clamp_impl": _InwardClamp, "clamp_impl": TensorClamp}
    base = Int8ActPerTensorFixedPointMinMaxInit if grid.signed else Uint8ActPerTensorFixedPointMaxInit
    return base.let(**changes)


# ---------------------------------------------------------------------------------------------------------------------
# Layers


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
            weight_quant=_parameter_quantizer(Int8WeightPerTensorFixedPoint, _WeightProxy, spec.weight_grid),
            bias_quant=bias_grid
            and _parameter_quantizer(Int8BiasPerTensorFixedPointInternalScaling, _BiasProxy, bias_grid),
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
                raise UncalibratedQuantizer(_uncalibrated(type(self).__name__))
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
        bnn.QuantReLU.__init__(self, act_quant=_activation_quantizer(spec.activation_grid))
        self._prepare(spec, spec.activation_grid, lean)


class QuantIdentity(_LearnedRange, bnn.QuantIdentity):
    """Quantizes its input, any shape, to ``spec.input_width`` bits, signed unless ``spec.input_signed`` is False."""

    _rectify = False

    def __init__(self, *, spec: QuantSpec = _DEFAULT, lean: bool = True) -> None:
        bnn.QuantIdentity.__init__(self, act_quant=_activation_quantizer(spec.input_grid))
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
        with _in_eval_mode(model), torch.no_grad():
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


def _uncalibrated(label: str) -> str:
    return (
        f"{label}: its range has not seen any data yet; train for a step, load a trained state, call "
        "compress.layers.calibrate(model, batch), or fix the binary point in its QuantSpec"
    )


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


# ---------------------------------------------------------------------------------------------------------------------
# Readers, for these layers and for plain Brevitas ones. ``name`` is what errors call the layer.


class Kind(Enum):
    """What a layer of Brevitas does, as far as the hardware side tells them apart."""

    LINEAR = "linear"
    RELU = "relu"
    IDENTITY = "identity"
    OTHER = "other"


def kind(module: nn.Module) -> Kind | None:
    """What ``module`` does; None if it is no layer of Brevitas. These modules are the leaves of an fx trace."""
    match module:
        case bnn.QuantLinear():
            return Kind.LINEAR
        case bnn.QuantReLU():
            return Kind.RELU
        case bnn.QuantIdentity():
            return Kind.IDENTITY
        case QuantLayerMixin():
            return Kind.OTHER
    return None


def is_quantized(module: nn.Module) -> bool:
    """Whether ``module`` is a layer of Brevitas, ours or plain, to be read with the readers below."""
    return kind(module) is not None


def weight_of(layer: nn.Module, name: str = "") -> QuantizedArray | None:
    """The weights of a linear layer, codes of shape (out_features, in_features); None if they are not quantized.

    Raises ``UnreadableQuantizer`` for a layer that also quantizes its own input or output, for a zero point other than
    zero, and for anything whose codes times scale are not exactly what the layer computes with.
    """
    linear = _expect(layer, name, Kind.LINEAR)
    if not linear.weight_quant.is_quant_enabled:
        return None
    with _reading(layer, name, "weights"):
        return _array(linear.quant_weight())


def bias_of(
    layer: nn.Module, input_scale: Fraction | None = None, name: str = ""
) -> QuantizedArray | NDArray[np.float64] | None:
    """The bias of a linear layer, codes of shape (out_features,); float64 if not quantized; None if there is none.

    Some Brevitas bias quantizers take their scale from the input: ``input_scale`` is that of what enters the layer.
    Raises like :func:`weight_of`.
    """
    linear = _expect(layer, name, Kind.LINEAR)
    if linear.bias is None:
        return None
    with _reading(layer, name, "bias"):
        if not linear.bias_quant.is_quant_enabled:
            return finite(linear.bias.detach().cpu().numpy())
        if not linear.bias_quant.requires_input_scale:
            return _array(linear.bias_quant(linear.bias))
        if input_scale is None:
            raise UnreadableQuantizer("its scale comes from the input, which has none here; quantize the input")
        scale = linear.bias.new_tensor(float(input_scale))
        entering = IntQuantTensor(linear.bias.new_zeros(1, linear.in_features), scale, 0.0, 8.0, True, False)
        return _array(linear.bias_quant(linear.bias, entering, linear.quant_weight()))


def activation_of(layer: nn.Module, name: str = "") -> ActivationQuantizer | None:
    """How a ReLU or an identity quantizes its result; None if it does not.

    Raises ``UncalibratedQuantizer`` where no data has set the range yet, and ``UnreadableQuantizer`` like
    :func:`weight_of`, also for scales per channel and roundings without a vendor's name.
    """
    proxy = _expect(layer, name, Kind.RELU, Kind.IDENTITY).act_quant
    if not proxy.is_quant_enabled:
        return None
    with _reading(layer, name, "activations"):
        scaling = getattr(proxy.fused_activation_quant_proxy.tensor_quant, "scaling_impl", None)
        # Brevitas counts the batches it has seen; a range of ours says so itself.
        if not getattr(layer, "calibrated", True) or getattr(scaling, "counter", 1) == 0:
            raise UncalibratedQuantizer(_uncalibrated(_label(layer, name)))
        scale, zero_point, width = proxy.scale(), proxy.zero_point(), proxy.bit_width()
        if scale is None or scale.numel() != 1:
            raise UnreadableQuantizer("one scale for the whole tensor is needed, not one per channel or group")
        _refuse_zero_point(zero_point)
        if proxy.rounding_mode not in _ROUNDINGS:
            raise UnreadableQuantizer(f"no vendor's type rounds like {proxy.rounding_mode}; use ROUND")
        return ActivationQuantizer(
            width=_whole(width),
            signed=bool(proxy.is_signed),
            narrow=bool(proxy.is_narrow_range),
            scale=Fraction(scale.item()),
            rounding=_ROUNDINGS[proxy.rounding_mode],
        )


def width_of(layer: nn.Module, name: str = "") -> int | None:
    """The bits of what a ReLU or an identity makes, whether its range is known yet or not; None if not quantized."""
    proxy = _expect(layer, name, Kind.RELU, Kind.IDENTITY).act_quant
    if not proxy.is_quant_enabled:
        return None
    with _reading(layer, name, "activations"):
        return _whole(proxy.bit_width())


def format_of(layer: nn.Module, name: str = "") -> FixedPoint:
    """The fixed-point format of a linear layer's weights or of an activation. Power-of-two scales only."""
    read = weight_of(layer, name) if kind(layer) is Kind.LINEAR else activation_of(layer, name)
    if read is None:
        raise UnreadableQuantizer(f"{_label(layer, name)}: it is not quantized, so it has no fixed-point format")
    with _reading(layer, name, "format"):
        return read.format


_ROUNDINGS = {"ROUND": Rounding.RND_CONV, "FLOOR": Rounding.TRN, "ROUND_TO_ZERO": Rounding.TRN_ZERO}


def _label(layer: nn.Module, name: str) -> str:
    return name or type(layer).__name__


def _expect(layer: nn.Module, name: str, *kinds: Kind) -> Any:
    """``layer``, if it is one of ``kinds`` and quantizes nothing but its own weights or result."""
    if kind(layer) not in kinds:
        wanted = " or ".join(k.value for k in kinds)
        raise UnreadableQuantizer(f"{_label(layer, name)}: a {type(layer).__name__} is not a quantized {wanted} layer")
    for attached in ("input_quant", "output_quant"):
        if getattr(getattr(layer, attached, None), "is_quant_enabled", False):
            raise UnreadableQuantizer(
                f"{_label(layer, name)}: it has an {attached}; make that a QuantIdentity before or after the layer"
            )
    return layer


@contextmanager
def _reading(layer: nn.Module, name: str, what: str) -> Iterator[None]:
    """The layer as it is in eval mode; any error as an ``UnreadableQuantizer`` that names the layer."""
    try:
        with _in_eval_mode(layer), torch.no_grad():
            yield
    except UncalibratedQuantizer:
        raise
    except (ValueError, RuntimeError, AttributeError, AssertionError, TypeError) as error:
        raise UnreadableQuantizer(f"{_label(layer, name)}, {what}: {error}") from error


def _array(tensor: Any) -> QuantizedArray:
    if not isinstance(tensor, IntQuantTensor):
        raise UnreadableQuantizer(f"a {type(tensor).__name__} has no integer codes; use an integer quantizer")
    _refuse_zero_point(tensor.zero_point)
    values, scale = tensor.value.cpu().numpy(), tensor.scale.cpu().numpy()
    return QuantizedArray.of(values, scale, _whole(tensor.bit_width), bool(tensor.signed))


def _refuse_zero_point(zero_point: Tensor | None) -> None:
    if zero_point is None or bool((zero_point != 0).any()):
        raise UnreadableQuantizer(f"its zero point is {zero_point}; use a symmetric quantizer, whose zero point is 0")


def _whole(width: Tensor) -> int:
    if width.numel() != 1 or width.item() != round(width.item()):
        raise UnreadableQuantizer(f"its width is {width.tolist()}; one whole number of bits is needed")
    return int(width.item())
