"""Convolutions from torch: every option, ours and Brevitas's, with float scales and in stated formats."""

from __future__ import annotations

import brevitas.nn as bnn
import numpy as np
import pytest
import torch
from exported import assert_exact, lowered, module
from float_models import MODELS
from torch import nn
from torch.nn import functional as F

from compress.fixed import FixedPoint, Overflow, Rounding, cast, encode
from compress.layers import QuantConv1d, QuantConv2d, QuantIdentity, QuantLinear, QuantReLU, QuantSpec, Range, Scale
from compress.quantize import quantize
from export import emulate
from export.frontends.precision import Precision
from export.ir import Graph, GraphError
from export.ops import Conv, Dense, MaxPool, Modes, Requantize
from export.passes import run

SPEC = QuantSpec(weight_width=5, weight_frac=4, bias_width=8, bias_frac=5)


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def conv_of(layer: nn.Module, shape: tuple[int, ...]) -> Conv:
    """The layer behind a quantizer, exactly."""
    graph = assert_exact(module(lambda s, x: s.conv(s.quant(x)), conv=layer), shape)
    return next(op for op in graph if isinstance(op, Conv))


@pytest.mark.parametrize("options", [
    {}, {"bias": False}, {"stride": 2}, {"stride": (1, 3), "padding": (2, 1)}, {"dilation": (2, 1), "padding": 3},
    {"groups": 2}, {"groups": 4}, {"padding": "same"}, {"padding": "same", "dilation": (1, 2)}, {"padding": "valid"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("kernel", [3, (2, 4), 1], ids=str)
def test_every_option_in_a_plane(kernel, options):
    op = conv_of(QuantConv2d(4, 8, kernel, spec=SPEC, **options), (4, 6, 7))
    assert op.groups == options.get("groups", 1)


@pytest.mark.parametrize("options", [
    {}, {"stride": 3, "padding": 1}, {"dilation": 2}, {"groups": 3}, {"padding": "same", "dilation": 3},
], ids=str)  # fmt: skip
def test_every_option_in_a_row(options):
    conv_of(QuantConv1d(3, 6, 3, spec=SPEC, **options), (3, 9))


@pytest.mark.parametrize("stride", [2, 3, (1, 2)], ids=str)
@pytest.mark.parametrize("size", [(6, 7), (5, 4)])
def test_same_padding_with_a_stride_as_brevitas_pads(stride, size):
    op = conv_of(QuantConv2d(2, 3, (3, 2), stride, padding="same", spec=SPEC), (2, *size))
    strides = (stride, stride) if isinstance(stride, int) else stride
    assert op.window.positions == tuple(-(-n // s) for n, s in zip(size, strides, strict=True))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, (2, 1), "same"], ids=str)
def test_padding_that_is_not_zero_is_moved_there(mode, padding):
    op = conv_of(QuantConv2d(2, 3, 3, padding=padding, padding_mode=mode, spec=SPEC), (2, 5, 6))
    assert all(axis.before == axis.after == 0 for axis in op.window.axes)
    conv_of(QuantConv1d(2, 3, 2, padding=padding if isinstance(padding, int) else "same", padding_mode=mode, spec=SPEC),
            (2, 5))  # fmt: skip


@pytest.mark.parametrize("spec", [
    QuantSpec(weight_width=1, bias_frac=5), QuantSpec(weight_width=2, weight_range=Range.AVERAGE, bias_frac=5),
    QuantSpec(weight_width=4, weight_per_channel=True, bias_width=None),
    QuantSpec(weight_width=4, bias_frac=5, output_width=5, output_frac=1, accumulator=FixedPoint(7, 3)),
], ids=["binary", "ternary", "per channel", "stored and quantized"])  # fmt: skip
def test_every_kind_of_weight(spec):
    conv_of(QuantConv2d(2, 4, 3, padding=1, spec=spec), (2, 4, 5))


def calibrated(*layers: nn.Module, shape: tuple[int, ...]) -> nn.Sequential:
    """Behind an 8-bit input, in double precision, after some data; statistics as a training would leave them."""
    model = nn.Sequential(QuantIdentity(spec=QuantSpec(input_width=8, input_frac=5)), *layers).double()
    for norm in model:
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(64, *shape, dtype=torch.float64))
    return model.eval()


def outputs(model: nn.Module, graph: Graph, shape: tuple[int, ...], count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """The module's, in units of the last quantizer, and the graph's codes."""
    x = torch.randn(count, *shape, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x) / model[-1].act_quant.scale()
    return np.rint(expected.numpy()), graph.eval(graph.inputs[0].encode(x.numpy()))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("axes", [1, 2])
def test_the_default_quantizers_of_brevitas(axes, per_channel):
    """Float scales of weights and activations, float biases, batch norm; the last quantizer's scale is its own."""
    conv, norm = ((bnn.QuantConv1d, nn.BatchNorm1d), (bnn.QuantConv2d, nn.BatchNorm2d))[axes - 1]
    shape = (2, *(6, 7)[:axes])
    options = {"weight_scaling_per_output_channel": per_channel, "weight_bit_width": 4}
    model = calibrated(
        conv(2, 4, 3, padding=1, bias=True, **options), norm(4), bnn.QuantReLU(bit_width=4),
        conv(4, 6, 2, groups=2, stride=2, bias=True, **options), bnn.QuantIdentity(bit_width=5), shape=shape,
    )  # fmt: skip
    graph = lowered(model, shape)
    assert sum(isinstance(op, Requantize) for op in graph) == 2
    expected, got = outputs(model, graph, shape)
    assert np.array_equal(got, expected) and len(np.unique(got)) > 10
    assert np.array_equal(run(graph).eval(*(_codes(graph, shape))), graph.eval(*(_codes(graph, shape))))


def _codes(graph: Graph, shape: tuple[int, ...]) -> list[np.ndarray]:
    fmt = graph.inputs[0].output.format
    return [np.random.default_rng(0).integers(fmt.min_code, fmt.max_code, size=(50, *shape), endpoint=True)]


def test_float_scales_of_ours_through_the_passes():
    spec = QuantSpec(weight_width=4, weight_scale=Scale.FLOAT, weight_per_channel=True, activation_scale=Scale.FLOAT,
                     activation_width=5, bias_width=None)  # fmt: skip
    model = calibrated(
        QuantConv2d(2, 4, 3, spec=spec), nn.BatchNorm2d(4), QuantReLU(spec=spec), nn.MaxPool2d(2),
        QuantConv2d(4, 3, 2, spec=spec), QuantReLU(spec=spec), shape=(2, 7, 8),
    )  # fmt: skip
    graph = run(lowered(model, (2, 7, 8)))
    expected, got = outputs(model, graph, (2, 7, 8))
    assert np.array_equal(got, expected) and len(np.unique(got)) > 10


def test_a_quantized_float_model_in_one_call(tmp_path, monkeypatch):
    """Quantized, exported, compiled, run: every output equal."""
    monkeypatch.setenv("QAPSULE_CACHE", str(tmp_path))
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 6, 1), nn.ReLU()),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 3)),
    )
    quantized = quantize(model, QuantSpec(weight_width=5, activation_width=5, input_width=7, output_width=8)).double()
    x = torch.randn(256, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        quantized.train()(x)
        expected = quantized.eval()(x).numpy()
    got = emulate(quantized, (1, 8, 8)).predict(x.numpy())
    assert (got == expected).mean() > 0.999  # batch norm: float64 may round a tie the other way
    assert len(np.unique(got, axis=0)) > 10


@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_other_people(name):
    """Residual connections, bottlenecks, dense blocks, sets: every output is that of torch, before and after passes."""
    build, shapes = MODELS[name]
    model = quantize(build(), QuantSpec(weight_width=4, activation_width=5, input_width=6, output_width=8)).double()
    x = [torch.randn(64, *shape, dtype=torch.float64) for shape in shapes]
    with torch.no_grad():
        for _ in range(2):
            model.train()(*x)
        expected = model.eval()(*x).numpy()
    graph = lowered(model, shapes)
    codes = [op.encode(values.numpy()) for op, values in zip(graph.inputs, x, strict=True)]
    for each in (graph, run(graph)):
        assert np.array_equal(each.outputs[0].format.values(each.eval(*codes)), expected)


def test_in_stated_formats_every_sum_is_cast():
    """Plain float layers, the classic way: the bias, each product and each partial sum in the accumulator's format."""
    fmt = FixedPoint(9, 4)
    precision = Precision(weight=FixedPoint(6, 4), bias=FixedPoint(6, 3), result=FixedPoint(8, 3), accumulator=fmt,
                          modes=Modes(Rounding.RND, Overflow.WRAP))  # fmt: skip
    layer = nn.Conv1d(2, 3, 2, padding=1)
    graph = lowered(nn.Sequential(layer), (2, 4), precision=precision)
    codes = _codes(graph, (2, 4))[0]
    weight = encode(layer.weight.detach().double().numpy(), precision.weight)
    bias = encode(layer.bias.detach().double().numpy(), precision.bias)
    padded = np.pad(codes, ((0, 0), (0, 0), (1, 1)))
    modes = (Rounding.RND, Overflow.WRAP)
    total = np.broadcast_to(cast(bias, 3, fmt, *modes)[:, None], (50, 3, 5))
    for c in range(2):
        for t in range(2):
            term = cast(padded[:, None, c, t : t + 5] * weight[:, c, t, None], 3 + 4, fmt, *modes)
            total = cast(total + term, 4, fmt, *modes)
    assert np.array_equal(graph.eval(codes), cast(total, 4, precision.result, *modes))


def test_exact_sums_in_stated_formats_are_torchs():
    model = nn.Sequential(nn.Conv2d(2, 3, 2, groups=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 1)).double()
    wide = FixedPoint(24, 12)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.round(parameter * 2**6) / 2**6)
    graph = lowered(model, (2, 5, 5), precision=Precision(weight=wide, bias=wide, result=FixedPoint(30, 16)),
                    input_format=FixedPoint(8, 4))  # fmt: skip
    codes = _codes(graph, (2, 5, 5))[0]
    with torch.no_grad():
        expected = model(torch.tensor(codes).double() / 16).numpy()
    assert np.array_equal(graph.outputs[0].format.values(graph.eval(codes)), expected)


def test_batch_norm_before_the_next_convolution_needs_a_quantizer():
    norm = nn.BatchNorm2d(2)
    nn.init.normal_(norm.weight)
    with pytest.raises(GraphError, match=r"^conv: reads norm, whose result is scaled or shifted per channel"):
        lowered(module(lambda s, x: s.conv(s.norm(s.quant(x))), norm=norm, conv=QuantConv2d(2, 2, 3)), (2, 5, 5))


def test_linear_layers_along_the_last_axis():
    layers = {"fc": QuantLinear(5, 3, spec=SPEC), "conv": QuantConv1d(4, 2, 2, spec=SPEC)}
    graph = assert_exact(module(lambda s, x: s.conv(s.fc(s.quant(x))), **layers), (4, 5))
    assert not any(isinstance(op, Dense) for op in graph)
    assert_exact(module(lambda s, x: s.fc(s.quant(x)), fc=layers["fc"]), (2, 3, 5))


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            QuantConv2d(2, 3, 3), (2, 5),
            "conv: convolves 2 channels over 2 spatial axes, but reads x: fixed<6,3>[2, 5]; reshape it",
        ),
        (
            QuantConv1d(2, 3, 3), (3, 5),
            "conv: convolves 2 channels over 1 spatial axis, but reads x: fixed<6,3>[3, 5]; reshape it",
        ),
        (
            QuantConv1d(2, 3, 3, dilation=3), (2, 5),
            "conv: does not work on x: fixed<6,3>[2, 5]: a window spans 7 elements, the axis has 5 with its padding",
        ),
        (
            nn.Conv1d(2, 3, 3), (2, 5),
            "conv: has float weights and no precision; quantize() the model, or pass precision=Precision(...)",
        ),
    ],
)  # fmt: skip
def test_refused_by_name(layer, shape, message):
    with pytest.raises(GraphError) as error:
        lowered(module(lambda s, x: s.conv(s.quant(x)), conv=layer), shape)
    assert str(error.value) == message


def test_padding_beyond_the_axis_is_torchs_refusal_by_name():
    layer = QuantConv1d(1, 1, 3, padding=4, padding_mode="reflect", spec=SPEC)
    with pytest.raises(GraphError, match=r"^conv: does not work on samples of shape \(1, 3\)"):
        lowered(module(lambda s, x: s.conv(s.quant(x)), conv=layer), (1, 3))


def test_functional_pooling_between_convolutions():
    layers = {"a": QuantConv2d(1, 2, 3, spec=SPEC), "b": QuantConv2d(2, 3, 2, spec=SPEC), "r": QuantReLU(spec=QuantSpec(
        activation_width=4, activation_frac=1))}  # fmt: skip
    graph = assert_exact(module(lambda s, x: s.b(F.max_pool2d(s.r(s.a(s.quant(x))), 2)), **layers), (1, 9, 8))
    assert any(isinstance(op, MaxPool) for op in graph)
