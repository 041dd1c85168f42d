from __future__ import annotations

import numpy as np
import pytest
import reference

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import Minimum

A, B, Y = FixedPoint(4, 1), FixedPoint(4, 3, False), FixedPoint(7, 3)


def minimum(y=Y, shape=(1,)):
    return Minimum(Tensor("y", shape, y), Tensor("a", (1,), A), Tensor("b", (1,), B))


def test_every_pair_of_codes():
    a, b = (grid.ravel() for grid in np.meshgrid(reference.every_code(A), reference.every_code(B)))
    y = minimum().eval(a[:, None], b[:, None])[:, 0]
    expected = [min(reference.value(p, A), reference.value(q, B)) for p, q in zip(a, b, strict=True)]
    assert reference.values(y, Y).tolist() == expected


def test_bounds_hold_and_are_tight():
    for low, high in ((-8, -3), (-8, 7), (2, 5)):
        for least, most in ((0, 3), (0, 15), (9, 12)):
            reaches = Bounds.everywhere((1,), low, high), Bounds.everywhere((1,), least, most)
            reference.check_bounds(minimum(), *reaches)
            bounds = minimum().bounds(*reaches)
            assert bounds.range == (min(4 * low, least), min(4 * high, most))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: minimum(FixedPoint(5, 3)), "y: fixed<5,2> does not hold a: fixed<4,3>[1]; widen it, or cast before"),
        (lambda: minimum(FixedPoint(7, 1)), "y: fixed<7,6> does not hold b: ufixed<4,1>[1]; widen it, or cast before"),
        (lambda: minimum(shape=(2,)), "y: acts element by element: a is (1,), the output (2,)"),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
