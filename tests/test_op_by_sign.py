from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import reference

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import BySign

X, A, B, Y = FixedPoint(3, 1), FixedPoint(4, 1), FixedPoint(4, 3, False), FixedPoint(7, 3)


def by_sign(y=Y, shape=(1,), x=X):
    return BySign(Tensor("y", shape, y), *(Tensor(name, (1,), fmt) for name, fmt in (("x", x), ("a", A), ("b", B))))


@pytest.mark.parametrize("x", [X, FixedPoint(2, 0, False), FixedPoint(1, 0)])
def test_every_triple_of_codes(x):
    triples = np.array(list(product(*(reference.every_code(fmt) for fmt in (x, A, B)))))
    made = by_sign(x=x).eval(*(column[:, None] for column in triples.T))[:, 0]
    expected = [reference.value(a, A) if x >= 0 else reference.value(b, B) for x, a, b in triples]
    assert reference.values(made, Y).tolist() == expected


def test_bounds_hold_and_are_tight():
    for low, high in ((-4, -1), (-3, 2), (0, 3), (-1, 0)):
        for a, b in product(((-8, -3), (-8, 7), (2, 5)), ((0, 3), (9, 12))):
            ranges = (low, high), a, b
            reaches = [Bounds.everywhere((1,), *ends) for ends in ranges]
            reference.check_bounds(by_sign(), *reaches)
            triples = np.array(list(product(*(range(least, most + 1) for least, most in ranges))))
            made = by_sign().eval(*(column[:, None] for column in triples.T))
            assert by_sign().bounds(*reaches).range == (made.min(), made.max())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: by_sign(FixedPoint(5, 3)), "y: fixed<5,2> does not hold a: fixed<4,3>[1]; widen it, or cast before"),
        (lambda: by_sign(FixedPoint(7, 1)), "y: fixed<7,6> does not hold b: ufixed<4,1>[1]; widen it, or cast before"),
        (lambda: by_sign(shape=(2,)), "y: acts element by element: x is (1,), the output (2,)"),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
