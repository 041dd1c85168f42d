"""Graphs as values: their laws, what they remember, what a rewrite may do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from compress.fixed import FixedPoint, Overflow, Rounding
from export.intervals import Bounds
from export.ir import Const, Graph, GraphError, Tensor
from export.ops import Cast, Dense, Input, Modes, ReLU
from recipes.fuzz.graphs import random_graph, random_inputs

F8 = FixedPoint(8, 3)
X = Tensor("x", (2,), F8)
H = Tensor("h", (2,), FixedPoint(5, 1))
Y = Tensor("y", (2,), FixedPoint(4, 1, False))
ENTER, CAST, RELU = Input(X), Cast(H, X, Modes(Rounding.RND, Overflow.SAT)), ReLU(Y, H)
GRAPH = Graph("g", (ENTER, CAST, RELU), (Y,))


def test_eval_runs_the_ops_in_order_and_trace_tells_every_tensor():
    x = np.array([[-7, 7], [127, 2]])
    trace = GRAPH.trace(x)
    assert {name: codes.tolist() for name, codes in trace.items()} == {
        "x": [[-7, 7], [127, 2]], "h": [[-2, 2], [15, 1]], "y": [[0, 2], [15, 1]]
    }  # fmt: skip
    assert GRAPH.eval(x).tolist() == trace["y"].tolist()
    assert GRAPH.eval([[1, 2]]).tolist() == [[0, 1]]


def test_who_makes_and_who_reads():
    assert GRAPH.producer(H) is CAST
    assert GRAPH.consumers(X) == (CAST,)
    assert GRAPH.sole_consumer(X) is CAST
    assert GRAPH.inputs == (ENTER,)
    assert Graph("g", GRAPH.ops, (Y, H)).sole_consumer(H) is None  # it leaves the graph too
    other = Cast(Tensor("z", (2,), F8), H, Modes())
    assert Graph("g", (*GRAPH.ops, other), (Y, other.output)).sole_consumer(H) is None
    assert str(GRAPH).splitlines()[1] == "h: fixed<5,4>[2] = Cast(x)"
    assert list(CAST.inputs) == [X] and CAST.name == "h" and CAST.constants == {}


def test_bounds_contain_every_code_of_random_graphs_and_codes_are_int64():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng).verify()
        trace = graph.trace(*random_inputs(rng, graph, 50))
        for op in graph:
            codes, bounds = trace[op.name], graph.bounds[op.output]
            assert (codes >= bounds.low).all() and (codes <= bounds.high).all(), (seed, op.name)
            assert codes.dtype == np.int64, (seed, op.name)
            assert codes.shape == (50, *op.output.shape)


def test_no_samples_go_through_any_graph():
    for seed in range(30):
        graph = random_graph(np.random.default_rng(seed))
        empty = [np.zeros((0, *op.output.shape), dtype=np.int64) for op in graph.inputs]
        for name, codes in graph.trace(*empty).items():
            assert len(codes) == 0, name


def test_rebuilt_follows_chains_of_replacements():
    fine = replace(H, format=FixedPoint(6, 1))
    finer = replace(H, format=FixedPoint(7, 1))
    rebuilt = Graph("g", (ENTER, CAST, RELU), (Y, H)).rebuilt(
        (ENTER, replace(CAST, output=finer), replace(RELU, output=Tensor("y", (2,), FixedPoint(6, 1, False)))),
        {H: fine, fine: finer, Y: Tensor("y", (2,), FixedPoint(6, 1, False))},
        note="widened",
    )
    assert rebuilt.ops[2].inputs == (finer,)
    assert rebuilt.outputs == (Tensor("y", (2,), FixedPoint(6, 1, False)), finer)
    assert rebuilt.notes == ("widened",)
    assert GRAPH.notes == () and GRAPH.ops[1].output == H  # nothing changed in place


def test_values_are_frozen():
    with pytest.raises(FrozenInstanceError):
        CAST.x = H  # type: ignore[misc]
    const = Const(np.array([1, 2]), F8)
    with pytest.raises(ValueError, match="read-only"):
        const.codes[0] = 3
    source = np.array([1, 2])
    const = Const(source, F8)
    source[0] = 9
    assert const.codes.tolist() == [1, 2]


def test_the_digest_depends_on_every_meaning_and_on_nothing_else():
    def graph(weight=(1, 2), bias=3, name="g", modes=None, notes=(), width=8, dtype=int):
        x = Input(Tensor("x", (dtype(2),), FixedPoint(width, 3)))
        op = Dense(
            Tensor("y", (1,), FixedPoint(20, 6)),
            x.output,
            Const(np.array([weight]), FixedPoint(4, 2)),
            Const(np.array([bias]), F8),
            modes,
        )
        return Graph(name, (x, op), (op.output,), notes).digest

    same = {graph(), graph(notes=("hello",)), graph(dtype=np.int64)}
    others = {
        graph(weight=(2, 1)), graph(bias=4), graph(name="h"), graph(modes=Modes()), graph(width=7),
        graph(modes=Modes(Rounding.RND)), graph(modes=Modes(Rounding.TRN, Overflow.SAT)),
    }  # fmt: skip
    assert len(same) == 1 and len(others) == 7 and not same & others


def test_the_digest_is_the_same_in_another_process():
    program = (
        "import numpy as np; from export.ir import *; from export.ops import *; from compress.fixed import *\n"
        "x = Tensor('x', (2,), FixedPoint(8, 3)); y = Tensor('y', (2,), FixedPoint(5, 1))\n"
        "ops = (Input(x), Cast(y, x, Modes(Rounding.RND, Overflow.SAT)))\n"
        "print(Graph('g', ops, (y,)).digest)"
    )
    root = Path(__file__).parents[1]
    digests = [
        subprocess.check_output([sys.executable, "-c", program], cwd=root, env={"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1] != b""


def test_constants_compare_by_content():
    a, b = Const(np.array([1, 2]), F8), Const(np.array([1, 2], dtype=object), F8)
    assert a == b and hash(a) == hash(b)
    assert a != Const(np.array([[1, 2]]), F8) and a != Const(np.array([1, 2]), FixedPoint(9, 3)) and a != "a"
    assert repr(a) == "Const(fixed<8,5>[2])"
    assert Const([4, -4], F8).values.tolist() == [0.5, -0.5]


@pytest.mark.parametrize(
    ("codes", "fmt"),
    [([0], FixedPoint(1, 2, False)), ([3, 1], FixedPoint(2, 2, False)), ([-1], FixedPoint(1, 2)),
     ([-4, 3], FixedPoint(3, 2)), ([5, 9], FixedPoint(4, 2, False)), ([2**64 - 1], FixedPoint(64, 2, False))],
)  # fmt: skip
def test_the_fitting_format_is_the_narrowest(codes, fmt):
    assert Const.fitting(np.array(codes, dtype=object), 2).format == fmt


def test_intervals():
    bounds = Bounds(np.array([-3, 2]), np.array([-3, 9]))
    assert bounds.range == (-3, 9) and bounds.constant.tolist() == [True, False]
    assert bounds.format(4) == FixedPoint(5, 4)
    assert bounds.inside(FixedPoint(5, 0)) and not bounds.inside(FixedPoint(4, 0))
    assert not bounds.inside(FixedPoint(8, 0, False))
    assert bounds.reshaped((1, 2)).low.tolist() == [[-3, 2]]
    assert Bounds.everywhere((2,), 0, 2**64 - 1).high.tolist() == [2**64 - 1] * 2


class Shapeless(Cast):
    def bounds(self, *bounds):
        return Bounds.everywhere((3,), 0, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Graph("g", (CAST, ENTER), (H,)), "h: reads x: fixed<8,5>[2], which no earlier op makes"),
        (
            lambda: Graph("g", (ENTER, CAST, Cast(replace(H, format=F8), X, Modes())), (H,)),
            "h: the name is taken by an earlier op; tensor names are unique in a graph",
        ),
        (lambda: Graph("g", (ENTER,), (Y,)), "g: the output y: ufixed<4,3>[2] is made by no op"),
        (lambda: GRAPH.eval(), "g: takes 1 inputs, got 0"),
        (lambda: GRAPH.eval([[1, 2]], [[1, 2]]), "g: takes 1 inputs, got 2"),
        (lambda: Const([200, -5], F8), "codes from -5 to 200 do not fit fixed<8,5>; widen the format"),
        (lambda: Tensor("x", (), F8), "x: a tensor has at least one axis and no empty one, got shape ()"),
        (lambda: Tensor("x", (2, 0), F8), "x: a tensor has at least one axis and no empty one, got shape (2, 0)"),
        (
            lambda: Graph("g", (ENTER, Shapeless(H, X, Modes())), (H,)).verify(),
            "h: bounds of shape (3,) for a tensor of shape (2,)",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
