"""The activation layers: a float function, then a quantizer, both held against their definitions and Brevitas."""

import copy
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from compress.fixed import Overflow, encode
from compress.layers import (
    BinaryQuantizer,
    QuantGELU,
    QuantHardSigmoid,
    QuantHardTanh,
    QuantIdentity,
    QuantLeakyReLU,
    QuantPReLU,
    QuantReLU,
    QuantReLU6,
    QuantSigmoid,
    QuantSiLU,
    QuantSpec,
    QuantTanh,
    Scale,
    UncalibratedQuantizer,
    activation_of,
    calibrate,
    slopes_of,
)

DTYPES = (torch.float32, torch.float64)
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32)

#: name: (layer, function, whether its results have a sign)
LAYERS = {
    "relu": (QuantReLU, F.relu, False),
    "identity": (QuantIdentity, lambda x: x, True),
    "relu6": (QuantReLU6, F.relu6, False),
    "leaky relu": (lambda **k: QuantLeakyReLU(0.125, **k), lambda x: F.leaky_relu(x, 0.125), True),
    "prelu": (
        lambda spec, **k: QuantPReLU(spec=replace(spec, weight_frac=4), **k),
        lambda x: F.leaky_relu(x, 0.25),
        True,
    ),
    "hard tanh": (QuantHardTanh, F.hardtanh, True),
    "hard tanh, 0 to 3": (lambda **k: QuantHardTanh(0, 3, **k), lambda x: F.hardtanh(x, 0, 3), False),
    "hard sigmoid": (QuantHardSigmoid, F.hardsigmoid, False),
    "tanh": (QuantTanh, torch.tanh, True),
    "sigmoid": (QuantSigmoid, torch.sigmoid, False),
    "silu": (QuantSiLU, F.silu, True),
    "gelu": (QuantGELU, F.gelu, True),
    "gelu, tanh": (lambda **k: QuantGELU("tanh", **k), lambda x: F.gelu(x, approximate="tanh"), True),
}


def spec_of(width: int, scale: Scale = Scale.POWER_OF_TWO, frac: int | None = None) -> QuantSpec:
    return QuantSpec(
        activation_width=width,
        activation_scale=scale,
        activation_frac=frac,
        input_width=width,
        input_scale=scale,
        input_frac=frac,
    )


def run(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y))
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


def data(dtype: torch.dtype, seed: int) -> Tensor:
    """Ordinary numbers, ties and ends of ranges."""
    rng = torch.Generator().manual_seed(seed)
    halves = torch.randint(-40, 40, (150,), generator=rng) / 8
    return torch.cat([torch.randn(150, generator=rng, dtype=torch.float64) * 3, halves]).to(dtype)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(list(LAYERS)),
    width=st.sampled_from(WIDTHS),
    scale=st.sampled_from(list(Scale)),
    constant=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_every_activation_equals_brevitas(name, width, scale, constant, dtype, seed):
    frac = width - 2 if constant and scale is Scale.POWER_OF_TWO else None
    x = data(dtype, seed)
    runs = []
    for lean in (True, False):
        layer = LAYERS[name][0](spec=spec_of(width, scale, frac), lean=lean).to(dtype)
        layer(x)
        # What calibration found is the middle of a range; at its lower end more of the data is clipped.
        if layer.log2_range is not None:
            nn.init.constant_(layer.log2_range, layer.log2_range.item() - 0.9)
        runs.append(run(layer, x))
    for ours, theirs in zip(*runs, strict=True):
        assert torch.equal(ours, theirs), (ours - theirs).abs().max()


@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", LAYERS)
def test_an_activation_is_its_function_quantized_as_its_reading_says(name, width, scale):
    make, function, signed = LAYERS[name]
    layer = make(spec=spec_of(width, scale)).double()
    x = data(torch.float64, 5)
    layer(x)
    layer.eval()
    real, y, read = function(x).numpy(), layer(x).detach().numpy(), activation_of(layer)
    if width == 1 and signed:
        assert read == BinaryQuantizer(read.scale)
        assert np.array_equal(y, np.where(real >= 0, 1.0, -1.0) * float(read.scale))
        return
    assert (read.width, read.signed, read.narrow) == (width, signed, signed and width == 2)
    if scale is Scale.POWER_OF_TWO:
        overflow = Overflow.SAT_SYM if read.narrow else Overflow.SAT
        assert np.array_equal(y, read.format.values(encode(real, read.format, read.rounding, overflow)))
    low, high = (read.narrow - 2 ** (width - 1), 2 ** (width - 1) - 1) if signed else (0, 2**width - 1)
    assert np.array_equal(y, np.clip(np.rint(real / float(read.scale)), low, high) * float(read.scale))


@pytest.mark.parametrize(
    ("layer", "width", "highest", "lowest"),
    [
        (QuantReLU6, 6, 6.0, 0.0),
        (QuantReLU6, 3, 6.0, 0.0),
        (QuantReLU6, 1, 4.0, 0.0),
        (QuantHardTanh, 6, 1 - 2**-5, -1.0),
        (QuantHardTanh, 2, 1.0, -1.0),
        (QuantHardTanh, 1, 1.0, -1.0),
        (lambda **k: QuantHardTanh(-3, 2, **k), 8, 2.0, -3.0),
        (lambda **k: QuantHardTanh(0, 3, **k), 1, 2.0, 0.0),
        (QuantTanh, 6, 1 - 2**-5, -1.0),
        (QuantTanh, 1, 1.0, -1.0),
        (QuantHardSigmoid, 8, 1 - 2**-8, 0.0),
        (QuantSigmoid, 8, 1 - 2**-8, 0.0),
        (QuantSigmoid, 1, 1.0, 0.0),
    ],
)
def test_bounded_functions_have_constant_ranges(layer, width, highest, lowest):
    built = layer(spec=spec_of(width)).eval()
    assert built.learned_range is None and not list(built.parameters())
    y = built(torch.linspace(-20, 20, 1001))
    assert (y.max().item(), y.min().item()) == (highest, lowest)


def test_a_stated_binary_point_and_a_float_scale_take_the_place_of_the_bound():
    assert QuantTanh(spec=spec_of(6, frac=2))._grid.frac == 2
    layer = QuantTanh(spec=spec_of(6, Scale.FLOAT))
    assert layer.log2_range is None and layer.learned_range is not None
    with pytest.raises(UncalibratedQuantizer, match="QuantTanh: its range has not seen any data yet"):
        layer.eval()(torch.ones(2))


def test_the_binary_gradient_passes_where_the_clip_is_inactive():
    layer = QuantHardTanh(spec=spec_of(1))
    x = torch.tensor([-1.5, -0.5, 0.0, 0.5, 1.5], requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.tolist() == [-1, -1, 1, 1, 1] and x.grad.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("name", ["relu", "identity", "leaky relu", "tanh"])
@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_a_float_range_is_found_by_least_squared_error_and_learned(name, width):
    make, function, _ = LAYERS[name]
    layer = make(spec=spec_of(width, Scale.FLOAT)).double()
    x = data(torch.float64, 9)
    layer(x)
    found = layer.learned_range.item()

    def error(value: float) -> float:
        nn.init.constant_(layer.learned_range, value)
        return (layer(x) - function(x)).square().sum().item()

    assert error(found) <= min(error(found * 2 ** (k / 16)) for k in range(-32, 33)) * (1 + 1e-6)
    # From too small a range the training finds a way back.
    start = error(found / 4)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        (layer(x) - function(x)).square().sum().backward()
        optimizer.step()
    assert layer.learned_range.item() > found / 4
    assert (layer(x) - function(x)).square().sum().item() < start * 0.9


def test_a_failed_calibration_leaves_the_range_as_it_was(monkeypatch):
    layer = QuantIdentity(spec=spec_of(6))
    before = layer.learned_range.item()

    def broken(real: Tensor) -> Tensor:
        raise MemoryError

    monkeypatch.setattr(layer, "_quantized", broken)
    with pytest.raises(MemoryError):
        layer(torch.randn(5))
    assert layer.learned_range.item() == before and not layer.calibrated


@pytest.mark.parametrize("scale", list(Scale))
def test_state_and_copies(scale):
    layer, other = (QuantLeakyReLU(0.25, spec=spec_of(5, scale)) for _ in range(2))
    x = torch.randn(100)
    fresh = copy.deepcopy(layer.state_dict())
    layer(x)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert torch.equal(other.eval()(x), layer.eval()(x)) and torch.equal(copy.deepcopy(layer)(x), layer(x))
    layer.load_state_dict(fresh)
    with pytest.raises(UncalibratedQuantizer):
        layer(x)
    calibrate(layer, x)
    assert torch.equal(layer(x), other(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", (2, 3, 8, 24, 32))
@pytest.mark.parametrize("frac", [None, 3])
def test_the_slopes_of_a_prelu_are_weights(dtype, width, frac):
    """Trained, one per channel: Brevitas's numbers and gradients, and those of torch with the slopes that are read."""
    spec = QuantSpec(weight_width=width, weight_frac=frac, activation_width=6, activation_frac=3)
    runs, x = [], data(dtype, 3).reshape(10, 5, 6)
    for lean in (True, False):
        layer = QuantPReLU(5, spec=spec, lean=lean).to(dtype)
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
        runs.append(run(layer, x))
    for ours, theirs in zip(*runs, strict=True):
        assert torch.equal(ours, theirs)
    if width > 24 and dtype is torch.float32:
        return
    read = slopes_of(layer)
    slopes = torch.tensor([float(int(code) * read.scale[0]) for code in read.codes], dtype=dtype)
    assert read.width == width and (frac is None or read.scale == (Fraction(2) ** -frac,))
    identity = QuantIdentity(spec=QuantSpec(input_width=6, input_frac=3)).to(dtype)
    assert torch.equal(layer(x), identity(F.prelu(x, slopes)))


def test_calibration_keeps_the_channels_of_what_enters():
    layer = QuantPReLU(3, spec=spec_of(5))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([4.0, 0.25, 0.25]))
    model, x = nn.Sequential(layer, nn.Flatten(2), layer), torch.rand(20, 3, 2, 2) - 1
    calibrate(model, x)
    assert layer(torch.full((1, 3, 1), -0.5))[0, 0] < -1.5, "a range for channel 0, whose slope is 4"


def test_a_flag_that_is_written_to_is_looked_at_again():
    layer = QuantReLU(spec=spec_of(6))
    layer(torch.rand(10))
    layer.eval()(torch.rand(10))
    layer.calibrated.fill_(False)
    with pytest.raises(UncalibratedQuantizer):
        layer(torch.rand(10))
    with torch.inference_mode():
        layer.calibrated = torch.tensor(True)
        assert layer(torch.rand(10)).shape == (10,)


def test_a_switched_off_quantizer_leaves_the_function():
    layer = QuantTanh(spec=spec_of(3))
    layer.act_quant.disable_quant = True
    x = torch.randn(20)
    assert torch.equal(layer(x), torch.tanh(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: QuantLeakyReLU(0.0), "the slope lies between 0 and 1, got 0.0; 0 is a QuantReLU"),
        (lambda: QuantLeakyReLU(1.5), "the slope lies between 0 and 1, got 1.5"),
        (lambda: QuantPReLU(spec=QuantSpec(weight_width=1)), "weight_width=1 leaves but the signs of its slopes"),
        (lambda: QuantHardTanh(1.0, -1.0), "needs min_val <= 0 < max_val, got 1.0 and -1.0"),
        (lambda: QuantHardTanh(0.5, 2.0), "needs min_val <= 0 < max_val, got 0.5 and 2.0"),
        (lambda: QuantHardTanh(-1.0, math.nan), "needs min_val <= 0 < max_val, got -1.0 and nan"),
        (lambda: QuantHardTanh(-1.0, math.inf), "needs finite bounds, got -1.0 and inf; without bounds it is a Quant"),
    ],
)
def test_functions_that_cannot_be_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
    with pytest.raises(TypeError, match="negative_slope"):
        QuantLeakyReLU()


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (QuantReLU6(spec=spec_of(6)), "QuantReLU6(6-bit unsigned, 3 fraction bits)"),
        (QuantLeakyReLU(0.125, spec=spec_of(6)), "QuantLeakyReLU(slope 0.125, 6-bit signed, learned range)"),
        (
            QuantPReLU(3, spec=replace(spec_of(6), weight_frac=4)),
            "QuantPReLU(3 slopes of 8 bits, 4 of them behind the point, 6-bit signed, learned range)",
        ),
        (QuantPReLU(spec=spec_of(6)), "QuantPReLU(one slope of 8 bits, 6-bit signed, learned range)"),
        (QuantHardTanh(spec=spec_of(1)), "QuantHardTanh(-1.0 to 1.0, binary, 0 fraction bits)"),
        (QuantSigmoid(spec=spec_of(6, Scale.FLOAT)), "QuantSigmoid(6-bit unsigned, learned range, float scale)"),
    ],
)
def test_a_layer_prints_its_scale(layer, text):
    assert repr(layer) == text
