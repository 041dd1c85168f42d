"""Fully connected layers, quantized or float, what they share with convolutions, and batch normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
from torch import nn

from compress import layers
from compress.fixed import encode
from compress.learned.frozen import FrozenLinear
from export.frontends.builder import rationals, weight_const
from export.frontends.torch.activations import rounded
from export.frontends.torch.lowering import Operand, Site, of_layer
from export.frontends.torch.movement import rearranged
from export.frontends.value import ZERO, Rationals, Value
from export.ir import Const
from export.modes import Modes
from export.ops.windows import Sliding, Window


@of_layer(layers.Kind.LINEAR)
def quantized_linear(site: Site, module: nn.Linear, x: Operand) -> Value:
    return _along_features(site, x, partial(quantized, site, module))


@of_layer(FrozenLinear)
def frozen_linear(site: Site, module: FrozenLinear, x: Operand) -> Value:
    array, bias = module.weight_codes(), numbers(module.bias_codes())

    def layer(x: Value, window: Window | None) -> Value:
        weight, scale = weight_const(_for(array.codes, window), array.scale)
        return site.build.linear(site.label, x, weight, scale, bias, window)

    return _along_features(site, x, layer)


@of_layer(nn.Linear)
def linear(site: Site, module: nn.Linear, x: Operand) -> Value:
    return _along_features(site, x, partial(in_formats, site, module))


def quantized(site: Site, module: nn.Module, x: Value, window: Window | None = None) -> Value:
    """A layer with quantized weights: the exact sum, then what the layer does to it: stored in a register, quantized.

    Fully connected without a ``window``, a convolution with one.
    """
    label = site.label
    array = layers.weight_of(module, label)
    if array is None:
        return in_formats(site, module, x, window)
    weight, scale = weight_const(_for(array.codes, window), array.scale)
    bias = layers.bias_of(module, x.scale[0] * x.tensor.format.lsb if len(x.scale) == 1 else None, label)
    register, output = layers.accumulator_of(module, label), layers.output_of(module, label)
    exact = label if register is None and output is None else f"{label}.sum"
    y = site.build.linear(exact, x, weight, scale, numbers(bias), window)
    if register is not None:  # truncated and wrapped, as the vendors' types are by default
        y = site.build.cast(label if output is None else f"{label}.stored", y, register, Modes())
    return y if output is None else rounded(site, y, output)


def in_formats(site: Site, module: Any, x: Value, window: Window | None = None) -> Value:
    """A layer with float weights, in stated formats."""
    precision = site.precision
    if precision is None:
        raise site.refusal("has float weights and no precision; quantize() the model, or pass precision=Precision(...)")
    weights = _for(array_of(module.weight), window)
    biases = np.zeros(len(weights)) if module.bias is None else array_of(module.bias)
    weight, bias = (
        Const(encode(values, fmt), fmt) for values, fmt in ((weights, precision.weight), (biases, precision.bias))
    )
    return site.build.linear_with_precision(site.label, x, weight, bias, precision, window)


def _along_features(site: Site, x: Operand, layer: Callable[[Value, Window | None], Value]) -> Value:
    """Where samples have more axes than that of the features, at each place: as a convolution of one tap."""
    x = site.settled(x)
    places = x.tensor.shape[:-1]
    if not places:
        return layer(x, None)
    columns = rearranged(replace(site, label=f"{site.label}.columns"), x, lambda c: c.flatten(1, -2).transpose(1, 2))
    y = layer(columns, Window((Sliding(prod(places), 1),)))
    made: Value = rearranged(
        replace(site, label=f"{site.label}.rows"), y, lambda c: c.transpose(1, 2).unflatten(1, places)
    )
    return made


def _for(weights: np.ndarray, window: Window | None) -> np.ndarray:
    """The weights of a fully connected layer have no axes for the taps of a window."""
    return weights if window is None else weights.reshape(*weights.shape[:2], *window.kernel)


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
