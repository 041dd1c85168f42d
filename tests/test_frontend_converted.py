"""What quantize() makes of a float model exports as it is."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from exported import assert_exact
from torch import nn
from torch.nn import functional as F

from compress.layers import QuantSpec, calibrate, slopes_of
from compress.quantize import quantize
from export.frontends.torch import lower
from export.ir import GraphError
from export.passes import run

SPEC = QuantSpec(weight_width=5, bias_width=7, activation_width=4, input_width=6)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = F.relu6(self.a(torch.flatten(x, 1)))
        return self.c(F.hardtanh(F.relu(self.b(x))))


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return self.a(x) + x


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(2, 3, 2), nn.Conv1d(3, 2, 2)

    def forward(self, x):
        return self.b(F.pad(torch.relu(self.a(F.pad(x, (1, 0), value=-0.3))), (0, 2), value=0.7))


def converted(model, shape):
    torch.manual_seed(0)
    quantized = quantize(model, SPEC).eval()
    calibrate(quantized, torch.randn(64, *shape))
    return quantized


def test_functional_calls():
    torch.manual_seed(1)
    model = converted(Functional(), (3, 4))
    x = torch.randn(200, 3, 4, dtype=torch.float64)
    graph = lower(model, (3, 4))
    with torch.no_grad():
        expected = model.double()(x).numpy()
    for stage in (graph, run(graph)):
        codes = stage.eval(stage.inputs[0].encode(x.numpy()))
        assert (stage.outputs[0].format.values(codes) == expected).all()
    assert len(np.unique(expected)) > 50


def test_a_skip_connection():
    assert_exact(converted(Skip(), (4,)), (4,))


def test_paddings_by_numbers_that_no_quantizer_has_a_code_for():
    assert_exact(converted(Padded(), (2, 5)), (2, 5))


def test_a_prelu_keeps_its_slopes_and_has_one_for_each_channel():
    act = nn.PReLU(3)
    with torch.no_grad():
        act.weight.copy_(torch.tensor([0.3, -0.2, 1.4]))
    model = converted(nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), act, nn.Conv1d(3, 2, 2)), (2, 5))
    assert torch.equal(model[3].weight, act.weight) and model[3].weight.requires_grad
    assert slopes_of(model[3]).scale == (Fraction(2, 2**4),) and slopes_of(model[3]).codes.tolist() == [2, -2, 11]
    assert_exact(model, (2, 5))
    with pytest.raises(GraphError, match=r"^1: has 3 slopes, but reads input: fixed<6,\d>\[2, 5\]$"):
        lower(nn.Sequential(model[0], model[3]), (2, 5))
