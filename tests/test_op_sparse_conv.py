from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from geometry import CHANNELS, SEEDS, windows
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import MODES

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Const, GraphError, Tensor
from export.ops import Conv, Modes, SparseConv
from export.ops.windows import Adaptive, Sliding, Window

X, W, B = FixedPoint(4, 2), FixedPoint(3, 1), FixedPoint(5, 4)
EXACT = FixedPoint(30, 4)
#: Two channels in, two out, three taps: of twelve weights five are there.
WEIGHT = np.array([[[0, 2, 0], [0, 0, -4]], [[1, 0, 0], [0, 0, 3]]])
WEIGHT[1, 1, 1] = -1


def dense(modes=None, acc=EXACT, weight=WEIGHT):
    window = Window((Sliding(5, 3, before=1),))
    x, y = Tensor("x", (2, 5), X), Tensor("y", (2, 4), acc)
    return Conv(y, x, Const(weight, W), Const([3, -8], B), modes, window=window)


def sparse(**changes):
    return replace(SparseConv.of(dense()), **changes)


def drawn(window, channels, seed, acc=EXACT, modes=None):
    """A convolution of which about half of the weights are zero, and some samples."""
    rng = np.random.default_rng(seed)
    made = channels.groups * channels.made
    weight = rng.integers(W.min_code, W.max_code + 1, size=(made, channels.read, *window.kernel))
    weight[rng.random(weight.shape) < 0.5] = 0
    x = Tensor("x", (channels.groups * channels.read, *window.size), X)
    bias = Const(rng.integers(B.min_code, B.max_code + 1, size=made), B)
    conv = Conv(Tensor("y", (made, *window.positions), acc), x, Const(weight, W), bias, modes, window=window)
    return conv, rng.integers(X.min_code, X.max_code + 1, size=(3, *x.shape))


def test_only_the_non_zero_weights_inputs_ascending():
    op = SparseConv.of(dense())
    entries = list(zip(op.rows, op.cols, op.weight.codes.tolist(), strict=True))
    assert entries == [(0, 1, 1), (1, 0, 2), (4, 1, -1), (5, 0, -4), (5, 1, 3)]
    assert (op.matrix == WEIGHT.reshape(2, 6)).all()
    assert (op.weight.format, op.groups, op.read, op.places) == (W, 1, 2, (6, 2))


@settings(max_examples=60)
@given(windows(one_sided=True), CHANNELS, SEEDS, st.sampled_from([None, *(Modes(r, o) for r, o in MODES)]))
def test_it_computes_what_the_convolution_does(window, channels, seed, modes):
    """Zero products do not move an accumulator in any mode, SAT_SYM included."""
    op, samples = drawn(window, channels, seed, EXACT if modes is None else FixedPoint(5, 2), modes)
    coo = SparseConv.of(op)
    reach = Bounds.everywhere(op.x.shape, -8, 7)
    assert np.array_equal(coo.eval(samples), op.eval(samples))
    assert coo.bounds(reach).low.tolist() == op.bounds(reach).low.tolist()
    assert coo.bounds(reach).high.tolist() == op.bounds(reach).high.tolist()
    assert coo.partial_sums(reach).range == op.partial_sums(reach).range
    assert (coo.interval, coo.groups) == (op.interval, channels.groups)


def test_without_any_weight_it_is_its_bias():
    op = SparseConv.of(dense(weight=np.zeros_like(WEIGHT)))
    assert op.eval(np.ones((1, 2, 5), dtype=int)).tolist() == [[[3] * 4, [-8] * 4]]


@pytest.mark.parametrize("reuse", range(1, 6))
def test_any_reuse_up_to_the_number_of_weights(reuse):
    assert SparseConv.of(dense(), reuse_factor=reuse).interval == 4 * reuse


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": (0, 1, 4, 5)}, "y: 5 weights with 4 rows and 5 cols"),
        ({"weight": Const([1, 2, 0, -4, 3], W)}, "y: a stored weight is zero; leave it out"),
        ({"rows": (1, 0, 4, 5, 5)}, "y: entries must be sorted by input, then output, without repeats"),
        ({"rows": (0, 1, 4, 5, 6)}, "y: a row or col points outside the 6 inputs or 2 outputs"),
        ({"groups": 2}, "y: a row or col points outside the 3 inputs or 2 outputs"),
        ({"groups": 3}, "y: 2 channels that make 2 do not divide into 3 groups; check the groups"),
        ({"reuse_factor": 6}, "y: reuse factor 6 for 5 non-zero weights; use 1 to 5"),
        ({"window": Window((Adaptive(5, 4),))}, "y: a convolution has windows that slide"),
        (
            {"window": Window((Sliding(6, 3),))},
            "y: the windows are over (6,), x: fixed<4,2>[2, 5] has other spatial axes",
        ),
        (
            {"output": Tensor("y", (2, 3), EXACT)},
            "y: there are (4,) positions, the output is y: fixed<30,26>[2, 3]",
        ),
        (
            {"output": Tensor("y", (2, 4), FixedPoint(12, 3))},
            "y: the exact sum has 4 fraction bits, the accumulator 3; give it the fraction bits or state its modes",
        ),
    ],
)
def test_messages(changes, message):
    with pytest.raises(GraphError) as error:
        sparse(**changes)
    assert str(error.value) == message
