"""Pooling from torch: every option, scales that are pending, means and largest numbers along any axes."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from exported import assert_exact, lowered, module
from torch import nn
from torch.nn import functional as F

from compress.fixed import FixedPoint
from compress.layers import QuantIdentity, QuantReLU, QuantSpec
from export.frontends.precision import Precision
from export.ir import GraphError
from export.ops import Affine, Cast, MaxPool, ReLU, Requantize, Reshape, SumPool
from export.ops.windows import Adaptive

RELU = QuantSpec(activation_width=6, activation_frac=3)
OUTPUT = QuantSpec(input_width=12, input_frac=6)


def pooled(pool: nn.Module, shape: tuple[int, ...], **options):
    return assert_exact(module(lambda s, x: s.pool(s.quant(x)), pool=pool), shape, **options)


def averaged(pool: nn.Module, shape: tuple[int, ...]):
    """A mean that no fixed-point number says is quantized behind."""
    return assert_exact(
        module(lambda s, x: s.end(s.pool(s.quant(x))), pool=pool, end=QuantIdentity(spec=OUTPUT)), shape, samples=100
    )


def kinds(graph):
    return [type(op) for op in graph]


@pytest.mark.parametrize("ceil", [False, True], ids=["floor", "ceil"])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [
    (2, None, 0, 1), (3, 2, 1, 1), (3, 2, 1, 2), (2, 3, 1, 1), (3, 1, 0, 2), (2, 2, 1, 3), (1, 2, 0, 1),
])  # fmt: skip
def test_max_pooling_with_every_option(kernel, stride, padding, dilation, ceil):
    for size in range(dilation * (kernel - 1) + 1 - 2 * padding + (1 - ceil), 10):
        options = (kernel, stride, padding, dilation)
        row, plane = (layer(*options, ceil_mode=ceil) for layer in (nn.MaxPool1d, nn.MaxPool2d))
        if size < 1 or not np.isfinite(row(torch.zeros(1, 1, size)).numpy()).all():
            continue
        assert kinds(pooled(row, (2, size), samples=8))[1:] == [MaxPool]
        pooled(plane, (2, size, 7), samples=8)


def test_a_window_of_padding_alone_is_minus_infinity_in_torch():
    with pytest.raises(GraphError) as error:
        pooled(nn.MaxPool1d(2, 1, padding=2, dilation=3), (2, 1))
    assert str(error.value) == "pool: has a window whose taps all stand on padding; use less padding, or no dilation"


@pytest.mark.parametrize("ceil", [False, True], ids=["floor", "ceil"])
@pytest.mark.parametrize("counted", [False, True], ids=["real", "padded"])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 3, 1), (2, 3, 1), (4, 3, 2)])
def test_average_pooling_with_every_option(kernel, stride, padding, counted, ceil):
    """Divisors that differ from position to position have a common one."""
    for size in range(max(kernel - 2 * padding, 1), 9):
        options = {"ceil_mode": ceil, "count_include_pad": counted}
        averaged(nn.AvgPool1d(kernel, stride, padding, **options), (2, size))
    averaged(nn.AvgPool2d(kernel, stride, padding, **options), (2, 7, 5))
    averaged(nn.AvgPool2d((2, kernel), (1, stride), (1, padding), **options, divisor_override=6), (2, 7, 5))


def test_an_average_over_a_power_of_two_is_a_place_of_the_binary_point():
    graph = pooled(nn.AvgPool2d(2), (2, 6, 6))
    assert kinds(graph)[1:] == [SumPool]
    assert graph.outputs[0].format.frac == graph.inputs[0].output.format.frac + 2
    assert graph.ops[1].weight.codes.tolist() == [1]


def test_what_is_left_of_a_divisor_is_the_quantizers():
    graph = averaged(nn.AvgPool2d((2, 3)), (1, 4, 6))
    assert kinds(graph)[1:] == [SumPool, Requantize]
    assert graph.ops[2].scale == (Fraction(1, 3),)


@pytest.mark.parametrize("positions", [(1, 1), (3, 2), (4, 7), (8, 3), (None, 1)], ids=str)
def test_adaptive_pooling(positions):
    graph = pooled(nn.AdaptiveMaxPool2d(positions), (2, 4, 7))
    uneven = any(n is not None and size % n for n, size in zip(positions, (4, 7), strict=True))
    assert any(isinstance(axis, Adaptive) for axis in graph.ops[1].window.axes) == uneven
    averaged(nn.AdaptiveAvgPool2d(positions), (2, 4, 7))
    if positions[0] is not None:
        averaged(nn.AdaptiveAvgPool1d(positions[1]), (2, 7))
        pooled(nn.AdaptiveMaxPool1d(positions[1]), (2, 7))


REDUCTIONS = {
    "mean": lambda x: x.mean((2, 3)),
    "mean, axes kept": lambda x: torch.mean(x, (2, 3), keepdim=True),
    "mean from the end": lambda x: x.mean(dim=[-1, -2]),
    "mean of the last axis": lambda x: x.mean(-1),
    "mean of the middle axis": lambda x: x.mean(2),
    "mean over the channels": lambda x: torch.mean(x, dim=1),
    "mean of all but one": lambda x: x.mean((1, 3)),
    "mean of all, axes kept": lambda x: x.mean((1, 2, 3), keepdim=True),
    "sum": lambda x: x.sum((2, 3)),
    "sum over the channels": lambda x: torch.sum(x, 1, keepdim=True),
    "largest": lambda x: x.amax((2, 3)),
    "largest over the channels": lambda x: torch.amax(x, 1),
}


@pytest.mark.parametrize("what", REDUCTIONS)
def test_along_axes(what):
    reduced = REDUCTIONS[what]
    model = module(lambda s, x: s.end(reduced(s.quant(x))), end=QuantIdentity(spec=OUTPUT))
    graph = assert_exact(model, (4, 2, 8))
    assert sum(isinstance(op, MaxPool | SumPool) for op in graph) == 1
    if "channels" not in what and what.startswith(("mean", "sum", "largest")) and "2, 3" in what:
        assert kinds(graph) == [Requantize, SumPool, Reshape]


def scaled(scales: list[float], offsets: list[float]) -> nn.Module:
    """A batch norm with these."""
    norm = nn.BatchNorm2d(len(scales), eps=0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(scales))
        norm.bias.copy_(torch.tensor(offsets))
    return norm


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1, count_include_pad=False)],
                         ids=["largest", "mean", "mean of what is there"])  # fmt: skip
def test_of_what_is_scaled_and_shifted(pool):
    """Batch norm passes through to the next quantizer."""
    layers = {"norm": scaled([0.75, 3.0], [0.5, -1.25]), "pool": pool, "end": QuantReLU(spec=RELU)}
    graph = assert_exact(module(lambda s, x: s.end(s.pool(s.norm(s.quant(x)))), **layers), (2, 6, 6))
    assert isinstance(graph.ops[1], MaxPool | SumPool)


def test_the_largest_of_what_a_pending_function_raises():
    layers = {"norm": scaled([0.75, 3.0], [0.5, -1.25]), "end": QuantReLU(spec=RELU)}
    model = module(lambda s, x: s.end(F.max_pool2d(F.relu6(s.norm(s.quant(x))), 2)), **layers)
    assert_exact(model, (2, 6, 6))


def test_the_largest_behind_a_negative_scale_is_the_least():
    """Channels that batch norm turns over are turned before they are compared."""
    layers = {"norm": scaled([-0.75, 3.0], [0.5, -1.25]), "end": QuantReLU(spec=RELU)}
    model = module(lambda s, x: s.end(F.max_pool2d(s.norm(s.quant(x)), 2)), **layers)
    graph = assert_exact(model, (2, 6, 6))
    assert kinds(graph)[1:] == [Affine, MaxPool, Requantize]


@pytest.mark.parametrize(
    ("forward", "layers", "message"),
    [
        (
            lambda s, x: s.pool(F.silu(s.quant(x))),
            {"pool": nn.MaxPool2d(2)},
            "pool: pools silu, a silu that no quantizer follows and that does not rise everywhere; put a QuantIdentity "
            "between them",
        ),
        (
            lambda s, x: s.pool(F.relu(s.norm(s.quant(x)))),
            {"norm": scaled([1.5, 0.5], [0, 0]), "pool": nn.AvgPool2d(2)},
            "pool: averages relu, a relu that no quantizer follows; put a quantizer between them",
        ),
        (
            lambda s, x: s.pool(s.norm(s.quant(x))),
            {"norm": scaled([1.5, 0.5], [0, 1]), "pool": nn.AvgPool2d(2, padding=1)},
            "pool: averages norm, which is shifted and not quantized, with padding that counts at some positions; use "
            "count_include_pad=False, or put a QuantIdentity between them",
        ),
        (
            lambda s, x: s.pool(s.quant(x)),
            {"pool": nn.AdaptiveMaxPool2d(2, return_indices=True)},
            "pool: returns indices too; use return_indices=False",
        ),
        (
            lambda s, x: s.pool(s.quant(x)),
            {"pool": nn.MaxPool1d(2)},
            "pool: pools channels over 1 spatial axis, but reads x: fixed<6,3>[2, 5, 5]; reshape it",
        ),
        (
            lambda s, x: s.pool(s.quant(x)),
            {"pool": nn.MaxPool2d(7)},
            "pool: does not work on 5 elements: a window spans 7 elements, the axis has 5 with its padding",
        ),
        (
            lambda s, x: s.pool(s.quant(x)),
            {"pool": nn.AvgPool2d(2, divisor_override=-3)},
            "pool: divides by -3; use a positive divisor",
        ),
        (
            lambda s, x: s.quant(x).mean(),
            {},
            "mean: takes all samples together; name the axes of a sample: x.mean((2, 3))",
        ),
        (
            lambda s, x: s.quant(x).mean((0, 2)),
            {},
            "mean: acts along axis 0, which is the batch's; every sample has to stay by itself",
        ),
        (
            lambda s, x: s.quant(x).sum((1, 2, 3)),
            {},
            "sum: leaves no axis beside the batch's; keep one (x[:, 0:1] in place of x[:, 0])",
        ),
        (
            lambda s, x: s.pool(x),
            {"pool": nn.MaxPool2d(2)},
            "pool: the input width is missing: nothing quantizes the model's input before it; put a QuantIdentity in "
            "front of the model, or pass input_format=FixedPoint(width, frac)",
        ),
    ],
)
def test_refused_by_name(forward, layers, message):
    with pytest.raises(GraphError) as error:
        lowered(module(forward, **layers), (2, 5, 5))
    assert str(error.value) == message


def test_a_stated_precision_is_the_averages_too():
    precision = Precision(result=FixedPoint(8, 3))
    for pool, ops in ((nn.AvgPool1d(2), [SumPool, Cast]), (nn.AvgPool1d(3), [SumPool, Requantize])):
        graph = lowered(nn.Sequential(pool), (2, 6), input_format=FixedPoint(8, 4), precision=precision)
        assert kinds(graph)[1:] == ops
        assert graph.outputs[0].format == precision.result
        codes = np.array(list(product(range(-9, 9, 5), repeat=2)))[:, :, None] * [1, 3, -2, 5, 0, 1]
        values = pool(torch.tensor(codes).double() / 16).numpy()
        assert np.array_equal(graph.eval(codes), np.floor(values * 8))
    model = nn.Sequential(nn.ReLU(), nn.MaxPool1d(2))
    kept = lowered(model, (2, 6), input_format=FixedPoint(8, 4), precision=precision)
    assert kinds(kept)[1:] == [ReLU, MaxPool]
