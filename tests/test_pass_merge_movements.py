from __future__ import annotations

import numpy as np
import pytest
from equality import RND_SAT, chain, entry, kinds, on_random_graphs, same_bits

from compress.fixed import FixedPoint
from export.ir import Tensor
from export.ops import Cast, Rearrange, Reshape
from export.passes.merge_movements import merge_movements

X = FixedPoint(4, 2)


def move(name, x, source, shape=None, fill=0, fmt=X):
    return Rearrange(Tensor(name, shape or (len(source),), fmt), x.output, tuple(source), fill)


def fold(name, x, *shape):
    return Reshape(Tensor(name, shape, x.output.format), x.output)


def cast(name, x):
    return Cast(Tensor(name, x.output.shape, FixedPoint(6, 1)), x.output, RND_SAT)


def test_on_random_graphs():
    on_random_graphs(lambda graph: merge_movements(merge_movements(graph)), 150, before=_moving)


def _moving(graph):
    """With two movements behind every output."""
    ops, outputs = list(graph.ops), []
    for tensor in graph.outputs:
        rng = np.random.default_rng(len(ops))
        x = next(op for op in ops if op.output == tensor)
        one = move(f"{tensor.name}.one", x, rng.integers(-1, tensor.size, size=5), fill=0, fmt=tensor.format)
        two = move(f"{tensor.name}.two", one, rng.integers(-1, 5, size=4), fill=0, fmt=tensor.format)
        ops += [one, two]
        outputs.append(two.output)
    return chain(*ops, outputs=tuple(outputs))


def test_a_row_of_movements_is_one():
    x = entry(X, 2, 3)
    turned = move("turned", x, [5, 4, 3, 2, 1, 0])
    folded = fold("folded", turned, 3, 2)
    some = move("some", folded, [1, 1, -1, 4], shape=(2, 2), fill=3)
    graph = chain(x, turned, folded, some, cast("y", some))
    result = merge_movements(graph)
    same_bits(graph, result)
    assert kinds(result) == ["Input", "Rearrange", "Cast"] and result.ops[1].source == (4, 4, -1, 1)
    assert merge_movements(result).ops == result.ops


def test_movements_that_undo_each_other_vanish():
    x = entry(X, 2, 3)
    there = move("there", x, [1, 0, 3, 2, 5, 4], shape=(2, 3))
    back = move("back", there, [1, 0, 3, 2, 5, 4], shape=(2, 3))
    graph = chain(x, there, back, cast("y", back))
    result = merge_movements(graph)
    same_bits(graph, result)
    assert kinds(result) == ["Input", "Cast"]
    graph = chain(x, there, back)  # an output of the graph keeps its name
    result = merge_movements(graph)
    same_bits(graph, result)
    assert kinds(result) == ["Input", "Reshape"]


def test_what_somebody_else_reads_stays():
    x = entry(X, 4)
    one = move("one", x, [3, 2, 1, 0])
    two = move("two", one, [1, 0])
    ends = cast("y", two), cast("z", one)
    graph = chain(x, one, two, *ends, outputs=tuple(end.output for end in ends))
    result = merge_movements(graph)
    same_bits(graph, result)
    assert result.ops[1] == one and result.ops[2].x == x.output and result.ops[2].source == (2, 3)


@pytest.mark.parametrize(("first", "second", "merges"), [(3, 6, True), (3, 3, False), (0, 0, True), (-8, 0, False)])
def test_constants_that_differ_stay_apart(first, second, merges):
    """In numbers: the second movement has one fraction bit more."""
    x = entry(X, 3)
    one = move("one", x, [-1, 0, 1], fill=first)
    two = move("two", one, [0, -1, 2], fill=second, fmt=FixedPoint(6, 3))
    graph = chain(x, one, two, cast("y", two))
    result = merge_movements(graph)
    same_bits(graph, result)
    assert len(result.ops) == (3 if merges else 4)


def test_a_constant_that_goes_is_forgotten():
    x = entry(X, 3)
    one = move("one", x, [-1, 2, 1, 0], fill=5)
    graph = chain(x, one, move("two", one, [3, 2, 1]), cast("y", move("two", one, [3, 2, 1])))
    result = merge_movements(graph)
    same_bits(graph, result)
    assert kinds(result) == ["Input", "Cast"]
