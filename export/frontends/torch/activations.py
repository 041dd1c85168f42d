"""Activations and quantizers."""

from __future__ import annotations

import torch
from torch import nn

from compress import layers
from compress.layers import Kind
from compress.learned.frozen import FrozenActivation
from export.frontends.builder import quantizer_modes, rationals
from export.frontends.functions import (
    HARD_SIGMOID,
    RELU,
    RELU6,
    SIGMOID,
    SILU,
    TANH,
    Activation,
    Leak,
    gelu,
    hard_tanh,
    leaky_relu,
)
from export.frontends.normalizing import softmax
from export.frontends.torch.lowering import Operand, Site, of_call, of_layer
from export.frontends.value import Rationals, Value
from export.modes import Modes

#: Those that only leave numbers out, and keep the format of what they read.
_NO_NEW_NUMBERS = (nn.ReLU, nn.ReLU6)


@of_layer(Kind.RELU)
def quantized_relu(site: Site, module: nn.Module, x: Operand) -> Value:
    return _quantized(site, module, site.build.activate(f"{site.label}.relu", site.settled(x), RELU))


@of_layer(Kind.IDENTITY)
def quantized_identity(site: Site, module: nn.Module, x: Operand) -> Value:
    return _quantized(site, module, x)


@of_layer(
    Kind.RELU6, Kind.LEAKY_RELU, Kind.HARD_TANH, Kind.HARD_SIGMOID, Kind.TANH, Kind.SIGMOID, Kind.SILU, Kind.GELU
)  # fmt: skip
def quantized_activation(site: Site, module: nn.Module, x: Operand) -> Value:
    return _quantized(site, module, site.build.pending(site.label, site.settled(x), _function(site, module)))


@of_layer(Kind.PRELU)
def quantized_prelu(site: Site, module: nn.Module, x: Operand) -> Value:
    read, value = layers.slopes_of(module, site.label), site.settled(x)
    slopes = tuple(int(code) * read.scale[0] for code in read.codes)
    return _quantized(site, module, site.build.pending(site.label, value, leak(site, value, slopes)))


@of_layer(nn.PReLU)
def prelu(site: Site, module: nn.PReLU, x: Operand) -> Value:
    slopes, value = rationals(module.weight.detach().cpu().double().numpy()), site.settled(x)
    return site.build.activate(site.label, value, leak(site, value, slopes), site.precision)


def leak(site: Site, x: Value, slopes: Rationals) -> Activation:
    if len(slopes) not in (1, x.tensor.shape[0]):
        raise site.refusal(f"has {len(slopes)} slopes, but reads {x.tensor}")
    return Activation(Leak(slopes))


@of_layer(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Hardsigmoid, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU)
def activation(site: Site, module: nn.Module, x: Operand) -> Value:
    """A float layer, taken by the quantizer that follows, or cast to its precision."""
    precision = None if isinstance(module, _NO_NEW_NUMBERS) else site.precision
    return site.build.activate(site.label, site.settled(x), _function(site, module), precision)


@of_layer(nn.Softmax)
def softmax_layer(site: Site, module: nn.Softmax, x: Operand) -> Value:
    return softmax_call(site, x, module.dim)


@of_call(torch.softmax, nn.functional.softmax, "softmax")
def softmax_call(site: Site, x: Operand, dim: int | None = None, _stacklevel: int = 3, dtype: object = None) -> Value:
    if dtype is not None or not isinstance(_stacklevel, int):  # the latter is torch.softmax's third argument
        raise site.refusal("converts its result to another type; leave out dtype")
    value = site.settled(x)
    if dim not in (-1, len(value.tensor.shape)):
        raise site.refusal(f"takes a softmax over dim={dim}; over the features of one sample it is dim=-1")
    return softmax(site.build, site.label, value, site.precision)


@of_layer(nn.LogSoftmax)
def log_softmax_layer(site: Site, module: nn.LogSoftmax, x: Operand) -> Value:
    return log_softmax(site)


@of_call(torch.log_softmax, nn.functional.log_softmax, "log_softmax")
def log_softmax(site: Site, *arguments: object, **named: object) -> Value:
    raise site.refusal(
        "the logarithm of a softmax belongs to the loss; export the part before it, whose largest output is at the "
        "same place"
    )


@of_call(torch.relu, nn.functional.relu, "relu")
def relu(site: Site, x: Operand, inplace: bool = False) -> Value:
    return site.build.activate(site.label, site.settled(x), RELU)


@of_layer(FrozenActivation)
def frozen_activation(site: Site, module: FrozenActivation, x: Operand) -> Value:
    if module.rectify:
        x = site.build.activate(f"{site.label}.relu", site.settled(x), RELU)
    learned = module.channel_formats()
    return site.build.quantize_channels(site.label, x, learned.formats, Modes(learned.rounding, learned.overflow))


def rounded(site: Site, x: Operand, q: layers.ActivationQuantizer | layers.BinaryQuantizer) -> Value:
    """``x`` as a quantizer makes it."""
    if isinstance(q, layers.BinaryQuantizer):
        return site.build.sign(site.label, x, q.scale)
    modes = quantizer_modes(site.label, q.rounding, q.narrow, q.signed)
    return site.build.quantize(site.label, x, q.width, q.signed, q.scale, modes)


def _quantized(site: Site, module: nn.Module, x: Operand) -> Value:
    quantizer = layers.activation_of(module, site.label)
    return site.settled(x) if quantizer is None else rounded(site, x, quantizer)


def _function(site: Site, module: nn.Module) -> Activation:
    """The function that a layer computes, before it quantizes if it does."""
    match module:
        case nn.ReLU():
            return RELU
        case nn.ReLU6() | layers.QuantReLU6():
            return RELU6
        case nn.LeakyReLU() | layers.QuantLeakyReLU():
            return leaky_relu(module.negative_slope)
        case nn.Hardtanh() | layers.QuantHardTanh():
            return hard_tanh(module.min_val, module.max_val)
        case nn.Hardsigmoid() | layers.QuantHardSigmoid():
            return HARD_SIGMOID
        case nn.GELU() | layers.QuantGELU():
            return gelu(module.approximate)
    match layers.kind(module), module:  # Brevitas's own layers among them
        case (Kind.TANH, _) | (_, nn.Tanh()):
            return TANH
        case (Kind.SIGMOID, _) | (_, nn.Sigmoid()):
            return SIGMOID
        case (Kind.SILU, _) | (_, nn.SiLU()):
            return SILU
    raise AssertionError(f"{site.label}: {module} is registered and has no function")
