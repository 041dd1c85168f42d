from __future__ import annotations

import numpy as np
import pytest
import reference

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import ReLU


def relu(source, target, shape=(1,)):
    return ReLU(Tensor("y", shape, target), Tensor("x", shape, source))


FORMATS = [FixedPoint(5, 2), FixedPoint(4, 6, False), FixedPoint(1, 0), FixedPoint(2, -3)]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_every_code(fmt):
    target = ReLU.positive(fmt)
    codes = reference.every_code(fmt)
    y = relu(fmt, target).eval(codes[:, None])[:, 0]
    for code, result in zip(codes, y, strict=True):
        assert reference.value(result, target) == max(reference.Fraction(0), reference.value(code, fmt))
    assert not target.signed and target.min_code <= y.min() and y.max() <= target.max_code


def test_the_positive_format_is_the_narrowest():
    assert ReLU.positive(FixedPoint(8, 3)) == FixedPoint(7, 3, False)
    assert ReLU.positive(FixedPoint(8, 3, False)) == FixedPoint(8, 3, False)
    assert ReLU.positive(FixedPoint(1, 0)) == FixedPoint(1, 0, False)


def test_bounds_are_tight():
    op = relu(FixedPoint(5, 2), FixedPoint(6, 2), (3,))
    bounds = op.bounds(Bounds(np.array([-5, -3, 2]), np.array([-1, 4, 6])))
    assert bounds.low.tolist() == [0, 0, 2] and bounds.high.tolist() == [0, 4, 6]


@pytest.mark.parametrize("target", [FixedPoint(4, 3, False), FixedPoint(3, 2, False), FixedPoint(4, 2)], ids=str)
def test_a_format_that_does_not_hold_the_result(target):
    with pytest.raises(GraphError) as error:
        relu(FixedPoint(5, 2), target)
    assert str(error.value) == f"y: {target} does not hold max(0, x) of fixed<5,3>; use ufixed<4,2>"


def test_shapes_must_agree():
    with pytest.raises(GraphError) as error:
        ReLU(Tensor("y", (3,), FixedPoint(5, 2)), Tensor("x", (1, 3), FixedPoint(5, 2)))
    assert str(error.value) == "y: acts element by element, but x is (1, 3) and the output (3,)"
