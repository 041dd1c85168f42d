from __future__ import annotations

import numpy as np
import pytest
from equality import chain, const, entry, same_bits

from compress.fixed import FixedPoint
from export.ir import Tensor
from export.ops import Dense, SparseDense
from export.passes.choose_sparse import choose
from export.passes.set_reuse import set_reuse

X, W, B, ACC = FixedPoint(4, 2), FixedPoint(4, 1), FixedPoint(6, 3), FixedPoint(20, 6)


def network():
    x = entry(X, 6)
    one = Dense(Tensor("one", (4,), ACC), x.output, const(np.ones((4, 6), dtype=int), W), const([0] * 4, B))
    weight = np.array([[0, 3, 0, 1], [0, 0, -2, 0]])
    two = Dense(Tensor("two", (2,), FixedPoint(30, 8)), one.output, const(weight, W), const([1, 2], B))
    return chain(x, one, SparseDense.of(two))


def factors(graph):
    return [op.reuse_factor for op in graph.ops[1:]]


@pytest.mark.parametrize(
    ("asked", "given"), [(1, [1, 1]), (2, [2, 2]), (12, [12, 3]), ({"one": 3}, [3, 1]), ({"two": 2, "one": 6}, [6, 2])]
)
def test_for_all_or_by_name(asked, given):
    graph = network()
    result = set_reuse(asked)(graph)
    assert factors(result) == given
    same_bits(graph, result)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (5, "one: reuse factor 5 is not legal for 6 inputs and 4 outputs; use 3 or 6"),
        ({"one": 0}, "one: reuse factor 0; use 1 (fully parallel) or more"),
        ({"two": -1}, "two: reuse factor -1; use 1 (fully parallel) or more"),
        ({"three": 2}, "reuse factor for 'three', which is no layer; the layers are one, two"),
        ({"x": 2}, "reuse factor for 'x', which is no layer; the layers are one, two"),
    ],
)
def test_messages(asked, message):
    with pytest.raises(ValueError) as error:
        set_reuse(asked)(network())
    assert str(error.value) == message


def test_an_unrolled_layer_shares_nothing():
    graph = choose({"two": "unrolled"})(network())
    assert factors(set_reuse(3, {"two": "unrolled"})(graph)) == [3, 1]
    assert factors(set_reuse({"one": 2, "two": 1}, {"two": "unrolled"})(graph)) == [2, 1]
    with pytest.raises(ValueError) as error:
        set_reuse({"two": 2}, {"two": "unrolled"})(graph)
    assert str(error.value) == "two: reuse factor 2 of an unrolled layer; use 1, or the strategy 'coo'"


def test_layers_that_are_not_named_stay_as_they_are():
    assert factors(set_reuse({"two": 2})(set_reuse(3)(network()))) == [3, 2]
