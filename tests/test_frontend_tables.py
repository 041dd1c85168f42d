"""Functions that float layers compute to a stated precision: tables with a known error, and softmax."""

from __future__ import annotations

import re
from fractions import Fraction

import brevitas.nn as bnn
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compress.fixed import FixedPoint
from compress.layers import QuantIdentity, QuantLinear, QuantSpec
from export import to_graph
from export.frontends.approximation import upward
from export.frontends.precision import Precision
from export.frontends.torch import lower
from export.frontends.value import UnsupportedLayer
from export.ir import Graph
from export.ops import Softmax, Table
from export.verification.check import check

WIDE = FixedPoint.of(16, 6)


def bound(graph: Graph) -> float:
    (found,) = re.findall(r"within (\S+) of the real", " ".join(graph.notes))
    return float(found)


def worst(graph: Graph, real: nn.Module, x: np.ndarray) -> float:
    got = graph.outputs[0].format.values(graph.eval(graph.inputs[0].encode(x)))
    with torch.no_grad():
        return float(np.abs(got - real(torch.from_numpy(x)).numpy()).max())


@pytest.mark.parametrize("layer", [nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.GELU(), nn.GELU("tanh")], ids=str)
@pytest.mark.parametrize("table_width", [6, 10, 12])
def test_the_error_of_a_table_is_reported_and_reached(layer, table_width):
    """On every one of the 2**16 numbers that there are."""
    graph = to_graph(nn.Sequential(layer), (1,), input_format=WIDE, precision=Precision(table_width=table_width))
    every = WIDE.values(np.arange(WIDE.min_code, WIDE.max_code + 1))[:, None]
    found = worst(graph, layer, every)
    assert found <= bound(graph) <= 1.02 * found + 1e-4
    (table,) = (op for op in graph if isinstance(op, Table))
    assert table.entries.shape[1] <= 1 << table_width


def test_a_narrow_number_is_looked_up_by_itself():
    narrow = FixedPoint(8, 4)
    graph = to_graph(nn.Sequential(nn.Tanh()), (1,), input_format=narrow, precision=Precision())
    assert [type(op).__name__ for op in graph] == ["Input", "Table"]
    assert worst(graph, nn.Tanh(), narrow.values(np.arange(-128, 128))[:, None]) <= bound(graph) <= 2.0**-11


def test_a_scaled_sum_is_looked_up_too():
    torch.manual_seed(0)
    model = nn.Sequential(bnn.QuantIdentity(), bnn.QuantLinear(6, 4, bias=True), nn.Sigmoid()).eval()
    model.train()(torch.randn(200, 6))
    graph = to_graph(model.eval(), (6,), precision={"2": Precision()})
    x = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    assert worst(graph, model, x) <= bound(graph) + 1e-5  # of float32
    assert bound(graph) < 0.02


def test_the_cxx_of_tables():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 4), nn.Softmax(-1))
    graph = to_graph(model, (5,), precision=Precision(result=WIDE, table_width=8))
    assert {type(op) for op in graph} >= {Table, Softmax}
    assert all(pair.equal for pair in check(graph, np.random.default_rng(0).normal(size=(300, 5))) if not pair.skipped)


def test_a_bound_is_rounded_up():
    assert [upward(Fraction(*v)) for v in ((0, 1), (1, 3), (1, 8), (1, 30000), (123456, 1))] == [
        "0", "0.334", "0.125", "3.34e-05", "1.24e+05",
    ]  # fmt: skip


def test_a_table_has_a_width():
    with pytest.raises(ValueError) as error:
        Precision(table_width=15)
    assert str(error.value) == "a table's index has 1 to 14 bits, got table_width=15"


def classifier(ending: nn.Module, per_channel: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    spec = QuantSpec(input_width=6, weight_width=4)
    head = bnn.QuantLinear(6, 5, bias=True, weight_scaling_per_output_channel=True) if per_channel else (
        QuantLinear(6, 5, spec=QuantSpec(weight_width=4, output_width=8)))  # fmt: skip
    model = nn.Sequential(QuantIdentity(spec=spec), head, ending)
    with torch.no_grad():
        model.train()(torch.randn(100, 6))
    return model.eval()


class Called(nn.Module):
    def __init__(self, call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(x)


SOFTMAXES = {
    "layer": nn.Softmax(dim=-1),
    "layer, the other way": nn.Softmax(dim=1),
    "torch": Called(lambda x: torch.softmax(x, -1)),
    "functional": Called(lambda x: F.softmax(x, dim=1)),
    "method": Called(lambda x: x.softmax(-1)),
}


@pytest.mark.parametrize("ending", SOFTMAXES.values(), ids=SOFTMAXES)
def test_softmax_is_near_torchs(ending):
    model = classifier(ending)
    graph = to_graph(model, (6,))
    x = np.random.default_rng(0).normal(size=(1000, 6)).astype(np.float32) * 2
    assert worst(graph, model, x) <= bound(graph) < 2e-4
    assert graph.outputs[0].format == FixedPoint(16, 16, False)
    assert "not equal to it; where only the largest output matters, leave it out" in graph.notes[0]


def test_a_float_scale_before_softmax_is_part_of_its_table():
    torch.manual_seed(0)
    model = nn.Sequential(bnn.QuantIdentity(), bnn.QuantLinear(6, 5, bias=False), bnn.QuantIdentity(), nn.Softmax(-1))
    model.train()(torch.randn(200, 6))
    graph = to_graph(model.eval(), (6,))
    assert next(op for op in graph if isinstance(op, Softmax)).scale.denominator > 1
    x = np.random.default_rng(0).normal(size=(1000, 6)).astype(np.float32)
    assert worst(graph, model, x) <= bound(graph) < 2e-4


REFUSED = {
    "over the batch": (nn.Softmax(0), "2: takes a softmax over dim=0; over the features of one sample it is dim=-1"),
    "over nothing said": (
        nn.Softmax(None), "2: takes a softmax over dim=None; over the features of one sample it is dim=-1"),
    "to another type": (
        Called(lambda x: F.softmax(x, dim=-1, dtype=torch.float64)),
        "2.softmax: converts its result to another type; leave out dtype"),
    "logarithm": (
        nn.LogSoftmax(-1),
        "2: the logarithm of a softmax belongs to the loss; export the part before it, whose largest output is at the "
        "same place"),
    "logarithm, called": (
        Called(lambda x: F.log_softmax(x, dim=-1)),
        "2.log_softmax: the logarithm of a softmax belongs to the loss; export the part before it, whose largest "
        "output is at the same place"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what):
    ending, message = REFUSED[what]
    with pytest.raises(UnsupportedLayer) as error:
        lower(classifier(ending), (6,))
    assert str(error.value) == message


def test_softmax_of_scales_by_channel_is_refused():
    with pytest.raises(UnsupportedLayer) as error:
        lower(classifier(nn.Softmax(-1), per_channel=True), (6,))
    assert str(error.value) == (
        "2: reads 1, whose numbers have scales or offsets by channel; put a QuantIdentity before it"
    )


def test_the_fast_softmax_is_near_torchs_too():
    model = classifier(nn.Softmax(-1))
    stated = Precision(result=FixedPoint(12, 12, False), table_width=10, stable=False)
    graph = to_graph(model, (6,), precision={"2": stated})
    x = np.random.default_rng(0).normal(size=(1000, 6)).astype(np.float32) * 2
    assert worst(graph, model, x) <= bound(graph) < 2e-3
    assert "2: fast softmax" in graph.notes[0]


def test_a_fast_softmax_of_a_wide_span_is_refused():
    fine = Precision(result=FixedPoint(30, 30, False), stable=False)
    with pytest.raises(UnsupportedLayer, match=r"^2: x spans \S+, for which the fast softmax needs terms of \d+ bits"):
        lower(classifier(nn.Softmax(-1)), (6,), precision={"2": fine})
