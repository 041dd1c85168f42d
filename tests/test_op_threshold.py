from __future__ import annotations

import numpy as np
import pytest
import reference

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Const, Graph, GraphError, Tensor
from export.ops import Input, Threshold

X, Y = FixedPoint(5, 1), FixedPoint(4, 2)


def threshold(level, start, step, shape=None, x=X, y=Y, level_format=None):
    level = np.array(level)
    shape = shape or level.shape[:1]
    levels = Const(level, level_format or x)
    return Threshold(
        Tensor("y", shape, y),
        Tensor("x", shape, x),
        levels,
        Const(np.array(start), y),
        Const(np.array(step), FixedPoint(2, y.frac)),
    )


LEVEL, START, STEP = [[-3, -3, 0, 9], [-16, 1, 2, 15], [15, 15, 15, 15]], [-2, 7, 0], [1, -1, 1]


def test_every_code_counts_the_levels_it_reaches():
    op = threshold(LEVEL, START, STEP)
    codes = reference.every_code(X)
    y = op.eval(np.stack([codes] * 3, axis=1))
    for row, code in zip(y, codes, strict=True):
        for channel in range(3):
            passed = sum(1 for level in LEVEL[channel] if code >= level)
            assert row[channel] == START[channel] + STEP[channel] * passed


def test_channels_are_the_first_axis():
    op = threshold(LEVEL, START, STEP, shape=(3, 2))
    x = np.random.default_rng(0).integers(-16, 16, size=(20, 3, 2))
    flat = threshold(LEVEL, START, STEP)
    for column in range(2):
        assert (op.eval(x)[:, :, column] == flat.eval(x[:, :, column])).all()


def test_bounds_are_tight():
    op = threshold(LEVEL, START, STEP)
    for low in range(-16, 16, 3):
        for high in range(low, 16, 2):
            codes = np.arange(low, high + 1)
            made = op.eval(np.stack([codes] * 3, axis=1))
            bounds = op.bounds(Bounds.everywhere((3,), low, high))
            assert (bounds.low == made.min(axis=0)).all() and (bounds.high == made.max(axis=0)).all()


def test_codes_beyond_int64():
    wide, out = FixedPoint(64, 0, False), FixedPoint(3, 0, False)
    op = threshold([[2**63, 2**64 - 1]], [0], [1], x=wide, y=out)
    y = op.eval(np.array([[2**63 - 1], [2**63], [2**64 - 1]], dtype=object))
    assert y.tolist() == [[0], [1], [2]] and y.dtype == np.int64


def test_a_count_that_leaves_the_format_breaks_the_graph():
    x = Input(Tensor("x", (1,), X))
    op = threshold([[0, 1, 2]], [6], [1])
    with pytest.raises(GraphError) as error:
        Graph("g", (x, op), (op.output,)).verify()
    assert str(error.value) == "y: reaches codes from 6 to 9, which fixed<4,2> does not hold; widen it"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: threshold([[1, 0]], [0], [1]), "y: levels must ascend within a channel"),
        (
            lambda: threshold([[0]], [0], [1], level_format=FixedPoint(5, 2)),
            "y: levels have 2 fraction bits, x has 1",
        ),
        (
            lambda: threshold([[0]], [0], [1], level_format=FixedPoint(5, 1, False)),
            "y: levels are ufixed<5,4>, x is fixed<5,4>; make both signed or both unsigned",
        ),
        (
            lambda: threshold([[0], [1]], [0], [1, 1]),
            "y: start has shape (1,) for 2 channels; give one per channel",
        ),
        (
            lambda: threshold([[0], [1]], [0, 0], [1], shape=(2,)),
            "y: step has shape (1,) for 2 channels; give one per channel",
        ),
        (
            lambda: threshold([[0], [1]], [0], [1], shape=(1,)),
            "y: level has shape (2,) for 1 channels; give one per channel",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
