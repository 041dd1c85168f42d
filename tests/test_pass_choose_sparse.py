from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from equality import TRN_WRAP, chain, const, entry, kinds, on_random_graphs, same_bits

from compress.fixed import FixedPoint
from export import to_graph
from export.costs import Target, estimate_op
from export.ir import Tensor
from export.ops import Conv, Dense, SparseConv, SparseDense
from export.ops.reuse import by_step
from export.ops.windows import Sliding, Window
from export.passes import lay_out, run, set_reuse
from export.passes.choose_sparse import Strategy, choose, choose_sparse, entry_bits, index_bits, saves_bits

X, W, B, ACC = FixedPoint(4, 2), FixedPoint(4, 1), FixedPoint(6, 3), FixedPoint(20, 6)


def network(nonzero, n_in=16, n_out=4, modes=None, reuse=1):
    weight = np.zeros(n_in * n_out, dtype=int)
    weight[:nonzero] = 3
    weight = np.random.default_rng(0).permutation(weight).reshape(n_out, n_in)
    x = entry(X, n_in)
    bias = const(np.arange(n_out), B)
    return chain(x, Dense(Tensor("y", (n_out,), ACC), x.output, const(weight, W), bias, modes, reuse))


def test_on_random_graphs():
    on_random_graphs(choose_sparse)


@pytest.mark.parametrize(("n", "bits"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (64, 6), (65, 7)])
def test_index_bits(n, bits):
    assert index_bits(n) == bits


def test_the_rule_at_its_limit():
    """64 weights of 4 bits are 256 bits; an entry has 4 + 4 + 2 bits, so 25 of them are fewer and 26 are not."""
    for nonzero, kind in ((25, "SparseDense"), (26, "Dense"), (1, "SparseDense"), (0, "Dense")):
        graph = network(nonzero)
        result = choose_sparse(graph)
        same_bits(graph, result)
        assert kinds(result) == ["Input", kind]
    assert saves_bits(network(25).ops[1]) and not saves_bits(network(26).ops[1])


def test_where_whole_multipliers_are_pruned_the_rule_counts_the_others():
    """At R = 8 each of 8 multipliers has 8 weights of 4 bits; two of them take 64 bits, 16 entries 160."""
    matrix, steps = np.zeros((4, 16), dtype=int), np.zeros((8, 8), dtype=int)
    steps[:, [1, 6]] = 3
    matrix.ravel()[by_step(np.arange(64).reshape(4, 16), 8).ravel()] = steps.ravel()
    x = entry(X, 16)
    graph = chain(x, Dense(Tensor("y", (4,), ACC), x.output, const(matrix, W), const(np.arange(4), B)))
    laid_out = {reuse: run(graph, (choose_sparse, lay_out(reuse))) for reuse in (1, 5, 8)}
    kind = {reuse: kinds(result)[1] for reuse, result in laid_out.items()}
    assert kind == {1: "SparseDense", 5: "SparseDense", 8: "Dense"}  # 5 is no reuse factor of a dense layer
    assert laid_out[8].ops[1].multipliers == (1, 6) and laid_out[8].notes == ()
    for result in laid_out.values():
        same_bits(graph, result)
    assert kinds(run(graph, (choose_sparse, choose({"y": "coo"}, {"y": 8}))))[1] == "SparseDense"


def test_modes_survive():
    graph = network(9, modes=TRN_WRAP)
    result = choose_sparse(graph)
    same_bits(graph, result)
    assert result.ops[1].modes == TRN_WRAP


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (4, 4), (16, 9), (64, 9)])
def test_no_multiplier_is_shared_by_more_weights_than_there_are(asked, given):
    assert choose_sparse(network(9, reuse=asked)).ops[1].reuse_factor == given


def test_a_second_time_changes_nothing():
    result = choose_sparse(network(9))
    assert choose_sparse(result).ops == result.ops


def layered(nonzero=30):
    """Two layers, of which the rule stores the second."""
    one = network(nonzero).ops
    weight = np.zeros((2, 4), dtype=int)
    weight[1, 2] = -3
    return chain(*one, Dense(Tensor("z", (2,), FixedPoint(30, 9)), one[1].output, const(weight, W), const([1, 2], B)))


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("auto", ["Dense", "SparseDense"]),
        (Strategy.AUTO, ["Dense", "SparseDense"]),
        ("dense", ["Dense", "Dense"]),
        ("coo", ["SparseDense", "SparseDense"]),
        ("unrolled", ["SparseDense", "SparseDense"]),
        ({"y": "coo"}, ["SparseDense", "SparseDense"]),
        ({"z": "dense"}, ["Dense", "Dense"]),
        ({"y": Strategy.COO, "z": "dense"}, ["SparseDense", "Dense"]),
        ({}, ["Dense", "SparseDense"]),
    ],
)
def test_the_user_chooses(strategy, expected):
    graph = layered()
    result = choose(strategy)(graph)
    same_bits(graph, result)
    assert kinds(result)[1:] == expected
    again = choose(strategy)(choose_sparse(graph))  # whatever was chosen before
    same_bits(graph, again)
    assert (again.ops, again.notes) == (result.ops, result.notes)


def test_the_note_says_what_is_stored():
    assert choose("coo")(layered()).notes == ("stored sparse: 30 of 64 weights of y, 1 of 8 weights of z",)
    assert choose("dense")(choose("coo")(layered())).notes == ()


def test_strategies_decide_the_number_of_multipliers():
    """With R = 4: 64 products, 30 of them not zero."""
    graph = layered()
    found = {}
    for strategy in ("dense", "coo", "unrolled"):
        made = run(graph, (choose(strategy), set_reuse({"y": 4} if strategy != "unrolled" else 4, strategy)))
        found[strategy] = estimate_op(made.ops[1], Target())
    assert (found["dense"].multipliers, found["dense"].interval) == (16, 4)
    assert (found["coo"].multipliers, found["coo"].interval) == (8, 4)
    assert (found["unrolled"].products, found["unrolled"].interval) == (30, 1)


def test_coo_takes_any_factor():
    graph = layered()
    for factor in (1, 2, 7, 29, 30, 31):
        made = run(graph, (choose("coo"), set_reuse({"y": factor})))
        assert made.ops[1].reuse_factor == min(factor, 30)
        same_bits(graph, made)
    with pytest.raises(ValueError, match="y: reuse factor 7 is not legal for 16 inputs"):
        run(graph, (choose("dense"), set_reuse({"y": 7})))


def test_a_layer_without_weights_can_be_laid_out_in_every_way():
    for strategy in Strategy:
        result = choose(strategy)(network(0))
        same_bits(network(0), result)
        assert result.notes == ()


def test_it_reaches_the_user():
    graph = to_graph(layered(), strategy={"y": "coo"}, reuse_factor={"y": 3})
    assert isinstance(graph.ops[1], SparseDense) and graph.ops[1].reuse_factor == 3
    assert kinds(to_graph(layered(), strategy="dense"))[1:] == ["Dense", "Dense"]


def planes(nonzero, groups=1, modes=None, reuse=1):
    """Four channels that read four, or one each: 4 x 4 x 3 or 4 x 3 weights."""
    weight = np.zeros((4, 4 // groups, 3), dtype=int)
    weight.flat[np.random.default_rng(1).permutation(weight.size)[:nonzero]] = -3
    x = entry(X, 4, 6)
    window = Window((Sliding(6, 3, before=1),))
    y = Tensor("y", (4, *window.positions), ACC)
    return chain(x, Conv(y, x.output, const(weight, W), const([1, -2, 3, 0], B), modes, reuse, window=window))


def test_the_rule_for_convolutions_at_its_limit():
    """192 bits, and 4 + 4 + 2 of an entry; in four groups 48 bits, and entries as large: they tell all inputs apart."""
    for groups, entry_, limit in ((1, 10, 19), (4, 10, 4)):
        for nonzero, kind in ((limit, "SparseConv"), (limit + 1, "Conv"), (1, "SparseConv"), (0, "Conv")):
            graph = planes(nonzero, groups)
            result = choose_sparse(graph)
            same_bits(graph, result)
            assert kinds(result) == ["Input", kind]
            assert entry_bits(graph.ops[1]) == entry_bits(result.ops[1]) == entry_
        assert choose_sparse(choose_sparse(planes(limit, groups))) == choose_sparse(planes(limit, groups))


@pytest.mark.parametrize("modes", [None, TRN_WRAP])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(
    ("strategy", "kind"), [("auto", "SparseConv"), ("dense", "Conv"), ("coo", "SparseConv"), ("unrolled", "SparseConv")]
)
def test_the_user_chooses_for_convolutions(strategy, kind, groups, modes):
    graph = planes(3, groups, modes)
    result = choose({"y": strategy})(graph)
    same_bits(graph, result)
    assert kinds(result)[1:] == [kind] and result.ops[1].modes == modes
    again = choose({"y": strategy})(choose("coo")(graph))  # whatever was chosen before
    assert again.ops == result.ops and again.ops[1].groups == groups
    note = (f"stored sparse: 3 of {48 // groups} weights of y",)
    assert result.notes == (note if kind == "SparseConv" else ())


def test_no_multiplier_of_a_convolution_is_shared_by_more_weights_than_there_are():
    assert [choose_sparse(planes(7, reuse=r)).ops[1].reuse_factor for r in (1, 6, 12, 48)] == [1, 6, 7, 7]
    for strategy in Strategy:  # without any weight
        result = choose(strategy)(planes(0, reuse=12))
        same_bits(planes(0), result)


def test_coo_takes_any_factor_in_convolutions():
    graph = planes(11)
    for factor in range(1, 13):
        made = run(graph, (choose("coo"), set_reuse(factor)))
        assert made.ops[1].reuse_factor == min(factor, 11)
        same_bits(graph, made)
        cost = estimate_op(made.ops[1], Target())
        assert cost.interval == 5 * min(factor, 11)
        if factor > 1:
            assert cost.multipliers == -(-11 // min(factor, 11))
            assert cost.memory_bits == min(factor, 11) * cost.multipliers * 10
    with pytest.raises(ValueError) as error:
        run(graph, (choose("dense"), set_reuse({"y": 7})))
    assert str(error.value) == "y: reuse factor 7 is not legal for 12 inputs and 4 outputs; use 6 or 12"
    with pytest.raises(ValueError) as error:
        to_graph(graph, strategy="unrolled", reuse_factor={"y": 7})
    assert str(error.value) == "y: reuse factor 7 of an unrolled layer; use 1, or the strategy 'coo'"


def test_an_unrolled_convolution_is_a_dense_one_without_reuse():
    graph = planes(20)
    dense, sparse = (estimate_op(choose(each)(graph).ops[1], Target()) for each in ("dense", "unrolled"))
    assert replace(sparse, kind="Conv") == dense and dense.products == 20 * 5
    assert isinstance(to_graph(graph, strategy="unrolled", reuse_factor=4).ops[1], SparseConv)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("spares", "there is no strategy 'spares'; choose from 'auto', 'dense', 'unrolled', 'coo'"),
        ({"y": "sparse"}, "there is no strategy 'sparse'; choose from 'auto', 'dense', 'unrolled', 'coo'"),
        ({"x": "coo"}, "strategy for 'x', which is neither fully connected nor a convolution; those are y, z"),
        ({"fc": "coo"}, "strategy for 'fc', which is neither fully connected nor a convolution; those are y, z"),
    ],
)
def test_messages(strategy, message):
    with pytest.raises(ValueError) as error:
        choose(strategy)(layered())
    assert str(error.value) == message
