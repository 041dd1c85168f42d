"""Shared by the tests of the passes: a pass must leave every output bit as it was."""

from __future__ import annotations

import numpy as np

from compress.fixed import FixedPoint, Overflow, Rounding
from export.ir import Const, Graph, Op, Tensor
from export.ops import Input, Modes
from recipes.fuzz.graphs import random_graph, random_inputs

TRN_WRAP, RND_SAT = Modes(), Modes(Rounding.RND, Overflow.SAT)
MODES_ALL = [Modes(r, o) for r in Rounding for o in Overflow]


def same_bits(before: Graph, after: Graph, samples: int = 200, seed: int = 0) -> None:
    """Every output equal, in value, on random inputs; ``after`` is a legal graph."""
    after.verify()
    x = random_inputs(np.random.default_rng(seed), before, samples)
    one, two = before.trace(*x), after.trace(*x)
    assert len(before.outputs) == len(after.outputs)
    for a, b in zip(before.outputs, after.outputs, strict=True):
        assert a == b
        assert (one[a.name] == two[b.name]).all(), a.name


def on_random_graphs(apply, count: int = 250, before=lambda graph: graph) -> list[tuple[Graph, Graph]]:
    """``apply`` on random graphs; returns those that it changed, of which there must be some."""
    changed = []
    for seed in range(count):
        graph = before(random_graph(np.random.default_rng(seed)))
        result = apply(graph)
        same_bits(graph, result, samples=40, seed=seed)
        if result.ops != graph.ops:
            changed.append((graph, result))
    assert len(changed) > count // 40
    return changed


def kinds(graph: Graph) -> list[str]:
    return [type(op).__name__ for op in graph]


def chain(*ops: Op, outputs: tuple[Tensor, ...] = ()) -> Graph:
    return Graph("g", ops, outputs or (ops[-1].output,)).verify()


def entry(fmt: FixedPoint, *shape: int) -> Input:
    return Input(Tensor("x", shape or (3,), fmt))


def const(codes, fmt: FixedPoint) -> Const:
    return Const(np.array(codes), fmt)
