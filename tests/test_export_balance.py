"""Suggested reuse factors against trying every combination of legal ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from designs import exact_dense, mlp

from compress.fixed import FixedPoint
from export import to_graph
from export.costs import Target, estimate_op, multipliers_of
from export.costs.balance import Choice, Counted, choices_of, suggest_reuse, within_budget, within_interval
from export.costs.estimate import estimate
from export.ir import Const, Graph, Tensor
from export.ops import Affine, Conv, Dense, Input, Modes, SparseDense
from export.ops.reuse import legal_reuse_factors
from export.ops.windows import Sliding, Window
from export.passes import run, set_reuse
from recipes.fuzz.graphs import random_graph


def sparse(nonzero: int, shape: tuple[int, int] = (6, 8)) -> SparseDense:
    weight = np.zeros(shape[0] * shape[1], dtype=int)
    weight[:nonzero] = 11
    weight = np.random.default_rng(0).permutation(weight).reshape(shape)
    x = Tensor("x", shape[1:], FixedPoint(8, 5))
    codes = Const(weight, FixedPoint(6, 5))
    return SparseDense.of(exact_dense("fc", x, codes, Const([0] * shape[0], FixedPoint(8, 5)), (Input(x),)))


def random_layers(rng: np.random.Generator) -> list[list[Choice]]:
    """Costs that fall with the interval, now and then with an exception, as constants at R = 1 are one."""
    layers = []
    for _ in range(int(rng.integers(1, 5))):
        factors = legal_reuse_factors(int(rng.integers(1, 13)), int(rng.integers(1, 9)))
        size, steps = factors[-1], int(rng.integers(1, 4))
        layers.append(
            [Choice(r, steps * r, int(-(-size // r) if r > 1 or rng.random() < 0.5 else size // 3)) for r in factors]
        )
    return layers


def test_within_an_interval_nothing_is_cheaper():
    rng = np.random.default_rng(0)
    impossible = 0
    for _ in range(200):
        layers, interval = random_layers(rng), int(rng.integers(1, 40))
        legal = [choices for choices in product(*layers) if max(c.interval for c in choices) <= interval]
        chosen = within_interval(layers, interval)
        if not legal:
            assert chosen is None
            impossible += 1
            continue
        best = min((sum(c.cost for c in choices), sum(c.interval for c in choices)) for choices in legal)
        assert (sum(c.cost for c in chosen), sum(c.interval for c in chosen)) == best
        assert all(choice in choices for choice, choices in zip(chosen, layers, strict=True))
    assert 0 < impossible < 100


def test_within_a_budget_nothing_is_faster():
    rng = np.random.default_rng(1)
    impossible = 0
    for _ in range(200):
        layers, floor = random_layers(rng), int(rng.integers(1, 9))
        budget = int(rng.integers(1, sum(max(c.cost for c in choices) for choices in layers) + 2))

        def worth(choices, floor=floor):
            slowest = max(floor, *(c.interval for c in choices))
            return slowest, sum(c.interval for c in choices), sum(c.cost for c in choices)

        legal = [choices for choices in product(*layers) if sum(c.cost for c in choices) <= budget]
        chosen = within_budget(layers, budget, floor)
        if not legal:
            assert chosen is None
            impossible += 1
        else:
            assert worth(chosen) == min(map(worth, legal))
            assert all(choice in choices for choice, choices in zip(chosen, layers, strict=True))
    assert 0 < impossible < 100


@pytest.mark.parametrize("budget", [10, 33, 60, 100, 250, 500])
def test_a_network_within_a_budget(budget):
    """By brute force over the legal factors of a whole network, each estimated as a graph."""
    graph = mlp("net", (8, 6, 4, 3))
    layers = [op for op in graph if isinstance(op, Dense)]
    best = None
    for factors in product(*(legal_reuse_factors(*op.matrix.shape[::-1]) for op in layers)):
        asked = dict(zip((op.name for op in layers), factors, strict=True))
        ops = [replace(op, reuse_factor=r) for op, r in zip(layers, factors, strict=True)]
        cost = sum(multipliers_of(op, op.reuse_factor).count for op in ops)
        key = max(factors), sum(factors), cost
        if cost <= budget and (best is None or key < best[0]):
            best = key, asked
    suggestion = suggest_reuse(graph, multipliers=budget)
    assert (suggestion.interval, sum(suggestion.reuse_factor.values()), suggestion.cost) == best[0]
    made = estimate(set_reuse(suggestion.reuse_factor)(graph))
    assert made.total("multipliers") == suggestion.cost <= budget
    assert made.interval == suggestion.interval


@pytest.mark.parametrize("interval", [1, 2, 5, 16, 1000])
def test_a_network_for_an_interval(interval):
    graph = mlp("net", (16, 8, 4))
    suggestion = suggest_reuse(graph, interval=interval)
    assert suggestion.interval <= interval
    for op in graph:
        if isinstance(op, Dense):
            fast = [r for r in legal_reuse_factors(*op.matrix.shape[::-1]) if r <= interval]
            own = suggestion.reuse_factor[op.name]
            assert multipliers_of(op, own).count == min(multipliers_of(op, r).count for r in fast)
    assert estimate(set_reuse(suggestion.reuse_factor)(graph)).interval == suggestion.interval


def test_a_throughput_is_an_interval():
    graph = mlp("net", (16, 8, 4))
    for interval in (1, 2, 4, 7, 16):
        of_rate = suggest_reuse(graph, samples_per_s=1e9 / (interval * 4.0), clock_ns=4.0)
        assert of_rate == suggest_reuse(graph, interval=interval)


def test_a_convolution_takes_its_factor_at_every_position():
    window = Window((Sliding(5, 2), Sliding(5, 2)))
    x, y = Tensor("x", (3, 5, 5), FixedPoint(8, 5)), Tensor("conv", (4, 4, 4), FixedPoint(30, 10))
    weight = Const(np.random.default_rng(0).integers(-31, 32, size=(4, 3, 2, 2)), FixedPoint(6, 5))
    conv = Conv(y, x, weight, Const([0] * 4, FixedPoint(8, 5)), window=window)
    graph = Graph("net", (Input(x), conv), (y,))
    assert [c.interval for c in choices_of(conv)] == [16 * r for r in legal_reuse_factors(12, 4)]
    suggestion = suggest_reuse(graph, interval=16 * 7)
    assert suggestion.reuse_factor == {"conv": 6} and suggestion.interval == 96
    assert estimate(set_reuse(suggestion.reuse_factor)(graph)).interval == 96
    with pytest.raises(ValueError, match="no choice of reuse factors takes 15 cycles or less; conv needs 16"):
        suggest_reuse(graph, interval=15)


def test_suggestions_for_random_networks_hold():
    held = 0
    for seed in range(60):
        graph = run(random_graph(np.random.default_rng(seed)))
        most = estimate(graph).total("multipliers")
        for asked in ({"interval": 4}, {"multipliers": max(1, most // 2)}):
            try:
                suggestion = suggest_reuse(graph, **asked)
            except ValueError as error:
                assert (
                    "the least possible is" in str(error) or "nothing to share" in str(error) or "needs" in str(error)
                )
                continue
            made = estimate(set_reuse(suggestion.reuse_factor)(graph).verify())
            assert (made.interval, made.total("multipliers")) == (suggestion.interval, suggestion.cost)
            held += 1
    assert held > 60


def test_dsp_blocks_are_counted_apart():
    """6 by 8 bits never take one: a budget of none is met at once."""
    graph = mlp("net", (16, 8, 4))
    suggestion = suggest_reuse(graph, dsp=0)
    assert set(suggestion.reuse_factor.values()) == {1} and suggestion.cost == 0
    assert suggestion.counted is Counted.DSP


def test_choices_of_a_sparse_layer_are_those_that_save_a_multiplier():
    for nonzero in (1, 2, 7, 12, 30, 48):
        op = sparse(nonzero)
        choices = {choice.reuse_factor: choice.cost for choice in choices_of(op)}
        expected = {}
        for r in range(nonzero, 0, -1):
            expected[-(-nonzero // r)] = r  # the least factor for each number of multipliers
        assert set(choices) == set(expected.values())
        for r, cost in choices.items():
            assert cost == estimate_op(replace(op, reuse_factor=r), Target()).multipliers


def test_what_is_no_layer_counts_as_it_is():
    x, y = Tensor("x", (4,), FixedPoint(6, 3)), Tensor("y", (4,), FixedPoint(24, 12))
    scale, offset = Const([11, 13, 11, 1], FixedPoint(6, 3)), Const([0] * 4, FixedPoint(3, 1))
    ops = (Input(x), Affine(y, x, scale, offset, Modes()))
    weight, bias = Const(np.full((2, 4), 11), FixedPoint(6, 5)), Const([0, 0], FixedPoint(8, 5))
    fc = exact_dense("fc", y, weight, bias, ops)
    graph = Graph("net", (*ops, fc), (fc.output,))
    assert estimate_op(ops[1], Target()).multipliers == 3
    assert suggest_reuse(graph, multipliers=4).reuse_factor == {"fc": 8}
    with pytest.raises(ValueError, match="takes so few multipliers; the least possible is 4"):
        suggest_reuse(graph, multipliers=3)
    with pytest.raises(ValueError, match="net has no layer with weights; there is nothing to share"):
        suggest_reuse(Graph("net", ops, (y,)), multipliers=3)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "give one of interval, samples_per_s, multipliers, dsp, got none"),
        (
            {"interval": 3, "dsp": 5},
            "give one of interval, samples_per_s, multipliers, dsp, got interval, dsp",
        ),
        ({"interval": 0}, "no choice of reuse factors takes 0 cycles or less; fc1 needs 1"),
        ({"samples_per_s": 1e9}, "no choice of reuse factors takes 0 cycles or less; fc1 needs 1"),
        ({"samples_per_s": -1.0}, "samples_per_s and clock_ns must be positive, got -1.0 and 5.0"),
        ({"multipliers": 1}, "no choice of reuse factors takes so few multipliers; the least possible is 2"),
    ],
)
def test_errors(asked, message):
    with pytest.raises(ValueError) as error:
        suggest_reuse(mlp("net", (16, 8, 4)), **asked)
    assert str(error.value) == message


def test_the_table_and_the_way_to_a_project():
    graph = mlp("net", (8, 4, 2))
    suggestion = suggest_reuse(graph, interval=4)
    assert suggestion.reuse_factor == {"fc1": 4, "fc2": 1}  # as constants, two products of fc2 need a multiplier
    assert str(suggestion).splitlines() == [
        "layer   reuse factor  interval  multipliers",
        "-------------------------------------------",
        "fc1                4         4            8",
        "fc2                1         1            2",
        "design                       4           10",
    ]
    made = to_graph(graph, reuse_factor=suggestion.reuse_factor)
    assert [op.reuse_factor for op in made if isinstance(op, Dense)] == [4, 1]
