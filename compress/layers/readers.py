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
from brevitas.nn.quant_layer import QuantNonLinearActLayer
from brevitas.quant_tensor import IntQuantTensor
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.fixed import FixedPoint, Rounding
from compress.layers.activations import (
    QuantGELU,
    QuantHardSigmoid,
    QuantHardTanh,
    QuantLeakyReLU,
    QuantPReLU,
    QuantReLU6,
    QuantSigmoid,
    QuantSiLU,
    QuantTanh,
)
from compress.layers.state import in_eval_mode, uncalibrated
from compress.layers.weighted import WeightedLayer, refuse_masked_binary
from compress.readout import (
    ActivationQuantizer,
    BinaryQuantizer,
    QuantizedArray,
    UncalibratedQuantizer,
    UnreadableQuantizer,
    finite,
)


class Kind(Enum):
    """What a layer does, as far as the hardware side tells them apart.

    Brevitas's own activations are what they compute, which depends on their quantizer: a QuantHardTanh with a quantizer
    leaves its function to the clip of that and is an identity.
    """

    LINEAR = "linear"
    CONV1D = "conv1d"
    CONV2D = "conv2d"
    RELU = "relu"
    IDENTITY = "identity"
    RELU6 = "relu6"
    LEAKY_RELU = "leaky relu"  # its ``negative_slope`` is an attribute
    PRELU = "prelu"  # its slopes are read by :func:`slopes_of`
    HARD_TANH = "hard tanh"  # so are ``min_val`` and ``max_val``
    HARD_SIGMOID = "hard sigmoid"
    TANH = "tanh"
    SIGMOID = "sigmoid"
    SILU = "silu"
    GELU = "gelu"  # its ``approximate`` is an attribute
    OTHER = "other"


WEIGHTED = (Kind.LINEAR, Kind.CONV1D, Kind.CONV2D)
#: Activations that fall and then rise: a small table behind few bits, many comparisons behind a wide sum.
TURNING = (Kind.SILU, Kind.GELU)
ACTIVATIONS = tuple(member for member in Kind if member not in (*WEIGHTED, Kind.OTHER))

_KINDS: tuple[tuple[type[nn.Module], Kind], ...] = (
    (bnn.QuantLinear, Kind.LINEAR),
    (bnn.QuantConv1d, Kind.CONV1D),
    (bnn.QuantConv2d, Kind.CONV2D),
    (bnn.QuantReLU, Kind.RELU),
    (bnn.QuantIdentity, Kind.IDENTITY),
    (QuantReLU6, Kind.RELU6),
    (QuantLeakyReLU, Kind.LEAKY_RELU),
    (QuantPReLU, Kind.PRELU),
    (QuantHardTanh, Kind.HARD_TANH),
    (QuantHardSigmoid, Kind.HARD_SIGMOID),
    (QuantTanh, Kind.TANH),
    (QuantSigmoid, Kind.SIGMOID),
    (QuantSiLU, Kind.SILU),
    (QuantGELU, Kind.GELU),
    (QuantLayerMixin, Kind.OTHER),
)


_COMPUTED = ((nn.Identity, Kind.IDENTITY), (nn.Sigmoid, Kind.SIGMOID), (nn.Tanh, Kind.TANH))


def kind(module: nn.Module) -> Kind | None:
    """What ``module`` does; None if it is no layer of Brevitas. These modules are the leaves of an fx trace."""
    found = next((kind for layer, kind in _KINDS if isinstance(module, layer)), None)
    return _computed(module) if found is Kind.OTHER else found


def _computed(module: nn.Module) -> Kind:
    """What an activation layer of Brevitas computes before it quantizes, as far as we know that function."""
    if not isinstance(module, QuantNonLinearActLayer):
        return Kind.OTHER
    proxy = module.act_quant.fused_activation_quant_proxy
    impl = None if proxy is None else proxy.activation_impl
    same = (kind for layer, kind in _COMPUTED if isinstance(impl, layer) and type(impl).forward is layer.forward)
    return next(same, Kind.OTHER)


def is_quantized(module: nn.Module) -> bool:
    """Whether ``module`` is a layer of Brevitas, ours or plain, to be read with the readers below."""
    return kind(module) is not None


def weight_of(layer: nn.Module, name: str = "") -> QuantizedArray | None:
    """The weights of a linear or convolutional layer, output channels first; None if they are not quantized.

    Binary codes, -1 and +1, are given two bits. Raises ``UnreadableQuantizer`` for a layer that also quantizes its own
    input or output the way of Brevitas, for a zero point other than zero, and for anything whose codes times scale are
    not exactly what the layer computes with.
    """
    weighted = _expect(layer, name, *WEIGHTED)
    if not weighted.weight_quant.is_quant_enabled:
        return None
    with _reading(layer, name, "weights"):
        refuse_masked_binary(layer)
        if isinstance(layer, WeightedLayer):
            layer.ensure_range()
        return _array(weighted.quant_weight())


def bias_of(
    layer: nn.Module, input_scale: Fraction | None = None, name: str = ""
) -> QuantizedArray | NDArray[np.float64] | None:
    """The bias of such a layer, codes of shape (outputs,); float64 if not quantized; None if there is none.

    Some Brevitas bias quantizers take their scale from the input: ``input_scale`` is that of what enters the layer.
    Raises like :func:`weight_of`.
    """
    weighted = _expect(layer, name, *WEIGHTED)
    if weighted.bias is None:
        return None
    with _reading(layer, name, "bias"):
        if not weighted.bias_quant.is_quant_enabled:
            return finite(weighted.bias.detach().cpu().numpy())
        if not weighted.bias_quant.requires_input_scale:
            return _array(weighted.bias_quant(weighted.bias))
        if input_scale is None:
            raise UnreadableQuantizer("its scale comes from the input, which has none here; quantize the input")
        scale = weighted.bias.new_tensor(float(input_scale))
        rows = weighted.bias.new_zeros(1, *weighted.weight.shape[1:])
        entering = IntQuantTensor(rows, scale, 0.0, 8.0, True, False)
        return _array(weighted.bias_quant(weighted.bias, entering, weighted.quant_weight()))


def slopes_of(layer: nn.Module, name: str = "") -> QuantizedArray:
    """The slopes of a QuantPReLU below zero, one or one per channel. Raises like :func:`weight_of`."""
    sloping = _expect(layer, name, Kind.PRELU)
    with _reading(layer, name, "slopes"):
        return _array(sloping.quant_weight())


def accumulator_of(layer: nn.Module, name: str = "") -> FixedPoint | None:
    """The format in which a linear or convolutional layer stores its sums, truncated and wrapped; None if exactly."""
    _expect(layer, name, *WEIGHTED)
    return layer.spec.accumulator if isinstance(layer, WeightedLayer) else None


def output_of(layer: nn.Module, name: str = "") -> ActivationQuantizer | BinaryQuantizer | None:
    """How such a layer quantizes what it has summed up (and stored); None if it does not.

    Raises like :func:`activation_of`.
    """
    _expect(layer, name, *WEIGHTED)
    behind = layer.output if isinstance(layer, WeightedLayer) else None
    return None if behind is None else activation_of(behind, f"{_label(layer, name)}.output")


def activation_of(layer: nn.Module, name: str = "") -> ActivationQuantizer | BinaryQuantizer | None:
    """How an activation layer or an identity quantizes its result; None if it does not.

    Raises ``UncalibratedQuantizer`` where no data has set the range yet, and ``UnreadableQuantizer`` like
    :func:`weight_of`, also for scales per channel and roundings without a vendor's name.
    """
    proxy = _expect(layer, name, *ACTIVATIONS).act_quant
    if not proxy.is_quant_enabled:
        return None
    with _reading(layer, name, "activations"):
        scaling = getattr(proxy.fused_activation_quant_proxy.tensor_quant, "scaling_impl", None)
        # Brevitas counts the batches it has seen; a range of ours says so itself.
        if not getattr(layer, "calibrated", True) or getattr(scaling, "counter", 1) == 0:
            raise UncalibratedQuantizer(uncalibrated(_label(layer, name)))
        scale, zero_point, width = proxy.scale(), proxy.zero_point(), _whole(proxy.bit_width())
        if scale is None or scale.numel() != 1:
            raise UnreadableQuantizer("one scale for the whole tensor is needed, not one per channel or group")
        _refuse_zero_point(zero_point)
        if width == 1 and proxy.is_signed:
            return BinaryQuantizer(Fraction(scale.item()))
        if proxy.rounding_mode not in _ROUNDINGS:
            raise UnreadableQuantizer(f"no vendor's type rounds like {proxy.rounding_mode}; use ROUND")
        return ActivationQuantizer(
            width=width,
            signed=bool(proxy.is_signed),
            narrow=bool(proxy.is_narrow_range),
            scale=Fraction(scale.item()),
            rounding=_ROUNDINGS[proxy.rounding_mode],
        )


def width_of(layer: nn.Module, name: str = "") -> int | None:
    """The bits of what an activation or an identity makes, whether its range is known or not; None if not quantized."""
    proxy = _expect(layer, name, *ACTIVATIONS).act_quant
    if not proxy.is_quant_enabled:
        return None
    with _reading(layer, name, "activations"):
        return _whole(proxy.bit_width())


def scale_of(layer: nn.Module, name: str = "") -> tuple[Fraction, ...] | None:
    """The rescaling constants, exactly: by what the integer codes of weights or activations are multiplied.

    One, or one per output channel of the weights; None if the layer is not quantized. Raises as the other readers do.
    """
    if kind(layer) in WEIGHTED:
        weights = weight_of(layer, name)
        return None if weights is None else weights.scale
    quantizer = activation_of(layer, name)
    return None if quantizer is None else (quantizer.scale,)


def format_of(layer: nn.Module, name: str = "") -> FixedPoint:
    """The fixed-point format of a layer's weights or of an activation. Power-of-two scales only."""
    read = weight_of(layer, name) if kind(layer) in WEIGHTED else activation_of(layer, name)
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
        wanted = ", ".join(k.value for k in kinds[:-1]) + f" or {kinds[-1].value}"
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
    width, signed = _whole(tensor.bit_width), bool(tensor.signed)
    # As a number, +1 needs a second bit.
    return QuantizedArray.of(values, scale, 2 if width == 1 and signed else width, signed)


def _refuse_zero_point(zero_point: Tensor | None) -> None:
    if zero_point is None or bool((zero_point != 0).any()):
        raise UnreadableQuantizer(f"its zero point is {zero_point}; use a symmetric quantizer, whose zero point is 0")


def _whole(width: Tensor) -> int:
    if width.numel() != 1 or width.item() != round(width.item()):
        raise UnreadableQuantizer(f"its width is {width.tolist()}; one whole number of bits is needed")
    return int(width.item())
