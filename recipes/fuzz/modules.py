"""Random quantized torch networks of what users train: small, seeded and covering."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import brevitas.nn as bnn
import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from compress.fixed import FixedPoint
from compress.layers import (
    QuantConv1d,
    QuantConv2d,
    QuantGELU,
    QuantHardSigmoid,
    QuantHardTanh,
    QuantIdentity,
    QuantizedArray,
    QuantLeakyReLU,
    QuantLinear,
    QuantReLU,
    QuantReLU6,
    QuantSigmoid,
    QuantSiLU,
    QuantSpec,
    QuantTanh,
    Range,
    Scale,
    UncalibratedQuantizer,
    is_quantized,
)
from compress.layers.ranges import LearnedRange
from compress.learned.frozen import FrozenActivation, FrozenLinear, finest_grid
from compress.mask import Mask
from compress.structure import CHANNELS, NEURONS, WEIGHTS, Structure, multipliers
from export.ops.reuse import legal_reuse_factors

_OURS = (QuantLinear, QuantConv1d, QuantConv2d, LearnedRange)
_LEARNED = (FrozenLinear, FrozenActivation)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)

#: How many are drawn so that float64 holds every number in them.
_EXACT = 0.6


def random_module(rng: np.random.Generator, everything: bool = True) -> tuple[nn.Module, tuple[int, ...]]:
    """A calibrated network in eval mode, and the shape of a sample. Redrawn where an activation never leaves zero.

    Without ``everything`` it is a chain of fully connected layers and what belongs to them.
    """
    exact = everything and bool(rng.random() < _EXACT)
    while True:
        torch.manual_seed(int(rng.integers(1 << 31)))
        try:
            return _random_module(rng, everything, exact)
        except UncalibratedQuantizer:
            continue


def has_power_of_two_scales(model: nn.Module) -> bool:
    """Whether float64 arithmetic holds every number in it: then the module is exact, and the graph must equal it."""
    layers = [m for m in model.modules() if is_quantized(m)]
    ours = all(isinstance(m, _LEARNED) or (isinstance(m, _OURS) and not _has_float_scales(m.spec)) for m in layers)
    return ours and not any(isinstance(m, (*_NORMS, nn.Softmax)) for m in model.modules())


def _has_float_scales(spec: QuantSpec) -> bool:
    return Scale.FLOAT in (spec.weight_scale, spec.activation_scale, spec.input_scale)


def _random_module(rng: np.random.Generator, everything: bool, exact: bool) -> tuple[nn.Module, tuple[int, ...]]:
    if rng.random() < 0.2:
        return _learned_module(rng, exact)
    brevitas = bool(rng.random() < 0.3) and not exact
    images = rng.random() < 0.2
    shape = tuple(int(n) for n in rng.integers(1, 4, size=3 if images else 1))
    if not images:
        shape = (int(rng.integers(1, 10)),)
    layers: list[nn.Module] = [QuantIdentity(spec=replace(_spec(rng), input_scale=Scale.POWER_OF_TWO))]
    made = shape
    if everything and rng.random() < 0.3:
        made = shape = tuple(int(n) for n in rng.integers(1, 6, size=int(rng.integers(2, 4))))
        for _ in range(rng.integers(1, 3)):
            stage, made = _convolution(rng, made, brevitas, exact)
            layers += [*stage, *_pool(rng, made)]
            made = _shape_behind(layers[-1], made) if isinstance(layers[-1], _POOLS) else made
        layers.append(nn.Flatten())
    elif images:
        layers.insert(int(rng.integers(0, 2)), nn.Flatten())
    n = int(np.prod(made))
    if rng.random() < 0.25:  # signs that meet signs
        binary = QuantSpec(weight_width=1, bias_width=int(rng.integers(2, 9)), activation_width=1)
        n_out = int(rng.integers(1, 9))
        layers += [QuantHardTanh(spec=binary), QuantLinear(n, n_out, spec=binary), QuantHardTanh(spec=binary)]
        n = n_out
    depth = int(rng.integers(1, 4))
    for level in range(depth):
        last = level == depth - 1
        n_out = int(rng.integers(1, 9))
        linear = _linear(rng, n, n_out, brevitas, exact)
        _sparsify(rng, linear)
        layers.append(linear)
        norm = bool(rng.random() < 0.4) and not exact
        if norm:
            layers.append(nn.BatchNorm1d(n_out, affine=bool(rng.random() < 0.8)))
        if rng.random() < 0.2:
            layers.append(nn.Dropout(0.3))
        if brevitas and not last:
            layers.append(bnn.QuantReLU(bit_width=int(rng.integers(2, 7))))
        elif not last or norm or brevitas:
            activation = _activation(rng, _spec(rng, exact))
            if rng.random() < 0.3 and isinstance(activation, QuantReLU | QuantIdentity):
                layers.append(nn.ReLU())
            layers.append(activation)
        n = n_out
    if everything and not exact and rng.random() < 0.2:
        layers += [QuantIdentity(spec=replace(_spec(rng), input_scale=Scale.POWER_OF_TWO)), nn.Softmax(dim=1)]
    model = nn.Sequential(*layers)
    x = torch.tensor(rng.normal(size=(64, *shape)) * 2, dtype=torch.float32)
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(x)
        for norm_layer in (m for m in model if isinstance(m, _NORMS)):
            _unsettle(rng, norm_layer)
        model.eval()(x)
    return model, shape


def _convolution(
    rng: np.random.Generator, shape: tuple[int, ...], brevitas: bool, exact: bool
) -> tuple[list[nn.Module], tuple[int, ...]]:
    """With any options, perhaps batch norm, an activation; and the shape that is made."""
    axes, channels = len(shape) - 1, shape[0]
    float_layer, ours, theirs, norm = _BY_AXES[axes - 1]
    groups = int(rng.choice([n for n in range(1, channels + 1) if channels % n == 0]))
    n_out = groups * int(rng.integers(1, 4))
    while True:
        kernel, stride, dilation, padding = (tuple(int(n) for n in rng.integers(low, high, size=axes))
                                             for low, high in ((1, 4), (1, 3), (1, 3), (0, 3)))  # fmt: skip
        options: dict[str, Any] = {"stride": stride, "dilation": dilation, "padding": padding, "groups": groups}
        try:
            made = _shape_behind(float_layer(channels, n_out, kernel, **options), shape)
            break
        except RuntimeError:  # a window larger than what there is
            continue
    options |= {"padding_mode": "replicate" if rng.random() < 0.1 else "zeros", "bias": bool(rng.random() < 0.8)}
    if brevitas:
        by_channel, width = bool(rng.random() < 0.5), int(rng.integers(2, 9))
        options |= {"weight_bit_width": width, "weight_scaling_per_output_channel": by_channel}
        layer = theirs(channels, n_out, kernel, **options)
    else:
        layer = ours(channels, n_out, kernel, spec=_spec(rng, exact), **options)
    _sparsify(rng, layer)
    act = bnn.QuantReLU(bit_width=int(rng.integers(2, 7))) if brevitas else _activation(rng, _spec(rng, exact))
    return [layer, *([norm(n_out)] if rng.random() < 0.3 and not exact else []), act], made


def _pool(rng: np.random.Generator, shape: tuple[int, ...]) -> list[nn.Module]:
    """Perhaps; the mean of a power of two of numbers, which float64 holds."""
    if rng.random() < 0.5 or min(shape[1:]) < 2:
        return []
    largest, mean = _POOLS[2 * len(shape) - 4 :][:2]
    if rng.random() < 0.4:
        return [mean(2, int(rng.integers(1, 3)))]
    return [largest(int(rng.integers(2, 4)), int(rng.integers(1, 3)), 1, ceil_mode=bool(rng.integers(2)))]


def _shape_behind(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(layer(torch.zeros(1, *shape)).shape[1:])


def _learned_module(rng: np.random.Generator, exact: bool) -> tuple[nn.Module, tuple[int, ...]]:
    """Layers whose widths are said to have been learned: a format for each channel, or none."""
    sizes = [int(n) for n in rng.integers(1, 9, size=int(rng.integers(2, 5)))]

    def formats(channels: int, signed: bool) -> tuple[FixedPoint | None, ...]:
        widths, fracs = rng.integers(1, 7, size=channels), rng.integers(-2, 5, size=channels)
        kinds = (FixedPoint(w + signed, f, signed) for w, f in zip(widths, fracs, strict=True))
        return tuple(fmt if rng.random() < 0.8 else None for fmt in kinds)

    def constants(*shape: int) -> QuantizedArray:
        kept = rng.random(shape) < 0.6
        return finest_grid(np.where(kept, rng.integers(-15, 16, size=shape) / 2.0 ** rng.integers(0, 4, size=shape), 0))

    layers: list[nn.Module] = [FrozenActivation(formats(sizes[0], signed=True), rectify=False)]
    for n_in, n_out in pairwise(sizes):
        layers.append(FrozenLinear(constants(n_out, n_in), constants(n_out) if rng.random() < 0.8 else None))
        if rng.random() < 0.3 and not exact:
            layers.append(norm := nn.BatchNorm1d(n_out))
            with torch.no_grad():
                _unsettle(rng, norm)
        rectify = bool(rng.random() < 0.8)
        layers.append(FrozenActivation(formats(n_out, signed=not rectify), rectify=rectify))
    return nn.Sequential(*layers).eval(), (sizes[0],)


def _spec(rng: np.random.Generator, exact: bool = False) -> QuantSpec:
    """Any; with power-of-two scales throughout if ``exact``."""
    scales = list(Scale) if not exact else [Scale.POWER_OF_TWO] * 2

    def sometimes(share: float, value: Any, otherwise: Any = None) -> Any:
        return value if rng.random() < share else otherwise

    weight_frac = sometimes(0.2, int(rng.integers(1, 6)))
    free = weight_frac is None
    return QuantSpec(
        weight_width=int(rng.integers(1, 9)),
        bias_width=sometimes(0.7, int(rng.integers(2, 17))),
        activation_width=int(rng.integers(1, 8)),
        input_width=int(rng.integers(1, 11)),
        activation_frac=(activation_frac := sometimes(0.2, int(rng.integers(-1, 5)))),
        input_frac=(input_frac := sometimes(0.2, int(rng.integers(0, 5)))),
        weight_frac=weight_frac,
        input_signed=sometimes(0.8, True, False),
        weight_scale=sometimes(0.15 * free, scales[1], scales[0]),
        weight_range=sometimes(0.3 * free, list(Range)[rng.integers(3)]),
        weight_per_channel=sometimes(0.3 * free, True, False),
        activation_scale=sometimes(0.15 * (activation_frac is None), scales[1], scales[0]),
        input_scale=sometimes(0.15 * (input_frac is None), scales[1], scales[0]),
        output_width=sometimes(0.15, int(rng.integers(1, 8))),
        accumulator=sometimes(0.15, FixedPoint(int(rng.integers(3, 12)), int(rng.integers(5)), bool(rng.integers(4)))),
    )


def _activation(rng: np.random.Generator, spec: QuantSpec) -> nn.Module:
    """A ReLU mostly."""
    if rng.random() < 0.1:
        wider = replace(spec, activation_width=max(2, spec.activation_width))
        return QuantSiLU(spec=wider) if rng.random() < 0.5 else QuantGELU(spec=wider)
    kinds = (
        QuantReLU6, QuantHardTanh, QuantHardSigmoid, QuantTanh, QuantSigmoid, QuantIdentity,
        partial(QuantLeakyReLU, float(rng.choice([0.25, 0.01]))), partial(QuantHardTanh, -0.75, 2.5),
    )  # fmt: skip
    return QuantReLU(spec=spec) if rng.random() < 0.4 else kinds[rng.integers(len(kinds))](spec=spec)


_POOLS = (nn.MaxPool1d, nn.AvgPool1d, nn.MaxPool2d, nn.AvgPool2d)
_BY_AXES: tuple[tuple[Any, ...], ...] = (
    (nn.Conv1d, QuantConv1d, bnn.QuantConv1d, nn.BatchNorm1d),
    (nn.Conv2d, QuantConv2d, bnn.QuantConv2d, nn.BatchNorm2d),
)


def _linear(rng: np.random.Generator, n_in: int, n_out: int, brevitas: bool, exact: bool) -> nn.Module:
    bias = bool(rng.random() < 0.8)
    if not brevitas:
        return QuantLinear(n_in, n_out, bias=bias, spec=_spec(rng, exact))
    return bnn.QuantLinear(
        n_in,
        n_out,
        bias=bias,
        weight_bit_width=int(rng.integers(2, 9)),
        weight_scaling_per_output_channel=bool(rng.random() < 0.5),
    )


def _sparsify(rng: np.random.Generator, linear: Any) -> None:
    """Spread the magnitudes; mask some weights, neurons, channels or multipliers, now and then a whole layer."""
    with torch.no_grad():
        linear.weight.mul_(2.0 ** int(rng.integers(-3, 3)))
    binary = isinstance(linear, _OURS) and linear.spec.weight_grid.binary  # has no zero to prune to
    if rng.random() < 0.6 and not binary:
        groups = _structure(rng, linear).groups("weight", linear.weight.shape).numpy()
        stays = rng.random(groups.max() + 1) < rng.choice([0.0, 0.2, 0.6], p=[0.1, 0.5, 0.4])
        kept = torch.tensor(stays[groups])
        parametrize.register_parametrization(linear, "weight", Mask(kept))


def _structure(rng: np.random.Generator, linear: Any) -> Structure:
    """What is pruned together: single weights mostly."""
    if rng.random() < 0.6:
        return WEIGHTS
    if not isinstance(linear, nn.Linear):
        return CHANNELS
    if rng.random() < 0.5:
        return NEURONS
    legal = legal_reuse_factors(linear.in_features, linear.out_features)
    return multipliers(int(legal[rng.integers(len(legal))]))


def _unsettle(rng: np.random.Generator, norm: Any) -> None:
    """Statistics and parameters of any sign, a zero among them."""
    size = norm.num_features
    norm.running_mean.copy_(torch.tensor(rng.normal(size=size)))
    norm.running_var.copy_(torch.tensor(rng.random(size) * 2 + 0.1))
    if norm.affine:
        norm.weight.copy_(torch.tensor(np.where(rng.random(size) < 0.1, 0.0, rng.normal(size=size))))
        norm.bias.copy_(torch.tensor(rng.normal(size=size)))
