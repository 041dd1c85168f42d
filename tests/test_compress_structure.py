"""Groups cut a tensor up completely, and the blocks of a reuse factor are what the kernel's multipliers do."""

from __future__ import annotations

from pathlib import Path

import cxx
import numpy as np
import pytest
import torch

from compress.fixed import FixedPoint
from compress.structure import (
    CHANNELS,
    NEURONS,
    SPARED,
    WEIGHTS,
    Group,
    Structure,
    multipliers,
    reuse_blocks,
    structures_of,
)
from export.costs import Target, estimate_op
from export.firmware.tables import constants
from export.ir import Const, Tensor
from export.ops import Dense
from export.ops.reuse import legal_reuse_factors

SIZES = [(1, 1), (1, 7), (6, 1), (6, 4), (4, 6), (16, 5)]


def test_groups_are_the_rows_or_the_weights_themselves() -> None:
    dense, filters = torch.Size((3, 2)), torch.Size((2, 2, 1, 2))
    assert WEIGHTS.groups("w", dense).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert WEIGHTS.groups("w", filters).flatten().tolist() == list(range(8))
    assert NEURONS.groups("w", dense).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert CHANNELS.groups("w", filters).tolist() == [[[[0, 0]], [[0, 0]]], [[[1, 1]], [[1, 1]]]]
    assert not SPARED.groups("w", filters).any() and SPARED.groups("w", filters).shape == filters
    assert torch.equal(multipliers(4).groups("w", torch.Size((6, 4))), reuse_blocks(4, 6, 4))
    planes = torch.Size((4, 3, 2, 2))  # twelve inputs of an output
    assert torch.equal(multipliers(6).groups("w", planes), reuse_blocks(12, 4, 6).reshape(planes))


@pytest.mark.parametrize(
    ("structure", "shape", "message"),
    [
        (NEURONS, (3, 2, 5), r"^fc: weights of shape \(3, 2, 5\) have no neurons; group them as weights, channels or"),
        (CHANNELS, (3, 2), r"^fc: weights of shape \(3, 2\) have no channels; group them as weights, neurons or multi"),
        (multipliers(5), (4, 2, 3, 3), r"^fc: reuse factor 5 is not legal for 18 inputs and 4 outputs; take a divi"),
        (multipliers(3), (4, 16), r"^fc: reuse factor 3 is not legal for 16 inputs and 4 outputs; take a divi"),
    ],
)
def test_a_structure_that_a_layer_does_not_have(structure: Structure, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        structure.groups("fc", torch.Size(shape))


def test_structures_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match=r"^group must be a Group \(Group.WEIGHT, .*, got 'neuron'$"):
        Structure(group="neuron")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^reuse_factor must be a whole number from 1 on, got 0$"):
        multipliers(0)
    with pytest.raises(ValueError, match=r"^reuse_factor=4 with Group.NEURON; only Group.MULTIPLIER has one$"):
        Structure(group=Group.NEURON, reuse_factor=4)
    with pytest.raises(ValueError, match=r"^may_empty with Group.NONE, of which nothing goes; leave one of them out$"):
        Structure(group=Group.NONE, may_empty=True)


def test_a_name_goes_before_patterns_and_these_in_their_order() -> None:
    names = ["conv.weight", "fc1.weight", "fc2.weight", "head.weight"]
    chosen = structures_of(names, {"fc?": NEURONS, "*2": multipliers(2), "conv": CHANNELS, "fc1": multipliers(4)})
    assert chosen == dict(zip(names, [CHANNELS, multipliers(4), NEURONS, WEIGHTS], strict=True))
    with pytest.raises(ValueError, match=r"^fc9: a structure for no prunable layer; there are conv, fc1, fc2, head$"):
        structures_of(names, {"fc9": NEURONS, "*": NEURONS})


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
def test_every_multiplier_has_as_many_weights_as_the_reuse_factor_says(n_in: int, n_out: int) -> None:
    legal = []
    for reuse in range(1, n_in * n_out + 1):
        try:
            blocks = reuse_blocks(n_in, n_out, reuse)
        except ValueError:
            continue
        legal.append(reuse)
        assert blocks.shape == (n_out, n_in) and blocks.is_contiguous()
        assert blocks.flatten().bincount().tolist() == [reuse] * (n_in * n_out // reuse)
    assert tuple(legal) == legal_reuse_factors(n_in, n_out)


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
def test_blocks_are_the_columns_of_the_weight_memory(n_in: int, n_out: int) -> None:
    """The firmware's table has one word per step; the m-th weight of every word must be of block m."""
    for reuse in legal_reuse_factors(n_in, n_out)[1:]:
        blocks = reuse_blocks(n_in, n_out, reuse).numpy()
        # From 1 on: a multiplier whose weights are zero is left out.
        weight, bias = Const(blocks + 1, FixedPoint(16, 0)), Const(np.zeros(n_out, dtype=np.int64), FixedPoint(2, 0))
        y, x = Tensor("y", (n_out,), FixedPoint(40, 0)), Tensor("x", (n_in,), FixedPoint(8, 0))
        _, table = constants(Dense(y, x, weight, bias, None, reuse), "fc").entries["weight"]
        assert table.shape == (reuse, n_in * n_out // reuse)
        assert (table.astype(float) == np.arange(table.shape[1]) + 1).all()


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
def test_a_pruned_block_is_a_multiplier_that_the_design_does_not_have(n_in: int, n_out: int) -> None:
    for reuse in legal_reuse_factors(n_in, n_out)[1:]:
        blocks = reuse_blocks(n_in, n_out, reuse).numpy()
        gone = np.arange(0, blocks.max() + 1, 2)[: blocks.max()]  # all but one at most
        weight, bias = (
            Const(np.where(np.isin(blocks, gone), 0, 3), FixedPoint(3, 0)),
            Const([0] * n_out, FixedPoint(2, 0)),
        )
        y, x = Tensor("y", (n_out,), FixedPoint(40, 0)), Tensor("x", (n_in,), FixedPoint(8, 0))
        op = Dense(y, x, weight, bias, None, reuse)
        assert op.multipliers == tuple(number for number in range(blocks.max() + 1) if number not in gone)
        assert constants(op, "fc").entries["weight"][1].shape == (reuse, blocks.max() + 1 - len(gone))
        made = estimate_op(op, Target())
        assert made is not None and made.multipliers == blocks.max() + 1 - len(gone)


# Numbers that do not compute: the kernel's multiply_add, found beside their types, writes down who meets whom.
RECORDER = """
#include <initializer_list>
#include <type_traits>
#include "qapsule/dense.h"
namespace recorder {
struct input { int i; };
struct weight { int step, multiplier; };
struct sum { int j; explicit sum(int output = 0) : j(output) {} };
inline sum multiply_add(const sum& y, const input& x, const weight& w) {
    for (int number : {y.j, x.i, w.step, w.multiplier}) put(static_cast<std::uint64_t>(number));
    return y;
}
template <int R, int N_IN, int N_OUT, int M>
typename std::enable_if<(R <= N_IN)>::type
share(const input (&x)[N_IN], sum (&y)[N_OUT], const weight (&w)[R][M], const int (&bias)[N_OUT]) {
    qapsule::dense_reuse<R>(x, y, w, bias);
}
template <int R, int N_IN, int N_OUT, int M>
typename std::enable_if<(R > N_IN)>::type
share(const input (&x)[N_IN], sum (&y)[N_OUT], const weight (&w)[R][M], const int (&bias)[N_OUT]) {
    int by_part[N_OUT / M][M];
    for (int j = 0; j < N_OUT; ++j) by_part[j / M][j % M] = bias[j];
    qapsule::dense_serial<R>(x, y, w, by_part);
}
template <int R, int N_IN, int N_OUT> void record() {
    input x[N_IN];
    for (int i = 0; i < N_IN; ++i) x[i].i = i;
    enum : int { M = N_IN * N_OUT / R };
    weight w[R][M];
    for (int r = 0; r < R; ++r) for (int m = 0; m < M; ++m) w[r][m] = {r, m};
    int bias[N_OUT];
    for (int j = 0; j < N_OUT; ++j) bias[j] = j;
    sum y[N_OUT];
    share<R>(x, y, w, bias);
}
}
"""


def test_blocks_are_what_the_multipliers_of_the_kernel_do(tmp_path: Path) -> None:
    cases = [(n_in, n_out, reuse) for n_in, n_out in SIZES for reuse in legal_reuse_factors(n_in, n_out)]
    calls = "".join(f"recorder::record<{reuse}, {n_in}, {n_out}>();" for n_in, n_out, reuse in cases)
    program = cxx.build(f"{RECORDER}int main() {{ {calls} }}", tmp_path / "record", cxx.OWN)
    met = cxx.run(program, np.zeros(0, dtype=np.uint64)).astype(np.int64).reshape(-1, 4)
    for n_in, n_out, reuse in cases:
        number = n_in * n_out // reuse
        own, met = met[: n_in * n_out], met[n_in * n_out :]
        blocks = reuse_blocks(n_in, n_out, reuse)
        for call, (output, input_, step, multiplier) in enumerate(own.tolist()):
            # The unrolled products of a step stand for the multipliers, in their order.
            assert (step, multiplier) == divmod(call, number)
            assert blocks[output, input_] == multiplier
    assert not len(met)
