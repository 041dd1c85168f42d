"""What is read off a quantized layer, ours or plain Brevitas: codes times scale is what it computes with."""

import copy
from fractions import Fraction

import brevitas.nn as bnn
import numpy as np
import pytest
import torch
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8BiasPerTensorFloatInternalScaling,
    Int8WeightPerChannelFloat,
    Int16Bias,
    ShiftedUint8WeightPerTensorFloat,
    SignedBinaryWeightPerTensorConst,
    SignedTernaryWeightPerTensorConst,
)
from brevitas.quant_tensor import IntQuantTensor
from torch import nn

from compress.fixed import FixedPoint, Overflow, Rounding, encode
from compress.layers import (
    Kind,
    QuantConv1d,
    QuantConv2d,
    QuantGELU,
    QuantHardSigmoid,
    QuantHardTanh,
    QuantIdentity,
    QuantizedArray,
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
    UncalibratedQuantizer,
    UnreadableQuantizer,
    accumulator_of,
    activation_of,
    bias_of,
    format_of,
    is_quantized,
    kind,
    output_of,
    scale_of,
    weight_of,
    width_of,
)
from compress.readout import frac_of

SIX = QuantSpec(weight_width=6, bias_width=12, activation_width=6, input_width=10)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def values_of(read: QuantizedArray, dtype: torch.dtype) -> torch.Tensor:
    """codes * scale in exact arithmetic, then rounded once to ``dtype``."""
    scales = read.scale if len(read.scale) > 1 else read.scale * len(read.codes)
    rows = [
        [float(int(code) * scale) for code in np.atleast_1d(row)] for row, scale in zip(read.codes, scales, strict=True)
    ]
    return torch.tensor(np.reshape(rows, read.codes.shape)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", range(2, 33))
def test_codes_times_scale_is_what_the_layer_uses(width, dtype):
    layer = QuantLinear(5, 4, spec=QuantSpec(weight_width=width, bias_width=width)).to(dtype)
    with torch.no_grad():
        layer.weight[0, :2] = torch.tensor([2.0, -2.0])  # saturates: a power of two is the open end of its own range
    layer.eval()
    weight, bias = weight_of(layer), bias_of(layer)
    assert weight.width == width and weight.signed and weight.codes.dtype == np.int64
    y = layer(torch.eye(5, dtype=dtype)) - layer(torch.zeros(1, 5, dtype=dtype))
    if dtype == torch.float64:
        assert torch.equal(y.T, values_of(weight, dtype))
    assert torch.equal(layer.quant_weight().value, values_of(weight, dtype))
    assert torch.equal(layer(torch.zeros(1, 5, dtype=dtype))[0], values_of(bias, dtype))
    top = 2 ** (width - 1) - 1
    cut = top >> max(0, width - 25) << max(0, width - 25) if dtype == torch.float32 else top
    assert weight.codes.max() == cut and weight.codes.min() == -cut


@pytest.mark.parametrize("make", [QuantReLU, QuantIdentity])
@pytest.mark.parametrize("width", [2, 3, 8, 16, 24, 32])
def test_an_activation_is_what_its_reading_says(make, width):
    layer = make(spec=QuantSpec(activation_width=width, input_width=width)).double()
    x = torch.randn(500, dtype=torch.float64) * 3
    layer(x)
    layer.eval()
    read = activation_of(layer)
    assert read.rounding is Rounding.RND_CONV and read.width == width == width_of(layer)
    assert read.signed is (make is QuantIdentity) and read.narrow is (read.signed and width == 2)
    overflow = Overflow.SAT_SYM if read.narrow else Overflow.SAT
    codes = encode((x.relu() if make is QuantReLU else x).numpy(), read.format, read.rounding, overflow)
    assert np.array_equal(layer(x).detach().numpy(), read.format.values(codes))
    assert format_of(layer) == read.format


def test_an_uncalibrated_quantizer_is_not_read():
    with pytest.raises(UncalibratedQuantizer, match=r"^relu1: its range has not seen any data yet"):
        activation_of(QuantReLU(), "relu1")
    with pytest.raises(UncalibratedQuantizer, match=r"^QuantReLU: its range has not seen any data yet"):
        activation_of(bnn.QuantReLU())
    assert width_of(QuantReLU(spec=SIX)) == 6


@pytest.mark.parametrize(
    "weight_quant", [None, "default", Int8WeightPerChannelFloat, SignedTernaryWeightPerTensorConst]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_brevitas_weights(weight_quant, dtype):
    keywords = {} if weight_quant == "default" else {"weight_quant": weight_quant}
    if weight_quant is SignedTernaryWeightPerTensorConst:
        keywords["weight_scaling_const"] = 0.3
    layer = bnn.QuantLinear(6, 4, dtype=dtype, **keywords).eval()
    read = weight_of(layer)
    if weight_quant is None:
        assert read is None
        return
    assert torch.equal(values_of(read, dtype), layer.quant_weight().value)
    assert len(read.scale) == (4 if weight_quant is Int8WeightPerChannelFloat else 1)
    assert all(float(s) == f for s, f in zip(read.scale, layer.quant_weight().scale.flatten().tolist(), strict=True))
    assert bias_of(layer).dtype == np.float64 and np.array_equal(bias_of(layer), layer.bias.detach().double().numpy())


@pytest.mark.parametrize("weight_quant", [Int8WeightPerChannelFloat, "default"])
def test_plain_brevitas_bias_at_the_scale_of_the_products(weight_quant):
    keywords = {} if weight_quant == "default" else {"weight_quant": weight_quant}
    layer = bnn.QuantLinear(6, 4, bias_quant=Int16Bias, dtype=torch.float64, **keywords).eval()
    scale = torch.tensor(0.0123, dtype=torch.float64)
    read = bias_of(layer, Fraction(scale.item()), "fc")
    x = IntQuantTensor(torch.zeros(1, 6, dtype=torch.float64), scale, 0.0, 8.0, True, False)
    assert torch.equal(values_of(read, torch.float64), layer(x)[0])
    assert read.width == 16 and np.abs(read.codes).max() > 100
    with pytest.raises(UnreadableQuantizer, match="fc, bias: its scale comes from the input, which has none here"):
        bias_of(layer, None, "fc")


def test_plain_brevitas_bias_with_its_own_scale():
    layer = bnn.QuantLinear(6, 4, bias_quant=Int8BiasPerTensorFloatInternalScaling, dtype=torch.float64).eval()
    assert torch.equal(values_of(bias_of(layer), torch.float64), layer.quant_bias().value)
    assert bias_of(QuantLinear(3, 2, bias=False)) is None
    assert bias_of(QuantLinear(3, 2, spec=QuantSpec(bias_width=None))).shape == (2,)


def test_plain_brevitas_activations():
    for layer in (bnn.QuantReLU(), bnn.QuantIdentity()):
        layer = layer.double()
        x = torch.randn(400, dtype=torch.float64)
        layer(x)
        layer.eval()
        read = activation_of(layer)
        codes = np.clip(np.rint(x.numpy() / float(read.scale)), -128 if read.signed else 0, 127 if read.signed else 255)
        assert np.array_equal(codes * float(read.scale), layer(x).detach().numpy())
        with pytest.raises(UnreadableQuantizer, match=r"^act, format: the scale 0\.\d+ is not a power of two"):
            format_of(layer, "act")
    assert activation_of(bnn.QuantReLU(act_quant=None)) is None
    assert activation_of(bnn.QuantIdentity(act_quant=None)) is None


@pytest.mark.parametrize(
    ("layer", "read", "message"),
    [
        (lambda: bnn.QuantLinear(3, 2, input_quant=Int8ActPerTensorFloat), weight_of, "it has an input_quant"),
        (lambda: bnn.QuantLinear(3, 2, output_quant=Int8ActPerTensorFloat), bias_of, "it has an output_quant"),
        (lambda: bnn.QuantLinear(3, 2, weight_quant=ShiftedUint8WeightPerTensorFloat), weight_of, "its zero point is"),
        (lambda: nn.Linear(3, 2), weight_of, "a Linear is not a quantized linear, conv1d or conv2d layer"),
        (lambda: bnn.QuantHardSwish(), activation_of, "a QuantHardSwish is not a quantized relu, identity, .* layer"),
        (lambda: bnn.QuantReLU(input_quant=Int8ActPerTensorFloat), activation_of, "it has an input_quant"),
        (lambda: bnn.QuantReLU(float_to_int_impl_type="CEIL"), activation_of, "no vendor's type rounds like"),
        (lambda: bnn.QuantLinear(3, 2, weight_quant=None), format_of, "it is not quantized"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(layer, read, message):
    module = layer()
    module(torch.randn(5, 3))
    with pytest.raises(UnreadableQuantizer, match=rf"^block\.7[:,].*{message}"):
        read(module, name="block.7")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_weight_or_bias_is_refused(value):
    layer = QuantLinear(3, 2)
    with torch.no_grad():
        layer.weight[1, 1] = value
        layer.bias[0] = value
    for read, what in ((weight_of, "weights"), (bias_of, "bias")):
        with pytest.raises(UnreadableQuantizer, match=rf"^fc, {what}: \d of \d values are NaN or infinite"):
            read(layer, name="fc")


def test_reading_leaves_the_layer_as_it_was():
    layer = QuantReLU(spec=SIX)
    layer(torch.randn(10))
    before = copy.deepcopy(layer.state_dict())
    activation_of(layer)
    assert layer.training and layer.act_quant.training
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


def test_kinds():
    assert kind(QuantLinear(1, 1)) is kind(bnn.QuantLinear(1, 1, True)) is Kind.LINEAR
    assert kind(QuantReLU()) is kind(bnn.QuantReLU()) is Kind.RELU
    assert kind(QuantIdentity()) is kind(bnn.QuantIdentity()) is Kind.IDENTITY
    assert kind(QuantConv1d(1, 1, 1)) is kind(bnn.QuantConv1d(1, 1, 1)) is Kind.CONV1D
    assert kind(QuantConv2d(1, 1, 1)) is kind(bnn.QuantConv2d(1, 1, 1)) is Kind.CONV2D
    assert kind(bnn.QuantHardSwish()) is kind(bnn.QuantConvTranspose1d(1, 1, 1)) is Kind.OTHER
    assert (kind(bnn.QuantTanh()), kind(bnn.QuantSigmoid())) == (Kind.TANH, Kind.SIGMOID)
    assert kind(bnn.QuantHardTanh(min_val=-1.0, max_val=1.0)) is Kind.IDENTITY  # its quantizer does the clipping
    assert kind(bnn.QuantSigmoid(act_quant=None)) is Kind.SIGMOID
    ours = [QuantReLU6(), QuantLeakyReLU(0.25), QuantHardTanh(), QuantHardSigmoid(), QuantTanh(), QuantSigmoid()]
    ours += [QuantSiLU(), QuantGELU(), QuantPReLU()]
    names = ["relu6", "leaky relu", "hard tanh", "hard sigmoid", "tanh", "sigmoid", "silu", "gelu", "prelu"]
    assert [kind(layer).value for layer in ours] == names
    assert kind(nn.Linear(1, 1)) is None and not is_quantized(nn.ReLU()) and is_quantized(bnn.QuantTanh())


def test_fraction_bits_of_a_scale():
    for frac in (-40, -1, 0, 1, 7, 64):
        assert frac_of(Fraction(2) ** -frac) == frac
    for scale in (Fraction(3, 4), Fraction(3), Fraction(0)):
        with pytest.raises(UnreadableQuantizer, match="is not a power of two"):
            frac_of(scale)


def test_plain_brevitas_binary_weights_are_read_as_two_bits():
    layer = bnn.QuantLinear(6, 4, weight_quant=SignedBinaryWeightPerTensorConst, weight_scaling_const=0.1).eval()
    with torch.no_grad():
        layer.weight[0, 0] = 0.0
    read = weight_of(layer)
    assert (read.width, read.signed) == (2, True) and set(read.codes.flat) == {-1, 1} and read.codes[0, 0] == 1
    assert torch.equal(values_of(read, torch.float32), layer.quant_weight().value)


@pytest.mark.parametrize("scale", list(Scale))
def test_the_rescaling_constants_are_exact(scale):
    layer = QuantConv2d(3, 4, 3, spec=QuantSpec(weight_width=5, weight_scale=scale, weight_per_channel=True))
    assert scale_of(layer) == tuple(Fraction(s) for s in layer.quant_weight().scale.flatten().tolist())
    tanh = QuantTanh(spec=QuantSpec(activation_width=5, activation_scale=scale))
    tanh(torch.randn(50))
    assert scale_of(tanh) == (Fraction(tanh.act_quant.scale().item()),)
    assert scale_of(bnn.QuantLinear(2, 2, True, weight_quant=None)) is None


def test_what_stands_behind_the_sums():
    plain = QuantLinear(3, 2)
    assert output_of(plain) is accumulator_of(plain) is output_of(bnn.QuantLinear(3, 2, True)) is None
    layer = QuantConv1d(3, 2, 1, spec=QuantSpec(output_width=7, output_frac=3, accumulator=FixedPoint(12, 4)))
    assert accumulator_of(layer) == FixedPoint(12, 4)
    assert output_of(layer).format == FixedPoint(7, 3)
    with pytest.raises(UncalibratedQuantizer, match=r"^fc\.output: its range has not seen any data"):
        output_of(QuantLinear(3, 2, spec=QuantSpec(output_width=7)), "fc")
    with pytest.raises(UnreadableQuantizer, match=r"^act: a QuantReLU is not a quantized linear, conv1d or conv2d"):
        output_of(QuantReLU(), "act")
