"""Which layers get a quantized counterpart, and what that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from compress.layers import (
    QuantConv1d,
    QuantConv2d,
    QuantGELU,
    QuantHardSigmoid,
    QuantHardTanh,
    QuantIdentity,
    QuantLeakyReLU,
    QuantLinear,
    QuantPReLU,
    QuantReLU,
    QuantReLU6,
    QuantSigmoid,
    QuantSiLU,
    QuantSpec,
    QuantTanh,
    Scale,
)


def _linear(layer: Any, spec: QuantSpec) -> Any:
    return QuantLinear(layer.in_features, layer.out_features, layer.bias is not None, spec=spec)


def _convolution(make: Callable[..., nn.Module]) -> Callable[[Any, QuantSpec], Any]:
    def converted(layer: Any, spec: QuantSpec) -> Any:
        if layer.padding_mode != "zeros":
            raise ValueError(f"padding_mode={layer.padding_mode!r} has no counterpart; use padding_mode='zeros'")
        shape = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
        return make(*(getattr(layer, name) for name in shape), layer.bias is not None, spec=spec)

    return converted


WEIGHTED: dict[type[nn.Module], Callable[[Any, QuantSpec], Any]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution(QuantConv1d),
    nn.Conv2d: _convolution(QuantConv2d),
}
ACTIVATIONS: dict[type[nn.Module], Callable[[Any, QuantSpec], Any]] = {
    nn.ReLU: lambda _, spec: QuantReLU(spec=spec),
    nn.ReLU6: lambda _, spec: QuantReLU6(spec=spec),
    nn.LeakyReLU: lambda layer, spec: QuantLeakyReLU(layer.negative_slope, spec=spec),
    nn.PReLU: lambda layer, spec: QuantPReLU(layer.num_parameters, spec=spec),
    nn.Hardtanh: lambda layer, spec: QuantHardTanh(layer.min_val, layer.max_val, spec=spec),
    nn.Hardsigmoid: lambda _, spec: QuantHardSigmoid(spec=spec),
    nn.Tanh: lambda _, spec: QuantTanh(spec=spec),
    nn.Sigmoid: lambda _, spec: QuantSigmoid(spec=spec),
    nn.SiLU: lambda _, spec: QuantSiLU(spec=spec),
    nn.GELU: lambda layer, spec: QuantGELU(layer.approximate, spec=spec),
}
CONVERTED = tuple(WEIGHTED | ACTIVATIONS)

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)
MAXIMUM = (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d)
SHAPE = (
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Upsample),
    *(nn.UpsamplingNearest2d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.CircularPad1d, nn.CircularPad2d),
)
#: Layers that need no counterpart, only perhaps a quantizer behind them.
KEPT = BATCH_NORM + MAXIMUM + AVERAGE + DROPOUT + SHAPE

#: What to do about layers that are often met and have no counterpart.
_CURES: dict[type[nn.Module], str] = {
    **dict.fromkeys(
        (nn.Softmax, nn.LogSoftmax, nn.Softmax2d),
        "leave it out (the largest score stays the largest, and nn.CrossEntropyLoss wants scores)",
    ),
    **dict.fromkeys((nn.Hardswish, nn.ELU, nn.SELU, nn.Mish, nn.Softplus), "use nn.ReLU instead"),
    **dict.fromkeys((nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d), "use a batch norm instead"),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d), "use nn.Linear or nn.Conv2d instead"),
}


def quantized(layer: nn.Module, spec: QuantSpec) -> nn.Module:
    """The counterpart of a ``CONVERTED`` layer, with its very parameters. Raises ``ValueError`` where there is none."""
    counterpart: Any = (WEIGHTED | ACTIVATIONS)[type(layer)](layer, spec)
    if isinstance(layer, tuple(WEIGHTED)):
        counterpart.weight, counterpart.bias = layer.weight, layer.bias
    if isinstance(layer, nn.PReLU):
        counterpart.weight = layer.weight
    return counterpart.train(layer.training)


def inserted_spec(spec: QuantSpec, signed: bool) -> QuantSpec:
    """What a ``QuantIdentity`` between two layers needs to make activations of ``spec``, on a power-of-two scale."""
    return replace(
        spec,
        input_width=spec.activation_width,
        input_frac=spec.activation_frac,
        input_scale=Scale.POWER_OF_TWO,
        input_signed=signed,
    )


def quantizer(spec: QuantSpec) -> QuantIdentity:
    return QuantIdentity(spec=spec)


def moves_numbers(layer: nn.Module) -> bool:
    """Whether every number that ``layer`` gives is one that it reads, or zero."""
    return type(layer) in SHAPE and getattr(layer, "mode", "nearest").startswith("nearest")


def refusal(layer: nn.Module) -> str:
    """Why ``layer`` cannot be quantized, and what to do."""
    supported = ", ".join(f"nn.{kind.__name__}" for kind in CONVERTED + KEPT)
    cure = _CURES.get(type(layer), "replace it")
    return (
        f"{type(layer).__name__} cannot be quantized: {cure}, or let it stay a float layer with the spec None; "
        f"supported are {supported}"
    )
