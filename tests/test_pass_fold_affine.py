from __future__ import annotations

from dataclasses import replace

import pytest
from equality import MODES_ALL, RND_SAT, TRN_WRAP, chain, const, entry, kinds, on_random_graphs, same_bits

from compress.fixed import FixedPoint
from export.ir import Tensor
from export.ops import Affine, Cast, Conv, Dense, SparseDense
from export.ops.windows import Sliding, Window
from export.passes.fit_accumulators import fit_accumulators
from export.passes.fold_affine import fold_affine, power_of_two

X, W, B, S, OFFSET, Y = (
    FixedPoint(4, 2), FixedPoint(4, 1), FixedPoint(5, 4), FixedPoint(5, 2), FixedPoint(6, 7), FixedPoint(5, 1)
)  # fmt: skip


def layers(scale=(8, 8), offset=(5, -31), modes=RND_SAT, dense_modes=None):
    x = entry(X)
    acc = FixedPoint(14, 5) if dense_modes is None else FixedPoint(6, 3)
    dense = Dense(
        Tensor("d", (2,), acc), x.output, const([[1, -2, 3], [0, 7, -8]], W), const([3, -9], B), dense_modes
    )
    return x, dense, Affine(Tensor("y", (2,), Y), dense.output, const(scale, S), const(offset, OFFSET), modes)


def test_on_random_graphs():
    on_random_graphs(fold_affine, 600)


@pytest.mark.parametrize("modes", MODES_ALL)
@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
def test_a_power_of_two_is_a_shift_of_the_binary_point(exponent, modes):
    graph = chain(*layers((1 << exponent,) * 2, modes=modes))
    result = fold_affine(graph)
    same_bits(graph, result)
    assert kinds(result) == ["Input", "Dense", "Cast"]
    assert (result.ops[1].weight.codes == graph.ops[1].weight.codes).all()
    same_bits(graph, fit_accumulators(result))


def test_sparse_layers_too():
    x, dense, affine = layers()
    graph = chain(x, SparseDense.of(dense), affine)
    result = fold_affine(graph)
    same_bits(graph, result)
    assert kinds(result) == ["Input", "SparseDense", "Cast"]


def test_convolutions_too():
    x = entry(X, 2, 4)
    window = Window((Sliding(4, 2, before=1),))
    acc = Tensor("d", (2, *window.positions), FixedPoint(14, 5))
    weight = const([[[1, -2], [3, 0]], [[0, 7], [-8, 4]]], W)
    conv = Conv(acc, x.output, weight, const([3, -9], B), window=window)
    y = Tensor("y", acc.shape, Y)
    graph = chain(x, conv, Affine(y, acc, const([8, 8], S), const([5, -31], OFFSET), RND_SAT))
    result = fold_affine(graph)
    same_bits(graph, result)
    assert kinds(result) == ["Input", "Conv", "Cast"]


@pytest.mark.parametrize("scale", [(3, 3), (8, 4), (-8, -8), (0, 0), (8, 0)])
def test_other_scales_stay(scale):
    graph = chain(*layers(scale))
    assert fold_affine(graph).ops == graph.ops


def test_an_accumulator_with_modes_stays():
    graph = chain(*layers(dense_modes=TRN_WRAP))
    assert fold_affine(graph).ops == graph.ops


def test_an_accumulator_that_others_read_or_that_leaves_stays():
    x, dense, affine = layers()
    other = Cast(Tensor("z", (2,), Y), dense.output, TRN_WRAP)
    for graph in (
        chain(x, dense, affine, other, outputs=(affine.output, other.output)),
        chain(x, dense, affine, outputs=(affine.output, dense.output)),
    ):
        assert fold_affine(graph).ops == graph.ops


def test_an_affine_of_something_else_stays():
    x = entry(X)
    graph = chain(x, Affine(Tensor("y", (3,), Y), x.output, const([8] * 3, S), const([5] * 3, OFFSET), RND_SAT))
    assert fold_affine(graph).ops == graph.ops


def test_an_offset_too_fine_for_64_bits_stays():
    x, dense, affine = layers()
    fine = replace(affine, offset=const([1, 1], FixedPoint(2, 53)))
    graph = chain(x, dense, fine)
    assert fold_affine(graph).ops == graph.ops
    coarser = replace(affine, offset=const([1, 1], FixedPoint(2, 47)))
    graph = chain(x, dense, coarser)
    assert kinds(fold_affine(graph)) == ["Input", "Dense", "Cast"]
    same_bits(graph, fold_affine(graph))


@pytest.mark.parametrize(
    ("codes", "frac", "exponent"), [([4, 4], 1, 1), ([1], 5, -5), ([3], 0, None), ([0], 0, None), ([-2], 0, None)]
)
def test_power_of_two(codes, frac, exponent):
    assert power_of_two(const(codes, FixedPoint(5, frac))) == exponent
