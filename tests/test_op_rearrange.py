from __future__ import annotations

import numpy as np
import pytest

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import Rearrange

X = FixedPoint(5, 2)


def rearrange(source, shape=None, fill=0, y=X, x=(2, 3)):
    return Rearrange(Tensor("y", shape or (len(source),), y), Tensor("x", x, X), tuple(source), fill)


def test_numbers_come_from_where_it_says():
    x = np.random.default_rng(0).integers(-16, 16, size=(40, 2, 3))
    y = rearrange((5, 0, 0, 3), shape=(2, 2)).eval(x)
    assert y.shape == (40, 2, 2)
    assert np.array_equal(y.reshape(40, 4), x.reshape(40, 6)[:, [5, 0, 0, 3]])


def test_the_constant_stands_where_there_is_no_source():
    x = np.random.default_rng(0).integers(-16, 16, size=(40, 2, 3))
    op = rearrange((-1, 4, -1), fill=-7)
    assert op.is_filled and np.array_equal(op.eval(x), np.stack([np.full(40, -7), x[:, 1, 1], np.full(40, -7)], 1))
    assert not rearrange((0, 1)).is_filled


def test_a_finer_and_wider_output():
    op = rearrange((1, -1), fill=9, y=FixedPoint(64, 5))
    x = np.arange(6).reshape(1, 2, 3) - 16
    assert op.eval(x).tolist() == [[-15 * 8, 9]]


def test_no_samples():
    assert rearrange((5, -1), shape=(2, 1)).eval(np.zeros((0, 2, 3), dtype=np.int64)).shape == (0, 2, 1)


def test_bounds_move_along():
    low, high = -np.arange(6).reshape(2, 3), np.arange(6).reshape(2, 3)
    bounds = rearrange((5, -1, 1, 1), shape=(2, 2), fill=3).bounds(Bounds(low, high))
    assert bounds.low.tolist() == [[-5, 3], [-1, -1]] and bounds.high.tolist() == [[5, 3], [1, 1]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rearrange((0, 1), shape=(3,)), "y: 2 sources for 3 elements"),
        (
            lambda: rearrange((0, 6)),
            "y: a source lies outside the 6 elements of x; -1 is the constant",
        ),
        (lambda: rearrange((0, -2)), "y: a source lies outside the 6 elements of x; -1 is the constant"),
        (
            lambda: rearrange((0,), y=FixedPoint(5, 1)),
            "y: fixed<5,4> does not hold x: fixed<5,3>[2, 3]; widen it, or cast before",
        ),
        (lambda: rearrange((0, -1), fill=16), "y: the constant 16 is no code of fixed<5,3>; widen it"),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
