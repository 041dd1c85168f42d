from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reference import MODES

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Const, GraphError, Tensor
from export.ops import Dense, Modes, SparseDense

X, W = FixedPoint(4, 2), FixedPoint(3, 1)
WEIGHT = np.array([[0, 2, 0, -4], [0, 0, 0, 0], [1, 0, 0, 3]])


def dense(modes=None, acc=FixedPoint(12, 4)):  # noqa: B008 - a frozen value
    bias = Const(np.array([3, -8, 0]), FixedPoint(5, 4))
    return Dense(Tensor("y", (3,), acc), Tensor("x", (4,), X), Const(WEIGHT, W), bias, modes)


def sparse(**changes):
    return replace(SparseDense.of(dense()), **changes)


def test_only_the_non_zero_weights_inputs_ascending():
    op = SparseDense.of(dense())
    entries = list(zip(op.rows, op.cols, op.weight.codes.tolist(), strict=True))
    assert entries == [(0, 2, 1), (1, 0, 2), (3, 0, -4), (3, 2, 3)]
    assert (op.matrix == WEIGHT).all()
    assert op.weight.format == W


@pytest.mark.parametrize("modes", [None, *(Modes(r, o) for r, o in MODES)])
def test_it_computes_what_the_dense_layer_does(modes):
    """Zero products do not move an accumulator in any mode, SAT_SYM included."""
    op = dense(modes, FixedPoint(12, 4) if modes is None else FixedPoint(5, 2))
    x = np.random.default_rng(0).integers(-8, 8, size=(100, 4))
    reach = Bounds.everywhere((4,), -8, 7)
    coo = SparseDense.of(op)
    assert (coo.eval(x) == op.eval(x)).all()
    assert coo.bounds(reach).low.tolist() == op.bounds(reach).low.tolist()
    assert coo.bounds(reach).high.tolist() == op.bounds(reach).high.tolist()
    assert coo.partial_sums(reach).range == op.partial_sums(reach).range


def test_without_any_weight_it_is_its_bias():
    op = replace(dense(), weight=Const(np.zeros((3, 4), dtype=int), W))
    assert SparseDense.of(op).eval(np.ones((2, 4), dtype=int)).tolist() == [[3, -8, 0]] * 2


@pytest.mark.parametrize("reuse", [1, 3, 4])
def test_any_reuse_up_to_the_number_of_weights(reuse):
    assert SparseDense.of(dense(), reuse_factor=reuse).reuse_factor == reuse


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": (0, 1, 3)}, "y: 4 weights with 3 rows and 4 cols"),
        ({"weight": Const(np.array([1, 0, -4, 3]), W)}, "y: a stored weight is zero; leave it out"),
        ({"rows": (1, 0, 3, 3)}, "y: entries must be sorted by input, then output, without repeats"),
        ({"cols": (2, 0, 2, 2)}, "y: entries must be sorted by input, then output, without repeats"),
        ({"rows": (0, 1, 3, 4)}, "y: a row or col points outside the 4 inputs or 3 outputs"),
        ({"rows": (-1, 1, 3, 3)}, "y: a row or col points outside the 4 inputs or 3 outputs"),
        ({"cols": (2, 0, 0, 3)}, "y: a row or col points outside the 4 inputs or 3 outputs"),
        ({"reuse_factor": 5}, "y: reuse factor 5 for 4 non-zero weights; use 1 to 4"),
        ({"reuse_factor": 0}, "y: reuse factor 0 for 4 non-zero weights; use 1 to 4"),
        (
            {"output": Tensor("y", (3,), FixedPoint(12, 3))},
            "y: the exact sum has 4 fraction bits, the accumulator 3; give it the fraction bits or state its modes",
        ),
    ],
)
def test_messages(changes, message):
    with pytest.raises(GraphError) as error:
        sparse(**changes)
    assert str(error.value) == message
