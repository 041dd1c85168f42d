"""Functional calls: each is the layer it stands for, with its very arguments, or is refused."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress.layers import QuantReLU, QuantSpec
from compress.quantize import LayerTracer, UnsupportedLayer, quantize
from compress.quantize.calls import layer_of

SIX = QuantSpec(weight_width=6, activation_width=6, input_width=6)


class Calls(nn.Module):
    def __init__(self, call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


CALLS = {
    "relu": (F.relu, "ReLU()"),
    "torch.relu": (torch.relu, "ReLU()"),
    "x.relu": (lambda x: x.relu(), "ReLU()"),
    "relu6": (F.relu6, "ReLU6()"),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.25), "LeakyReLU(negative_slope=0.25)"),
    "leaky_relu, default": (F.leaky_relu, "LeakyReLU(negative_slope=0.01)"),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, max_val=0.75), "Hardtanh(min_val=-0.5, max_val=0.75)"),
    "hardsigmoid": (F.hardsigmoid, "Hardsigmoid()"),
    "tanh": (torch.tanh, "Tanh()"),
    "x.tanh": (lambda x: x.tanh(), "Tanh()"),
    "F.tanh": (F.tanh, "Tanh()"),
    "sigmoid": (torch.sigmoid, "Sigmoid()"),
    "F.sigmoid": (F.sigmoid, "Sigmoid()"),
    "clamp": (lambda x: torch.clamp(x, -0.5, 0.5), "Hardtanh(min_val=-0.5, max_val=0.5)"),
    "x.clamp": (lambda x: x.clamp(min=0), "ReLU()"),
    "max_pool1d": (
        lambda x: F.max_pool1d(x.flatten(2), 3, 2, padding=1),
        "MaxPool1d(kernel_size=3, stride=2, padding=1, ",
    ),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2, ceil_mode=True), "MaxPool2d(kernel_size=2, stride=2, padding=0, "),
    "torch.max_pool2d": (lambda x: torch.max_pool2d(x, 3, 1), "MaxPool2d(kernel_size=3, stride=1, "),
    "avg_pool1d": (lambda x: F.avg_pool1d(x.flatten(2), 3), "AvgPool1d(kernel_size=(3,), stride=(3,), "),
    "avg_pool2d": (
        lambda x: F.avg_pool2d(x, (3, 2), padding=1, count_include_pad=False),
        "AvgPool2d(kernel_size=(3, 2), stride=(3, 2), padding=1)",
    ),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x.flatten(2), 2), "AdaptiveAvgPool1d(output_size=2)"),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (1, 2)), "AdaptiveAvgPool2d(output_size=(1, 2))"),
    "adaptive_max_pool1d": (lambda x: F.adaptive_max_pool1d(x.flatten(2), 2), "AdaptiveMaxPool1d(output_size=2)"),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, 2), "AdaptiveMaxPool2d(output_size=2)"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_the_layer_it_stands_for(name):
    call, words = CALLS[name]
    torch.manual_seed(0)
    x = torch.randn(3, 2, 6, 5)
    (layer,) = [made for node in LayerTracer().trace(Calls(call)).nodes if (made := layer_of(node)) is not None]
    assert repr(layer).startswith(words)
    entering = x.flatten(2) if "1d" in name else x
    assert torch.equal(layer(entering), call(x))


def test_a_dropout_told_its_mode_becomes_a_layer_that_knows_it():
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(50, 50)

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(torch.relu(self.fc(x)), 0.25, self.training)

    for model in (Dropping(), Dropping().eval()):
        quantized = quantize(model, SIX)
        assert repr(quantized.dropout) == "Dropout(p=0.25, inplace=False)"
        x = torch.randn(40, 50)
        dropped = quantized.train()(x)
        kept = quantized.eval()(x)
        assert torch.equal(kept, quantized(x))
        share = (dropped == 0)[kept != 0].float().mean()
        assert abs(share - 0.25) < 0.1


def test_a_dropout_that_never_drops_is_nothing():
    model = Calls(lambda x: F.dropout(torch.relu(x), 0.5, False))
    quantized = quantize(model, SIX)
    assert type(quantized.dropout) is nn.Identity


def test_what_depends_on_the_mode_is_refused():
    class Heads(nn.Module):
        def __init__(self, other) -> None:
            super().__init__()
            self.fc, self.other = nn.Linear(4, 4), other

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x)
            return torch.relu(x) if self.training else self.other(x)

    with pytest.raises(UnsupportedLayer, match=r"^Heads: its forward does another thing in eval mode .*\(relu\)"):
        quantize(Heads(torch.tanh), SIX)
    with pytest.raises(UnsupportedLayer, match=r"^Heads: its forward makes other calls in training than in eval mode"):
        quantize(Heads(lambda x: torch.relu(torch.relu(x))), SIX)


class Sums(nn.Module):
    def __init__(self, forward) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def in_place(net: nn.Module, x: Tensor) -> Tensor:
    y = net.a(x)
    y += net.b(x)
    return net.relu(y)


@pytest.mark.parametrize("forward", [in_place, lambda net, x: net.relu(net.a(x).add_(net.b(x)))])
def test_writing_in_place_becomes_a_sum(forward):
    torch.manual_seed(0)
    model, x = Sums(forward), torch.randn(8, 4)
    entered = x.clone()
    quantized = quantize(model, QuantSpec(weight_width=24, bias_width=24, activation_width=24, input_width=24))
    quantized(x).sum().backward()
    assert torch.allclose(quantized(x), model(x), atol=1e-5) and torch.equal(x, entered)
    assert all("iadd" not in str(node.target) and node.target != "add_" for node in quantized.graph.nodes)


def aliased_sum(net: nn.Module, x: Tensor) -> Tensor:
    y = net.a(x)
    z = y.flatten(1)
    y += net.b(x)
    return z + y


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda net, x: net.relu(y := net.a(x)) + y, "relu: changes in place a tensor that add reads later"),
        (lambda net, x: F.relu(y := net.a(x), inplace=True) + y, "relu: changes in place a tensor that add reads"),
        (lambda net, x: (y := net.a(x)).relu_() + y, "relu_: changes in place a tensor that add reads later"),
        (lambda net, x: torch.relu_(y := net.a(x)) + y, "relu_: changes in place a tensor that add reads later"),
        (aliased_sum, "add: changes in place a tensor that add_1 reads later; drop inplace=True, or write x = x + y"),
    ],
)
def test_relying_on_a_change_in_place_is_refused(forward, message):
    with pytest.raises(UnsupportedLayer, match=f"^{re.escape(message)}"):
        quantize(Sums(forward), SIX)


def test_reading_before_the_change_is_fine():
    torch.manual_seed(0)
    model = Sums(lambda net, x: net.b(y := net.a(x)) + net.relu(y))
    quantized = quantize(model, SIX)
    assert type(quantized.relu) is QuantReLU
    quantized(torch.randn(5, 4)).sum().backward()
    assert torch.equal(copy.deepcopy(quantized)(x := torch.randn(5, 4)), quantized(x))


def test_shapes_computed_by_hand_need_nothing():
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv1d(2, 3, 3), nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.conv(x))
            return self.fc(x.view(x.shape[0], x.size(1) * x.size(2)))

    quantized = quantize(ByHand(), SIX)
    assert quantized(torch.randn(5, 2, 6)).shape == (5, 2)
    assert list(dict(quantized.named_children())) == ["input", "conv", "relu", "fc"]
