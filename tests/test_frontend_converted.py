"""What quantize() makes of a float model exports as it is."""

from __future__ import annotations

import numpy as np
import torch
from exported import assert_exact
from torch import nn
from torch.nn import functional as F

from compress.layers import QuantSpec, calibrate
from compress.quantize import quantize
from export.frontends.torch import lower
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
