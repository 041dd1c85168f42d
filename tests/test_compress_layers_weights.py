"""The layers with weights: every scale, range and granularity against Brevitas's own way and against the formula."""

import copy

import brevitas.nn as bnn
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compress.fixed import FixedPoint, Overflow, Rounding, cast
from compress.layers import (
    QuantConv1d,
    QuantConv2d,
    QuantizedArray,
    QuantLinear,
    QuantSpec,
    Range,
    Scale,
    UnreadableQuantizer,
    calibrate,
    weight_of,
)
from compress.mask import apply_masks
from compress.rewind import model_state

DTYPES = (torch.float32, torch.float64)
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32)

LAYERS = {
    "linear": (lambda **k: QuantLinear(7, 5, **k), (9, 7)),
    "rows of rows": (lambda **k: QuantLinear(7, 5, **k), (2, 3, 7)),
    "no bias": (lambda **k: QuantLinear(7, 5, bias=False, **k), (9, 7)),
    "conv1d": (lambda **k: QuantConv1d(4, 6, 3, stride=2, padding=1, **k), (3, 4, 11)),
    "conv1d same": (lambda **k: QuantConv1d(4, 6, 4, padding="same", dilation=2, **k), (3, 4, 11)),
    "conv1d same, stride": (lambda **k: QuantConv1d(4, 6, 3, stride=2, padding="same", **k), (3, 4, 12)),
    "conv2d": (lambda **k: QuantConv2d(3, 4, (3, 2), **k), (2, 3, 7, 6)),
    "conv2d groups": (lambda **k: QuantConv2d(4, 6, 3, groups=2, dilation=(1, 2), bias=False, **k), (2, 4, 7, 7)),
    "conv2d depthwise": (lambda **k: QuantConv2d(4, 4, 3, groups=4, padding="valid", **k), (2, 4, 6, 6)),
    "conv2d same, stride": (lambda **k: QuantConv2d(3, 4, 3, stride=(2, 3), padding="same", **k), (2, 3, 7, 8)),
    "conv2d reflect": (lambda **k: QuantConv2d(3, 4, 3, padding=1, padding_mode="reflect", **k), (2, 3, 6, 6)),
    "conv2d circular": (lambda **k: QuantConv2d(3, 4, 3, padding="same", padding_mode="circular", **k), (2, 3, 6, 6)),
}


def twins(name: str, spec: QuantSpec, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    pair = []
    for lean in (True, False):
        torch.manual_seed(3)
        pair.append(LAYERS[name][0](spec=spec, lean=lean, dtype=dtype))
    return pair[0], pair[1]


def run(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, the gradient of the input and those of the parameters."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


def assert_equal(lean: nn.Module, brevitas: nn.Module, x: Tensor) -> None:
    ours, theirs = run(lean, x), run(brevitas, x)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b), (a - b).abs().max()


def example(name: str, dtype: torch.dtype, seed: int = 4) -> Tensor:
    return torch.randn(LAYERS[name][1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def values_of(read: QuantizedArray, dtype: torch.dtype) -> Tensor:
    scale = torch.tensor([float(s) for s in read.scale], dtype=dtype)
    return torch.from_numpy(read.codes).to(dtype) * scale.view(-1, *[1] * (read.codes.ndim - 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("width", [2, 6, 16, 32])
def test_every_layer_equals_brevitas(name, width, dtype):
    for frac in (None, width - 2):
        lean, brevitas = twins(name, QuantSpec(weight_width=width, weight_frac=frac), dtype)
        assert lean._lean_grid is not None, "the default and constant scales take the shorter way"
        assert_equal(lean, brevitas, example(name, dtype))
        read = weight_of(lean)
        assert torch.equal(values_of(read, dtype), lean.quant_weight().value)
        assert read.codes.shape[0] == lean.weight.shape[0]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(list(LAYERS)),
    width=st.sampled_from(WIDTHS),
    scale=st.sampled_from(list(Scale)),
    found=st.sampled_from([None, *Range]),
    per_channel=st.booleans(),
    bias=st.sampled_from([None, 2, 12]),
    dtype=st.sampled_from(DTYPES),
)
def test_every_scale_equals_brevitas(name, width, scale, found, per_channel, bias, dtype):
    spec = QuantSpec(
        weight_width=width, weight_scale=scale, weight_range=found, weight_per_channel=per_channel, bias_width=bias
    )
    assert_equal(*twins(name, spec, dtype), example(name, dtype))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("found", list(Range))
@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("width", WIDTHS)
def test_every_scale_is_what_its_name_says(width, scale, found, per_channel):
    """Codes and scales recomputed from the words of QuantSpec, in float64 and in numpy alone."""
    layer = QuantConv1d(
        3,
        4,
        5,
        dtype=torch.float64,
        spec=QuantSpec(weight_width=width, weight_scale=scale, weight_range=found, weight_per_channel=per_channel),
    )
    layer(torch.randn(1, 3, 5, dtype=torch.float64))
    magnitudes = layer.weight.detach().abs().numpy().reshape(4 if per_channel else 1, -1)
    average = found is Range.AVERAGE or (found is Range.LEARNED and width == 1)
    limit = magnitudes.mean(axis=1) if average else magnitudes.max(axis=1)
    if scale is Scale.POWER_OF_TWO:
        expected = 2.0 ** (np.ceil(np.log2(limit)) - (width - 1))
    else:
        expected = limit / max(2 ** (width - 1) - 1, 1)
    read = weight_of(layer)
    assert len(read.scale) == len(limit)
    np.testing.assert_allclose([float(s) for s in read.scale], expected, rtol=1e-12)
    exact = np.array([float(s) for s in read.scale])[:, None, None]
    ratio = layer.weight.detach().numpy() / exact
    top = 2 ** (width - 1) - 1
    codes = np.where(ratio >= 0, 1, -1) if width == 1 else np.clip(np.rint(ratio), -top, top)
    assert np.array_equal(read.codes, codes)
    if width == 1:
        assert (read.width, read.signed) == (2, True)
    if width == 2:
        assert set(read.codes.flat) <= {-1, 0, 1}


def test_zero_is_plus_one_in_binary():
    layer = QuantLinear(2, 2, spec=QuantSpec(weight_width=1))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, -1.0], [-0.0, 1.0]]))
    assert weight_of(layer).codes.tolist() == [[1, -1], [1, 1]]


def test_a_constant_binary_scale():
    layer = QuantLinear(2, 2, spec=QuantSpec(weight_width=1, weight_frac=3))
    assert set(layer.quant_weight().value.flatten().tolist()) <= {-0.125, 0.125}


def test_a_learned_range_starts_from_the_weights_and_learns():
    layer = QuantLinear(6, 4, spec=QuantSpec(weight_width=4, weight_scale=Scale.FLOAT, weight_range=Range.LEARNED))
    with torch.no_grad():
        layer.weight.mul_(3)
    assert not layer.range_found
    layer.eval()(torch.zeros(1, 6))
    assert layer.range_found and layer.weight_range.item() == layer.weight.abs().max().item()
    before = layer.weight_range.item()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(3):
        layer(torch.randn(8, 6)).square().sum().backward()
        optimizer.step()
    assert layer.weight_range.item() != before
    other = QuantLinear(6, 4, spec=layer.spec)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    x = torch.randn(5, 6)
    assert torch.equal(other(x), layer(x)), "a restored range is not started anew"
    assert QuantLinear(6, 4).weight_range is None


def test_reading_a_fresh_learned_range_starts_it_as_a_forward_does():
    spec = QuantSpec(weight_width=4, weight_range=Range.LEARNED)
    torch.manual_seed(0)
    read = QuantLinear(6, 4, spec=spec)
    torch.manual_seed(0)
    run_first = QuantLinear(6, 4, spec=spec)
    run_first(torch.zeros(1, 6))
    assert np.array_equal(weight_of(read).codes, weight_of(run_first).codes)


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["linear", "no bias", "conv1d", "conv2d groups"])
@pytest.mark.parametrize("frac", [None, 3])
def test_a_masked_layer_equals_brevitas(name, frac, dtype):
    """Training steps included, with weight decay and momentum that would move what is pruned."""
    spec = QuantSpec(weight_width=5, weight_frac=frac)
    pair = []
    for layer in twins(name, spec, dtype):
        model = nn.Sequential(layer)
        kept = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(1)) > 0.6
        apply_masks(model, {"0.weight": kept})
        with torch.no_grad():  # what is behind the mask may be anything
            layer.parametrizations["weight"].original.add_((~kept) * 5.0)
        pair.append((model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)))
    for seed in range(3):
        x = example(name, dtype, seed)
        assert_equal(pair[0][0], pair[1][0], x)
        for model, optimizer in pair:
            gradient = model[0].parametrizations["weight"].original.grad
            assert (gradient[~kept] == 0).all() and (gradient[kept] != 0).any()
            optimizer.step()


def test_a_mask_that_changes_is_seen():
    layer = QuantLinear(4, 3, bias=False)
    model = nn.Sequential(layer)
    x = torch.eye(4)
    for seed in range(3):
        kept = torch.rand(3, 4, generator=torch.Generator().manual_seed(seed)) > 0.5
        with torch.no_grad():
            if seed == 2:
                layer.parametrizations["weight"][0].kept.copy_(kept)
            else:
                apply_masks(model, {"0.weight": kept})
            layer.parametrizations["weight"].original.fill_(1.0)
        assert torch.equal(model(x).T != 0, kept)
        assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_what_diverged_behind_a_mask_stays_there():
    """A pruned NaN neither reaches the output nor the other gradients."""
    layer = QuantLinear(4, 3)
    model = nn.Sequential(layer)
    kept = torch.ones(3, 4, dtype=torch.bool)
    kept[1, 1] = False
    apply_masks(model, {"0.weight": kept})
    with torch.no_grad():
        layer.parametrizations["weight"].original[1, 1] = float("nan")
    x = torch.randn(5, 4)
    lean = run(model, x)
    layer.lean = False
    assert all(torch.isfinite(a).all() and torch.equal(a, b) for a, b in zip(lean, run(model, x), strict=True))


def test_binary_weights_are_not_pruned():
    model = nn.Sequential(QuantLinear(4, 3, spec=QuantSpec(weight_width=1)))
    apply_masks(model, {"0.weight": torch.rand(3, 4) > 0.5})
    with pytest.raises(ValueError, match=r"^QuantLinear\(4, 3, binary weights, .*no zero to prune to; leave this"):
        model(torch.randn(2, 4))
    with pytest.raises(UnreadableQuantizer, match=r"^fc1, weights: QuantLinear.*: binary weights have no zero"):
        weight_of(model[0], "fc1")


# --- behind the sums --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("register", [FixedPoint(8, 4), FixedPoint(6, 1), FixedPoint(7, 3, signed=False)], ids=str)
@pytest.mark.parametrize("name", ["linear", "conv2d"])
def test_an_accumulator_is_a_cast_of_the_exact_sums(name, register):
    spec = QuantSpec(weight_width=6, weight_frac=3, bias_width=8, bias_frac=5, accumulator=register)
    for layer in twins(name, spec, torch.float64):
        exact = twins(name, QuantSpec(weight_width=6, weight_frac=3, bias_width=8, bias_frac=5), torch.float64)[0]
        with torch.no_grad():
            for weighted in (layer, exact):
                weighted.weight.mul_(20)
        x = (example(name, torch.float64) * 8).round() / 4
        sums = exact(x).detach().numpy()
        codes = np.rint(sums * 2**5)
        assert np.array_equal(codes / 2**5, sums), "the sums are exact"
        expected = cast(codes.astype(np.int64), 5, register, Rounding.TRN, Overflow.WRAP)
        y = layer(x)
        assert np.array_equal(y.detach().numpy(), register.values(expected))
        truncated = np.floor(sums * 2.0**register.frac)
        wrapped = (truncated < register.min_code) | (truncated > register.max_code)
        assert 0 < wrapped.sum() < wrapped.size
        upstream = torch.randn_like(y)
        through = torch.from_numpy(wrapped)
        (ours,) = torch.autograd.grad(y, layer.bias, upstream)
        (straight,) = torch.autograd.grad(exact(x), exact.bias, torch.where(through, 0.0, upstream))
        assert torch.equal(ours, straight)


def test_an_output_quantizer_stands_behind_the_accumulator():
    spec = QuantSpec(weight_width=6, output_width=5, accumulator=FixedPoint(9, 4))
    layer = QuantLinear(7, 5, spec=spec)
    x = torch.randn(60, 7)
    layer(x)
    assert layer.output.calibrated
    layer.eval()
    before = QuantLinear(7, 5, spec=QuantSpec(weight_width=6, accumulator=FixedPoint(9, 4)))
    before.load_state_dict({name: value for name, value in layer.state_dict().items() if "output" not in name})
    assert torch.equal(layer(x), layer.output(before(x)))
    assert layer(x).unique().numel() <= 2**5


def test_calibration_reaches_output_quantizers():
    model = nn.Sequential(QuantLinear(3, 4, spec=QuantSpec(output_width=6)))
    calibrate(model, torch.randn(50, 3))
    assert model[0].output.calibrated and torch.isfinite(model.eval()(torch.randn(2, 3))).all()


# --- as modules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_a_state_loads_in_place_and_a_copy_is_its_own(name):
    spec = QuantSpec(weight_width=3, weight_range=Range.LEARNED, output_width=4)
    layer, other = twins(name, spec, torch.float64)
    x = example(name, torch.float64)
    layer(x)
    parameters = {key: id(p) for key, p in other.named_parameters()}
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert {key: id(p) for key, p in other.named_parameters()} == parameters
    assert {p.dtype for p in other.parameters()} == {torch.float64}
    clone = copy.deepcopy(layer)
    assert torch.equal(other.eval()(x), layer.eval()(x)) and torch.equal(clone.eval()(x), layer(x))
    with torch.no_grad():
        layer.weight.neg_()
    assert not torch.equal(clone(x), layer(x))
    assert set(model_state(nn.Sequential(layer)).tensors) >= {"0.weight", "0.range_found", "0.output.calibrated"}


def test_they_are_brevitas_layers():
    assert isinstance(QuantConv1d(1, 1, 1), bnn.QuantConv1d) and isinstance(QuantConv2d(1, 1, 1), bnn.QuantConv2d)
    with pytest.raises(TypeError, match="weight_bit_width"):
        QuantConv2d(2, 2, 1, weight_bit_width=3)
    with pytest.raises(ValueError, match="padding_mode must be one of"):
        QuantConv2d(2, 2, 3, padding=1, padding_mode="mirror")


def test_brevitas_tools_are_not_bypassed():
    layer = QuantConv1d(2, 3, 2)
    x = torch.randn(2, 2, 5)
    quantized = layer(x)
    layer.bias_quant.disable_quant = True
    assert torch.equal(layer(x), nn.functional.conv1d(x, layer.quant_weight().value, layer.bias))
    layer.bias_quant.disable_quant = False
    assert torch.equal(layer(x), quantized)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (QuantLinear(3, 2), "QuantLinear(3, 2, 8-bit weights, 16-bit bias)"),
        (
            QuantLinear(3, 2, False, spec=QuantSpec(weight_width=1, weight_scale=Scale.FLOAT, weight_per_channel=True)),
            "QuantLinear(3, 2, binary weights (float scale, one scale per channel), no bias)",
        ),
        (
            QuantConv1d(2, 4, 3, groups=2, spec=QuantSpec(weight_range=Range.LEARNED, bias_width=None)),
            "QuantConv1d(2, 4, kernel_size=(3,), stride=(1,), groups=2, 8-bit weights (learned range), float bias)",
        ),
        (
            QuantConv2d(2, 4, 1, spec=QuantSpec(weight_frac=4, output_width=6, accumulator=FixedPoint(9, 2))),
            "QuantConv2d(2, 4, kernel_size=(1, 1), stride=(1, 1), 8-bit weights (4 fraction bits), 16-bit bias, "
            "fixed<9,7> accumulator, output 6-bit signed, learned range)",
        ),
    ],
)
def test_a_layer_prints_its_scales(layer, text):
    assert repr(layer) == text
