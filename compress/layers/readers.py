"""What can be read off a quantized layer, ours or plain Brevitas. ``name`` is what errors call the layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from fractions import Fraction
from typing import Any

import brevitas.nn as bnn
import numpy as np
import torch
from brevitas.nn.mixin import QuantLayerMixin
from brevitas.quant_tensor import IntQuantTensor
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.fixed import FixedPoint, Rounding
from compress.layers.modules import in_eval_mode, uncalibrated
from compress.readout import ActivationQuantizer, QuantizedArray, UncalibratedQuantizer, UnreadableQuantizer, finite


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
            raise UncalibratedQuantizer(uncalibrated(_label(layer, name)))
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
        with in_eval_mode(layer), torch.no_grad():
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
