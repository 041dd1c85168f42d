"""Functional calls as the layers they are: ``F.max_pool2d(x, 2)`` is ``nn.MaxPool2d(2)(x)``."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from compress.quantize.tracing import UnsupportedLayer, call_of

ADD_CALLS = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
SUBTRACT_CALLS = frozenset({operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "sub_", "subtract"})
MULTIPLY_CALLS = frozenset({operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_", "multiply"})
#: The larger, or smaller, of two tensors element by element, and the largest, or smallest, along axes of one.
EXTREME_CALLS = frozenset({torch.maximum, torch.minimum, "maximum", "minimum"})
REDUCED_EXTREME_CALLS = frozenset({torch.amax, torch.amin, "amax", "amin"})
ARGMAX_CALLS = frozenset({torch.argmax, "argmax"})
#: Calls that write the result over their first operand, and what they are otherwise.
IN_PLACE_ARITHMETIC: dict[Any, Any] = {
    **dict.fromkeys((operator.iadd, "add_"), operator.add),
    **dict.fromkeys((operator.isub, "sub_"), operator.sub),
    **dict.fromkeys((operator.imul, "mul_"), operator.mul),
}
CAT_CALLS = frozenset({torch.cat, torch.concat, torch.concatenate})
MEAN_CALLS = frozenset({torch.mean, "mean"})


@dataclass(frozen=True)
class _Layer:
    """The layer that a call stands for, and the call's arguments behind the tensor, by name in order."""

    make: Callable[..., nn.Module]
    arguments: tuple[str, ...] = ()


def _clamp(min: float | None = None, max: float | None = None) -> nn.Module:
    if min == 0 and max is None:
        return nn.ReLU()
    if min is None or max is None:
        raise ValueError("a clamp needs both bounds, or min=0 alone")
    return nn.Hardtanh(min, max)


def _dropout(layer: type[nn.Module]) -> Callable[..., nn.Module]:
    return lambda p, training: layer(p) if training else nn.Identity()


_RELU = _Layer(nn.ReLU)
_TANH = _Layer(nn.Tanh)
_SIGMOID = _Layer(nn.Sigmoid)
_CLAMP = _Layer(_clamp, ("min", "max"))
_MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_ADAPTIVE = ("output_size", "return_indices")

_LAYERS: dict[Any, _Layer] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, "relu", "relu_"), _RELU),
    **dict.fromkeys((torch.tanh, torch.tanh_, "tanh", "tanh_"), _TANH),
    **dict.fromkeys((torch.sigmoid, torch.sigmoid_, "sigmoid", "sigmoid_"), _SIGMOID),
    **dict.fromkeys((torch.clamp, torch.clamp_, "clamp", "clamp_"), _CLAMP),
    F.relu6: _Layer(nn.ReLU6),
    F.leaky_relu: _Layer(nn.LeakyReLU, ("negative_slope",)),
    F.hardtanh: _Layer(nn.Hardtanh, ("min_val", "max_val")),
    F.hardsigmoid: _Layer(nn.Hardsigmoid),
    F.silu: _Layer(nn.SiLU),
    F.gelu: _Layer(nn.GELU, ("approximate",)),
    F.interpolate: _Layer(nn.Upsample, ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")),
    F.pixel_shuffle: _Layer(nn.PixelShuffle, ("upscale_factor",)),
    F.channel_shuffle: _Layer(nn.ChannelShuffle, ("groups",)),
    **dict.fromkeys((F.max_pool1d, torch.max_pool1d), _Layer(nn.MaxPool1d, _MAX)),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _Layer(nn.MaxPool2d, _MAX)),
    F.avg_pool1d: _Layer(nn.AvgPool1d, _AVERAGE),  # torch's own function, as avg_pool2d and adaptive_avg_pool1d are
    F.avg_pool2d: _Layer(nn.AvgPool2d, _AVERAGE),
    F.adaptive_avg_pool1d: _Layer(nn.AdaptiveAvgPool1d, _ADAPTIVE),
    F.adaptive_avg_pool2d: _Layer(nn.AdaptiveAvgPool2d, _ADAPTIVE),
    F.adaptive_max_pool1d: _Layer(nn.AdaptiveMaxPool1d, _ADAPTIVE),
    F.adaptive_max_pool2d: _Layer(nn.AdaptiveMaxPool2d, _ADAPTIVE),
    F.dropout: _Layer(_dropout(nn.Dropout), ("p", "training")),
    F.dropout1d: _Layer(_dropout(nn.Dropout1d), ("p", "training")),
    F.dropout2d: _Layer(_dropout(nn.Dropout2d), ("p", "training")),
}
_IN_PLACE_CALLS = frozenset({*IN_PLACE_ARITHMETIC, torch.relu_, torch.tanh_, torch.sigmoid_, torch.clamp_})


def layer_of(node: fx.Node) -> nn.Module | None:
    """The layer that the call ``node`` stands for; None if it stands for none.

    Raises ``UnsupportedLayer`` for arguments that only the run gives, and for those that no layer has.
    """
    layer = _LAYERS.get(node.target)
    if layer is None:
        return None
    given = dict(zip(("input", *layer.arguments), node.args, strict=False)) | node.kwargs
    given.pop("input", None)
    given.pop("inplace", None)
    for name, value in given.items():
        if any(isinstance(part, fx.Node) for part in (value if isinstance(value, tuple | list) else (value,))):
            raise UnsupportedLayer(
                f"{node.name}: the {name} of {call_of(node)} is computed from the input at run time; state it as a "
                "number (pooling over all there is: nn.AdaptiveAvgPool2d(1))"
            )
    try:
        return layer.make(**given)
    except (TypeError, ValueError) as error:
        raise UnsupportedLayer(f"{node.name}: {call_of(node)} called in this way is no layer: {error}") from error


def padding_constant(node: fx.Node) -> float:
    """The number that ``node`` puts beside those it moves; 0 if it is no padding by a constant.

    Raises ``UnsupportedLayer`` for one that only the run gives, and for one that is not finite.
    """
    if node.target is not F.pad:
        return 0.0
    given = dict(zip(("input", "pad", "mode", "value"), node.args, strict=False)) | node.kwargs
    constant = given.get("value") or 0.0
    if given.get("mode", "constant") != "constant":
        return 0.0
    if not isinstance(constant, int | float) or not math.isfinite(constant):
        raise UnsupportedLayer(f"{node.name}: pads by {constant}, which no code stands for; state a finite number")
    return float(constant)


def writes_in_place(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether the call ``node``, of ``layer`` if of one, changes the tensor that it reads."""
    in_place_method = node.op == "call_method" and str(node.target).endswith("_")
    of_layer = node.op == "call_module" and getattr(layer, "inplace", False)
    return bool(in_place_method or of_layer or node.target in _IN_PLACE_CALLS or node.kwargs.get("inplace", False))
