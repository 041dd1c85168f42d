"""Calls that write over what they read: lowered where nobody reads it afterwards, else refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress.layers import QuantIdentity, QuantLinear, QuantSpec
from export.frontends.torch import lower
from export.ir import GraphError


class Net(nn.Module):
    def __init__(self, forward: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        spec = QuantSpec(input_frac=3, input_width=6, weight_frac=3, weight_width=5, bias_frac=4)
        self.quant, self.fc = QuantIdentity(spec=spec), QuantLinear(4, 4, spec=spec)
        self.relu, self.flat = nn.ReLU(inplace=True), nn.Flatten()
        self.computed = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.computed(self, x)


def read_twice(net: Net, x: Tensor) -> Tensor:
    x = net.fc(net.quant(x))
    return net.fc(net.quant(F.relu(x, inplace=True))) + net.fc(net.quant(x))


def written_through_a_view(net: Net, x: Tensor) -> Tensor:
    x = net.fc(net.quant(x))
    net.relu(net.flat(x))
    return net.fc(net.quant(x))


def a_view_read_afterwards(net: Net, x: Tensor) -> Tensor:
    x = net.fc(net.quant(x))
    view = x.flatten(1)
    torch.relu_(x)
    return net.fc(net.quant(view))


def written_through_a_part(net: Net, x: Tensor) -> Tensor:
    x = net.fc(net.quant(x))
    x.unflatten(1, (2, 2)).unbind(2)[1].add_(1)
    return net.fc(net.quant(x))


def a_sum_read_afterwards(net: Net, x: Tensor) -> Tensor:
    x = net.fc(net.quant(x))
    y = x.detach()
    x += 1
    return x + y


def harmless(net: Net, x: Tensor) -> Tensor:
    x = net.fc(net.quant(x))
    x = net.relu(net.flat(x))
    return net.fc(net.quant(x))


def harmless_sums(net: Net, x: Tensor) -> Tensor:
    """Of copies, and of what is asked for its shape only."""
    x = net.fc(net.quant(x))
    copy, turned = x.clone(), x.flip(1).mul_(2)
    y = x.add_(copy).sub_(turned)
    return y.view(x.shape[0], -1)


REFUSED = [read_twice, written_through_a_view, a_view_read_afterwards, written_through_a_part, a_sum_read_afterwards]


@pytest.mark.parametrize("forward", REFUSED)
def test_what_is_read_afterwards_is_not_written_over(forward: Callable[[Net, Tensor], Tensor]) -> None:
    with pytest.raises(GraphError, match=r"writes over what .* reads afterwards; use inplace=False"):
        lower(Net(forward).eval(), (4,))


@pytest.mark.parametrize("forward", [harmless, harmless_sums])
def test_the_rest_is_lowered_as_if_it_wrote_nowhere(forward: Callable[[Net, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    net = Net(forward).eval()
    graph = lower(net, (4,))
    codes = np.random.default_rng(0).integers(-32, 32, size=(200, 4))
    x = torch.from_numpy(graph.inputs[0].output.format.values(codes))
    with torch.no_grad():
        expected = net.double()(x).numpy()
    assert len(np.unique(expected)) > 50
    assert np.array_equal(graph.outputs[0].format.values(graph.eval(codes)), expected)
