from __future__ import annotations

import numpy as np
import pytest
from equality import TRN_WRAP, chain, const, entry, kinds, on_random_graphs, same_bits

from compress.fixed import FixedPoint
from export.ir import Tensor
from export.ops import Dense
from export.passes.choose_sparse import choose_sparse, index_bits, saves_bits

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
