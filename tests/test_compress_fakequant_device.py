"""The way of a GPU, which never waits for the device, held on the CPU against the way of the CPU, bit for bit."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import compress.fakequant.nodes as nodes
from compress.fakequant import device
from compress.layers import QuantConv1d, QuantIdentity, QuantLinear, QuantReLU, QuantSpec
from compress.layers.state import Seen
from compress.mask import apply_masks

DTYPES = (torch.float32, torch.float64)


@pytest.fixture
def on_device(monkeypatch):
    """Switches between the two ways; on the way of the device, asking a tensor for its value is an error."""

    def switch(forced: bool) -> None:
        def refuse(tensor: Tensor, *_: object) -> None:
            raise AssertionError("this would wait for the device")

        monkeypatch.undo()
        if forced:
            monkeypatch.setattr(nodes, "_way", lambda x: device)
            for name in ("item", "__bool__", "__float__", "__int__", "tolist", "numpy"):
                monkeypatch.setattr(Tensor, name, refuse)

    return switch


def run(layer: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(upstream)
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


def assert_equal(layer: nn.Module, x: Tensor, on_device) -> None:
    y = layer(x)  # on the CPU: calibrates, and remembers that it has
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(y.dtype)
    results = []
    for forced in (False, True):
        on_device(forced)
        results.append(run(layer, x, upstream))
    on_device(False)
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs), (ours - theirs).abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [2, 3, 6, 8, 16, 24, 32])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("values", ["random", "tied", "zero"])
def test_weights_on_a_device_equal_those_on_the_cpu(width, dtype, constant, masked, values, on_device):
    spec = QuantSpec(weight_width=width, weight_frac=2 if constant else None)
    for layer, shape in ((QuantLinear(7, 5, spec=spec), (9, 7)), (QuantConv1d(3, 4, 3, spec=spec), (2, 3, 8))):
        torch.manual_seed(width)
        model = nn.Sequential(layer).to(dtype)
        with torch.no_grad():
            if values == "tied":
                layer.weight.copy_(layer.weight.sign() * 0.3)
            elif values == "zero":
                layer.weight.zero_()
        if masked:
            apply_masks(model, {"0.weight": torch.rand(layer.weight.shape) > 0.5})
        assert_equal(model, torch.randn(shape, dtype=dtype), on_device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 2, 3, 6, 8, 16, 24, 32])
@pytest.mark.parametrize("constant", [False, True])
def test_activations_on_a_device_equal_those_on_the_cpu(width, dtype, constant, on_device):
    frac = 3 if constant else None
    spec = QuantSpec(activation_width=width, activation_frac=frac, input_width=max(width, 2), input_frac=frac)
    x = torch.cat([torch.randn(200) * 2, torch.randint(-70, 70, (200,)) / 16]).to(dtype)
    for make in (QuantReLU, QuantIdentity):
        assert_equal(make(spec=spec).to(dtype), x, on_device)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(exponent=st.integers(-126, 127), dtype=st.sampled_from(DTYPES))
def test_powers_of_two_are_exact(exponent, dtype):
    assert device.power_of_two(torch.tensor(float(exponent), dtype=dtype)).item() == math.ldexp(1.0, exponent)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_range_that_is_no_number_is_seen(value):
    assert device.power_of_two(torch.tensor(value)).isnan()


def test_a_flag_is_read_once_and_again_after_a_write():
    flag = torch.tensor(True)
    seen = Seen(flag)
    assert seen.of(flag) and not seen.of(torch.tensor(True))
    flag.fill_(False)
    assert not seen.of(flag) and not Seen(None).of(flag)
    with torch.inference_mode():
        untracked = torch.tensor(True)
    assert not Seen(untracked).of(untracked)
