"""Fully connected layers, quantized or float, and batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from compress import layers
from compress.fixed import encode
from compress.learned.frozen import FrozenLinear
from export.frontends.builder import rationals, weight_const
from export.frontends.torch.activations import rounded
from export.frontends.torch.lowering import Operand, Site, of_layer
from export.frontends.value import ZERO, Rationals, Value
from export.ir import Const
from export.modes import Modes


@of_layer(layers.Kind.LINEAR)
def quantized_linear(site: Site, module: nn.Linear, x: Operand) -> Value:
    """The exact sum, then what the layer does to it: stored in a register, quantized."""
    x, label = site.settled(x), site.label
    array = layers.weight_of(module, label)
    if array is None:
        return linear(site, module, x)
    weight, scale = weight_const(array.codes, array.scale)
    bias = layers.bias_of(module, x.scale[0] * x.tensor.format.lsb if len(x.scale) == 1 else None, label)
    register, output = layers.accumulator_of(module, label), layers.output_of(module, label)
    exact = label if register is None and output is None else f"{label}.sum"
    y = site.build.linear(exact, x, weight, scale, numbers(bias))
    if register is not None:  # truncated and wrapped, as the vendors' types are by default
        y = site.build.cast(label if output is None else f"{label}.stored", y, register, Modes())
    return y if output is None else rounded(site, y, output)


@of_layer(FrozenLinear)
def frozen_linear(site: Site, module: FrozenLinear, x: Operand) -> Value:
    weight, bias = module.weight_codes(), numbers(module.bias_codes())
    return site.build.linear(site.label, site.settled(x), *weight_const(weight.codes, weight.scale), bias)


@of_layer(nn.Linear)
def linear(site: Site, module: nn.Linear, x: Operand) -> Value:
    """A float layer in stated formats."""
    x, precision = site.settled(x), site.precision
    if precision is None:
        raise site.refusal("has float weights and no precision; quantize() the model, or pass precision=Precision(...)")
    weights = array_of(module.weight)
    biases = np.zeros(len(weights)) if module.bias is None else array_of(module.bias)
    weight, bias = (
        Const(encode(values, fmt), fmt) for values, fmt in ((weights, precision.weight), (biases, precision.bias))
    )
    return site.build.linear_with_precision(site.label, x, weight, bias, precision)


@of_layer(nn.BatchNorm1d, nn.BatchNorm2d)
def batch_norm(site: Site, module: nn.BatchNorm1d | nn.BatchNorm2d, x: Operand) -> Value:
    x = site.settled(x)
    if module.running_mean is None or module.running_var is None:
        raise site.refusal("keeps no running statistics; build it with track_running_stats=True")
    if x.tensor.shape[0] != module.num_features:
        raise site.refusal(f"normalises {module.num_features} features, but reads {x.tensor}")
    # The user's function is this one in double precision, taken as exact rationals from here on.
    scale = rationals(1 / np.sqrt(array_of(module.running_var) + module.eps))
    offset = tuple(-m * s for m, s in zip(rationals(array_of(module.running_mean)), scale, strict=True))
    if module.affine:
        gamma, beta = rationals(array_of(module.weight)), rationals(array_of(module.bias))
        offset = tuple(g * o + b for g, o, b in zip(gamma, offset, beta, strict=True))
        scale = tuple(g * s for g, s in zip(gamma, scale, strict=True))
    return site.build.affine(site.label, x, scale, offset, site.precision)


def numbers(bias: layers.QuantizedArray | Any | None) -> Rationals:
    """A bias in the user's numbers, exactly."""
    if bias is None:
        return (ZERO,)
    if isinstance(bias, layers.QuantizedArray):
        scales = bias.scale * len(bias.codes) if len(bias.scale) == 1 else bias.scale
        return tuple(int(code) * scale for code, scale in zip(bias.codes, scales, strict=True))
    return rationals(bias)


def array_of(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
