from __future__ import annotations

from dataclasses import replace

import numpy as np
from designs import conv_net, every_op, lookup_net, skip_net
from equality import RND_SAT, TRN_WRAP, chain, const, entry, on_random_graphs, same_bits

from compress.fixed import FixedPoint
from export.ir import Tensor
from export.ops import (
    Add,
    BySign,
    Cast,
    Concat,
    Conv,
    Dense,
    Linear,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Rearrange,
    ReLU,
    Reshape,
    SparseDense,
    Subtract,
    SumPool,
    Threshold,
)
from export.ops.casts import covering
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
    for graph, result in on_random_graphs(fit_accumulators):
        only_narrower(graph, result)
        for op in result:
            if isinstance(op, Linear) and op.modes is None and op.output.format.width < 40:
                reach = result.bounds[op.x]
                readers = result.consumers(op.output)
                if op.output not in result.outputs and all(isinstance(r, Cast | Linear) for r in readers):
                    assert op.output.format == op.accumulator(reach)


def only_narrower(graph, result):
    """No tensor has a value that its old format had not, nor more bits; and there is nothing left to do."""
    assert [op.name for op in graph] == [op.name for op in result]
    for before, after in zip(graph, result, strict=True):
        old, new = before.output.format, after.output.format
        assert old.holds(new) and new.width <= old.width and new.frac <= old.frac
    assert fit_accumulators(result).ops == result.ops


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
    assert result.ops[2].output.format == result.ops[1].output.format
    assert result.ops[3].output.format == result.bounds[result.ops[3].output].format(4)


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


def exact_ops():
    """One of each op that makes what it reads into exact numbers, all with bits to spare, behind a sum."""
    x = entry(X, 3)
    weight = const([[1, -2, 0], [2, 0, 0], [0, 4, 2]], W)
    dense = Dense(Tensor("d", (3,), WIDE), x.output, weight, const([4, 0, 0], B))
    d = dense.output

    def wide(name, *shape, fmt=None):
        return Tensor(name, shape or (3,), fmt or FixedPoint(44, 10))

    add = Add(wide("add"), d, x.output)
    ops = [
        x, dense, add, Subtract(wide("subtract"), x.output, d),
        Multiply(wide("multiply", fmt=FixedPoint(60, 18)), d, d),
        Maximum(wide("maximum"), d, x.output), Minimum(wide("minimum"), x.output, d),
        BySign(wide("by sign"), d, x.output, add.output), Reshape(wide("reshape", 1, 3, fmt=WIDE), d),
        ReLU(wide("relu", fmt=FixedPoint(50, 9)), d), Concat(wide("concat", 6), (d, x.output)),
        Rearrange(wide("rearrange", 4), d, (2, -1, 0, 1), fill=3 << 6), Rearrange(wide("moved"), d, (2, 1, 0), fill=5),
    ]  # fmt: skip
    pool = MaxPool(wide("pool", 1, 2), ops[8].output, Window((Sliding(3, 2),)))
    total = SumPool(wide("total", 1, 2), ops[8].output, Window((Sliding(3, 2),)), const([1], ONE))
    return [*ops, pool, total]


def rounded(ops):
    """Everything leaves through a cast, which keeps its format."""
    casts = [Cast(Tensor(f"{op.name}!", op.output.shape, FixedPoint(30, 10)), op.output, RND_SAT) for op in ops[1:]]
    return chain(*ops, *casts, outputs=tuple(op.output for op in casts))


def test_what_is_computed_from_a_sum_shrinks_with_it():
    graph = rounded(exact_ops())
    result = fit_accumulators(graph)
    same_bits(graph, result)
    only_narrower(graph, result)
    made = {op.name: op.output.format for op in result}
    d = made["d"]
    assert d == exact_ops()[1].accumulator(graph.bounds[graph.ops[0].output]) == FixedPoint(7, 3)
    assert made["reshape"] == made["pool"] == made["moved"] == d
    assert made["relu"] == ReLU.positive(d)
    assert made["maximum"] == made["minimum"] == made["concat"] == covering((d, X))
    assert made["by sign"] == covering((X, made["add"]))
    assert made["rearrange"] == covering((d, FixedPoint(3, 4)))  # 3 * 2**-4
    for name, frac in (("add", 3), ("subtract", 3), ("multiply", 6), ("total", 4)):
        (tensor,) = (op.output for op in result if op.name == name)
        assert tensor.format == result.bounds[tensor].format(frac)


def test_what_one_reader_needs_as_it_is_stays_for_all():
    """Codes choose the entries of a table; what lies between it and the sum stays too, the rest does not."""
    x, dense, _ = layers()
    relu = ReLU(Tensor("r", (2,), FixedPoint(39, 9, False)), dense.output)
    flat = Reshape(Tensor("f", (2, 1), FixedPoint(39, 9, False)), relu.output)
    sign = Tensor("s", (2, 1), FixedPoint(2, 0))
    low = const([[1], [1]], flat.output.format)
    step = Threshold(sign, flat.output, low, const([-1, -1], sign.format), const([2, 2], FixedPoint(3, 0)))
    other = Add(Tensor("a", (2,), FixedPoint(50, 9)), dense.output, relu.output)
    graph = chain(x, dense, relu, flat, step, other, outputs=(step.output, other.output))
    assert fit_accumulators(graph).ops == graph.ops
    graph = chain(x, dense, relu, flat, step, other, Cast(Tensor("y", (2,), OUT), other.output, RND_SAT))
    graph = replace(graph, outputs=(step.output, graph.outputs[0]))
    result = fit_accumulators(graph)
    same_bits(graph, result)
    changed = [a.name for a, b in zip(graph, result, strict=True) if a.output != b.output]
    assert changed == ["a"] and result.ops[5].output.format == result.bounds[result.ops[5].output].format(9)


def test_a_sum_behind_a_pruned_layer_loses_bits():
    """A residual connection of two layers whose larger weights are pruned away."""

    def net(weights):
        x = entry(X)
        one, two = (
            Dense(Tensor(name, (2,), FixedPoint(10, 3)), x.output, const(weights, W), const([0, 0], B)) for name in "ab"
        )
        both = Add(Tensor("sum", (2,), FixedPoint(11, 3)), one.output, two.output)
        return chain(x, one, two, both, Cast(Tensor("y", (2,), OUT), both.output, RND_SAT))

    full, pruned = (fit_accumulators(net(w)) for w in ([[7, -7, 7], [7, 7, 7]], [[1, 0, 0], [0, 0, 1]]))
    assert full.ops[3].output.format == FixedPoint(10, 3) and pruned.ops[3].output.format == FixedPoint(5, 3)


def test_on_networks_of_every_op():
    for make in (every_op, skip_net, conv_net, lookup_net):
        graph = make()
        result = fit_accumulators(graph)
        same_bits(graph, result)
        only_narrower(graph, result)
