"""Graphs as text: everything comes back, and nothing that is no graph does."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from designs import every_op, mlp

from compress.fixed import FixedPoint
from export.archive import dumped, loaded
from export.ir import Graph, GraphError, Tensor
from export.ops import Input, ReLU, Requantize
from export.passes import run
from recipes.fuzz.graphs import random_graph


@pytest.mark.parametrize("number", range(30))
def test_a_graph_comes_back_equal(number: int) -> None:
    graph = random_graph(np.random.default_rng(number))
    for one in (graph, run(every_op()), mlp("wide", (3, 4, 2))):
        again = loaded(dumped(one))
        assert (again, again.digest, again.notes) == (one, one.digest, one.notes)


def test_a_requantize_keeps_its_ratios() -> None:
    x = Tensor("x", (2,), FixedPoint(6, 3))
    output = Tensor("y", (2,), FixedPoint(4, 1))
    ratios = (Fraction(1, 3), Fraction(-7, 10**30))
    graph = Graph("g", (Input(x), Requantize(output, x, ratios, ratios, Input(x).modes)), (output,))
    assert loaded(dumped(graph)) == graph


def test_what_is_no_graph_is_refused() -> None:
    text = dumped(mlp("small", (2, 2)))
    content = json.loads(text)
    for broken, message in (
        ("{", "no graph that was dumped here"),
        ("[]", "no graph that was dumped here"),
        (text.replace('"version": 1', '"version": 0'), "version 0, here is 1"),
        (text.replace('"is": "Dense"', '"is": "Danse"'), "a Danse, which is not known here"),
        (text.replace('"reuse_factor"', '"reuse"'), "this graph is damaged"),
        (json.dumps(content | {"graph": content["graph"]["outputs"][0]}), "a dumped Tensor, not a graph"),
    ):
        with pytest.raises(GraphError, match=message):
            loaded(broken)


def test_a_graph_that_breaks_a_law_is_refused() -> None:
    graph = mlp("small", (2, 2))
    narrow = replace(graph.ops[1].output, format=FixedPoint(2, 10))
    with pytest.raises(GraphError, match="partial sums reach"):
        loaded(dumped(replace(graph, ops=(graph.ops[0], replace(graph.ops[1], output=narrow)), outputs=(narrow,))))


def test_a_field_of_an_unknown_type_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd(ReLU):
        extra: complex = 1j

    graph = mlp("small", (2, 2))
    x = graph.outputs[0]
    odd = Odd(Tensor("odd", x.shape, x.format), x)
    with pytest.raises(GraphError, match="does not know; tell it there"):
        dumped(Graph("g", (*graph.ops, odd), (odd.output,)))
