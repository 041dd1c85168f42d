"""Plain float layers with a stated precision, the classic ap_fixed<16,6> way, against a reference written by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from compress.fixed import FixedPoint, Overflow, Rounding, cast, encode
from compress.mask import Mask
from compress.profile import profile
from export.frontends.precision import Precision, suggested
from export.frontends.torch import lower
from export.ops import Modes
from export.passes import run


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def samples(n):
    return np.random.default_rng(0).normal(size=(300, n)) * 2


def names(graph):
    return [op.name for op in graph]


def settled(norm):
    """Statistics and parameters that a training would leave, a negative and a zero scale among them."""
    rng = np.random.default_rng(3)
    with torch.no_grad():
        norm.running_mean.copy_(torch.tensor(rng.normal(size=3)))
        norm.running_var.copy_(torch.tensor(rng.random(3) + 0.2))
        norm.weight.copy_(torch.tensor([-1.1, 0.0, 0.7]))
        norm.bias.copy_(torch.tensor(rng.normal(size=3)))
    return norm


def reference_layer(codes, frac, linear, precision):
    """A float layer in stated formats, the way HLS does it: bias, products and sums cast in the order of the kernel."""
    weight = encode(linear.weight.detach().double().numpy(), precision.weight)
    bias = encode(linear.bias.detach().double().numpy(), precision.bias)
    modes, result = (precision.modes.rounding, precision.modes.overflow), precision.result
    product_frac = frac + precision.weight.frac
    if precision.accumulator is None:
        wide = max(product_frac, precision.bias.frac)
        total = (codes @ weight.T << wide - product_frac) + (bias << wide - precision.bias.frac)
        return cast(total, wide, result, *modes)
    acc = precision.accumulator
    total = np.stack([cast(bias, precision.bias.frac, acc, *modes)] * len(codes))
    for i in range(codes.shape[1]):
        total = cast(total + cast(codes[:, i : i + 1] * weight[:, i], product_frac, acc, *modes), acc.frac, acc, *modes)
    return cast(total, acc.frac, result, *modes)


PRECISIONS = {
    "the default": Precision(),
    "forced accumulators": Precision(accumulator=FixedPoint.of(12, 5)),
    "forced, rounding and saturating": Precision(
        accumulator=FixedPoint.of(9, 4), modes=Modes(Rounding.RND, Overflow.SAT), result=FixedPoint.of(8, 3)
    ),
    "forced, odd modes": Precision(
        weight=FixedPoint.of(7, 2), bias=FixedPoint.of(9, 3), accumulator=FixedPoint.of(10, 4),
        modes=Modes(Rounding.TRN_ZERO, Overflow.SAT_SYM), result=FixedPoint.of(10, 5),
    ),
    "exact, wrapping result": Precision(result=FixedPoint.of(6, 2), modes=Modes(Rounding.RND_CONV, Overflow.WRAP)),
}  # fmt: skip


@pytest.mark.parametrize("which", PRECISIONS)
def test_float_layers_in_the_classic_way(which):
    precision = PRECISIONS[which]
    model = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    graph = lower(model, (7,), precision=precision)
    assert graph.inputs[0].output.format == precision.result
    x = graph.inputs[0].encode(samples(7))
    hidden = np.maximum(reference_layer(x, precision.result.frac, model[0], precision), 0)
    expected = reference_layer(hidden, precision.result.frac, model[2], precision)
    for stage in (graph, run(graph)):
        assert (stage.eval(x) == expected).all()
    assert len(np.unique(expected)) > 3


def test_precision_by_layer_and_an_input_format():
    narrow = Precision(result=FixedPoint.of(10, 4))
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    fmt = FixedPoint(9, 4)
    graph = lower(model, (4,), input_format=fmt, precision={"0": narrow, "2": Precision()})
    x = graph.inputs[0].encode(samples(4))
    hidden = np.maximum(reference_layer(x, 4, model[0], narrow), 0)
    assert (graph.eval(x) == reference_layer(hidden, narrow.result.frac, model[2], Precision())).all()
    assert graph.inputs[0].output.format == fmt and names(graph) == ["input", "0.sum", "0", "1", "2.sum", "2"]


def test_batch_norm_with_a_precision_is_cast_once():
    model = nn.Sequential(nn.Linear(4, 3), settled(nn.BatchNorm1d(3)), nn.ReLU(), nn.Linear(3, 2)).eval()
    graph = lower(model, (4,), precision=Precision())
    norm = model[1]
    x = graph.inputs[0].encode(samples(4))
    first = reference_layer(x, 10, model[0], Precision())
    scale = [Fraction(g) * Fraction(float(1 / np.sqrt(v + norm.eps)))
             for g, v in zip(norm.weight.tolist(), norm.running_var.double().numpy(), strict=True)]  # fmt: skip
    shift = [Fraction(b) - Fraction(m) * s
             for b, m, s in zip(norm.bias.tolist(), norm.running_mean.tolist(), scale, strict=True)]  # fmt: skip
    exact = [[(int(c) * s + b * 1024) // 1 for c, s, b in zip(row, scale, shift, strict=True)] for row in first]
    normed = cast(np.array(exact, dtype=object), 10, FixedPoint.of(16, 6), Rounding.TRN, Overflow.WRAP)
    expected = reference_layer(np.maximum(normed, 0), 10, model[3], Precision())
    for stage in (graph, run(graph)):
        assert (stage.eval(x) == expected).all()


def test_float_masks_are_zeros_too():
    model = nn.Sequential(nn.Linear(8, 4)).eval()
    kept = torch.rand(4, 8) < 0.3
    parametrize.register_parametrization(model[0], "weight", Mask(kept))
    assert not lower(model, (8,), precision=Precision()).ops[1].weight.codes[~kept.numpy()].any()


@pytest.mark.parametrize("modes", [(Rounding.RND_CONV, Overflow.SAT), (Rounding.TRN, Overflow.WRAP)])
def test_what_a_profile_suggests(modes):
    """Formats by layer, batch norm and hard tanh among them; equal to rounding in torch after each layer."""
    model = nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), settled(nn.BatchNorm1d(3)), nn.Hardtanh(-2, 2), nn.Linear(3, 2)
    ).eval()
    x = torch.tensor(samples(4), dtype=torch.float32)
    suggestion = profile(model, x).suggest(12, rounding=modes[0], overflow=modes[1])
    graph = lower(model, (4,), **suggested(suggestion))
    for stage in (graph, run(graph)):
        codes = stage.eval(stage.inputs[0].encode(x.numpy()))
        assert (stage.outputs[0].format.values(codes) == by_hand(model, x.double(), suggestion)).all()
    assert len(np.unique(codes)) > 50


def by_hand(model, x, suggestion):
    def fitted(values, fmt, modes):
        codes = encode(values.detach().numpy(), fmt, *modes)
        return torch.from_numpy(fmt.values(codes))

    nearest = Rounding.RND_CONV, Overflow.SAT
    y = fitted(x, suggestion.input, nearest)
    for name, layer in model.double().named_children():
        if isinstance(layer, nn.Linear):
            formats = suggestion.layers[name]
            weight, bias = fitted(layer.weight, formats.weight, nearest), fitted(layer.bias, formats.bias, nearest)
            y = nn.functional.linear(y, weight, bias)
        else:
            y = layer(y)
        if name in suggestion.layers:
            y = fitted(y, suggestion.layers[name].result, (suggestion.rounding, suggestion.overflow))
    model.float()
    return y.numpy()
