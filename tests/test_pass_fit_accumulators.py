from __future__ import annotations

from dataclasses import replace

import numpy as np
from equality import RND_SAT, TRN_WRAP, chain, const, entry, on_random_graphs, same_bits

from compress.fixed import FixedPoint
from export.ir import Tensor
from export.ops import Cast, Conv, Dense, Linear, MaxPool, ReLU, Reshape, SparseDense, SumPool, Threshold
from export.ops.windows import Sliding, Window
from export.passes.fit_accumulators import fit_accumulators

X, W, B, WIDE = FixedPoint(4, 2), FixedPoint(4, 1), FixedPoint(5, 3), FixedPoint(40, 9)
OUT, ONE = FixedPoint(4, 1), FixedPoint(1, 1, False)


def layers(modes=None, fmt=WIDE):
    x = entry(X)
    dense = Dense(
        Tensor("d", (2,), fmt), x.output, const([[1, -2, 0], [0, 0, 0]], W), const([4, -1], B), modes
    )
    return x, dense, Cast(Tensor("y", (2,), OUT), dense.output, RND_SAT)


def test_on_random_graphs():
    for _, result in on_random_graphs(fit_accumulators):
        for op in result:
            if isinstance(op, Linear) and op.modes is None and op.output.format.width < 40:
                reach = result.bounds[op.x]
                readers = result.consumers(op.output)
                if op.output not in result.outputs and all(isinstance(r, Cast | Linear) for r in readers):
                    assert op.output.format == op.accumulator(reach)


def test_it_is_the_narrowest_that_holds_every_partial_sum():
    graph = chain(*layers())
    result = fit_accumulators(graph)
    same_bits(graph, result)
    low, high = 4 - 7 * 2 - 8, 4 + 7 + 8 * 2  # in units of the products
    assert result.ops[1].output.format == FixedPoint.covering(min(low, -1), high, 3)
    assert fit_accumulators(result).ops == result.ops


def test_sparse_layers_too():
    x, dense, cast = layers()
    graph = chain(x, SparseDense.of(dense), cast)
    result = fit_accumulators(graph)
    same_bits(graph, result)
    assert result.ops[1].output.format == fit_accumulators(chain(*layers())).ops[1].output.format


def test_convolutions_and_sums_of_windows_too():
    """Padding counts: the tightest bounds are those position by position. What stands between is no hindrance."""
    x = entry(X, 2, 4)
    window, halves = Window((Sliding(4, 3, before=1, after=1),)), Window((Sliding(4, 2, 2),))
    weight = const([[[7, -8, 7], [1, 0, 0]]], W)
    conv = Conv(Tensor("c", (1, 4), WIDE), x.output, weight, const([4], B), window=window)
    pool = MaxPool(Tensor("m", (1, 2), WIDE), conv.output, halves)
    total = SumPool(Tensor("s", (1, 1), FixedPoint(60, 10)), pool.output, Window((Sliding(2, 2),)), const([1], ONE))
    graph = chain(x, conv, pool, total, Cast(Tensor("y", (1, 1), OUT), total.output, RND_SAT))
    result = fit_accumulators(graph)
    same_bits(graph, result)
    low, high = 4 - (7 * 8 + 8 * 7 + 7 * 8) - 8, 4 + (7 * 7 + 8 * 8 + 7 * 7) + 7
    assert result.ops[1].output.format == FixedPoint.covering(low, high, 3)
    assert result.ops[3].output.format == result.bounds[result.ops[3].output].format(10)
    assert result.ops[3].output.format.width < 20


def test_stated_modes_are_the_users():
    graph = chain(*layers(TRN_WRAP, FixedPoint(20, 9)))
    assert fit_accumulators(graph).ops == graph.ops


def test_an_output_of_the_graph_keeps_its_format():
    x, dense, cast = layers()
    for graph in (chain(x, dense), chain(x, dense, cast, outputs=(cast.output, dense.output))):
        assert fit_accumulators(graph).ops == graph.ops


def test_a_layer_that_is_always_zero_has_one_bit():
    x, dense, cast = layers()
    zero = replace(dense, weight=const(np.zeros((2, 3), dtype=int), W), bias=const([0, 0], B))
    result = fit_accumulators(chain(x, zero, cast))
    assert result.ops[1].output.format == FixedPoint(1, 3, False)


def test_readers_of_codes_are_not_left_with_another_binary_point():
    """A relu and a threshold compare codes, and a flattening repeats the format."""
    x, dense, _ = layers()
    readers = (
        ReLU(Tensor("y", (2,), ReLU.positive(WIDE)), dense.output),
        Reshape(Tensor("y", (2,), WIDE), dense.output),
        Threshold(
            Tensor("y", (2,), OUT), dense.output, const([[9], [9]], WIDE), const([0, 0], OUT), const([1, 1], OUT)
        ),
    )
    for reader in readers:
        graph = chain(x, dense, reader)
        same_bits(graph, fit_accumulators(graph))
    exact = replace(dense, output=replace(dense.output, format=FixedPoint(40, 3)))
    graph = chain(x, exact, ReLU(Tensor("y", (2,), FixedPoint(39, 3, False)), exact.output))
    result = fit_accumulators(graph)
    same_bits(graph, result)
    assert result.ops[1].output.format.width < 10
