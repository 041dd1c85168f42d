from __future__ import annotations

import numpy as np
import pytest
import reference

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Const, GraphError, Tensor
from export.ops import Clip

X = FixedPoint(5, 2)
LOW, HIGH = Const([-16, -3, 4], X), Const([15, 7, 4], X)


def clip(low=LOW, high=HIGH, y=X, shape=(3,), x=X):
    return Clip(Tensor("y", shape, y), Tensor("x", shape, x), low, high)


def test_every_code_between_every_pair_of_limits():
    codes = reference.every_code(X)
    for low in range(-16, 16, 3):
        for high in range(low, 16, 4):
            op = clip(Const([low], X), Const([high], X), shape=(1,))
            assert op.eval(codes[:, None])[:, 0].tolist() == [min(max(int(c), low), high) for c in codes]


def test_channels_are_the_first_axis():
    x = np.random.default_rng(0).integers(-16, 16, size=(20, 3, 2, 2))
    y = clip(shape=(3, 2, 2)).eval(x)
    for i, j in np.ndindex(2, 2):
        assert (y[:, :, i, j] == clip().eval(x[:, :, i, j])).all()


def test_bounds_are_tight():
    for low in range(-16, 16, 5):
        for high in range(low, 16, 3):
            made = clip().eval(np.stack([np.arange(low, high + 1)] * 3, axis=1))
            bounds = clip().bounds(Bounds.everywhere((3,), low, high))
            assert (bounds.low == made.min(axis=0)).all() and (bounds.high == made.max(axis=0)).all()


def test_a_narrower_output_holds_what_is_left():
    op = clip(Const([0, 0, 0], X), Const([3, 3, 2], X), FixedPoint(2, 2, False))
    assert op.bounds(Bounds.everywhere((3,), -16, 15)).inside(op.output.format)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: clip(low=Const([0], X)), "y: low has shape (1,) for 3 channels; give one per channel"),
        (
            lambda: clip(high=Const([1, 7, 5], FixedPoint(5, 3))),
            "y: high is fixed<5,2>, x is fixed<5,3>; give it as codes of x",
        ),
        (lambda: clip(low=HIGH, high=LOW), "y: low exceeds high in some channel"),
        (
            lambda: clip(y=FixedPoint(6, 3)),
            "y: fixed<6,3> and fixed<5,3> have different fraction bits; cast instead",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
