from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Const, GraphError, Tensor
from export.ops.binary import SIGN, BinaryDense

WEIGHT = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]])
OFFSET = Const([-3, 20, 7], FixedPoint(6, 3))


Y = FixedPoint(10, 4)


def layer(weight=WEIGHT, offset=OFFSET, frac=1, x=SIGN, y=Y, n=4):
    bits = Const(np.array(weight), SIGN)
    return BinaryDense(Tensor("y", (3,), y), Tensor("x", (n,), x), bits, offset, frac)


def every_sign():
    return np.array(list(product((0, 1), repeat=4)))


def test_it_is_the_sum_of_products_of_signs():
    op = layer()
    y = op.eval(every_sign())
    for sample, row in zip(every_sign(), y, strict=True):
        for j, weights in enumerate(WEIGHT):
            products = sum((2 * int(a) - 1) * (2 * int(b) - 1) for a, b in zip(sample, weights, strict=True))
            value = OFFSET.codes[j] / 8 + (products + 4) * 2.0**-2
            assert row[j] == value * 16


def test_counts_have_a_format_that_holds_them():
    assert layer().count == FixedPoint(3, 1, signed=False)


def test_bounds_are_tight():
    op = layer()
    for fixed in product((0, 1, None), repeat=4):
        low = np.array([0 if f is None else f for f in fixed])
        high = np.array([1 if f is None else f for f in fixed])
        x = np.array([s for s in every_sign() if ((s >= low) & (s <= high)).all()])
        bounds, y = op.bounds(Bounds(low, high)), op.eval(x)
        assert (bounds.low == y.min(axis=0)).all() and (bounds.high == y.max(axis=0)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: layer(x=FixedPoint(2, 0)),
            "y: x is fixed<2,2>, the weights are ufixed<1,1>; both are signs, ufixed<1,1>",
        ),
        (
            lambda: layer(n=5),
            "y: weights of shape (3, 4) for x: ufixed<1,1>[5] and y: fixed<10,6>[3]; give (outputs, inputs)",
        ),
        (lambda: layer(offset=Const([1, 2], FixedPoint(3, 0))), "y: 3 outputs, but offsets of shape (2,)"),
        (
            lambda: layer(y=FixedPoint(10, 2)),
            "y: the sum has 3 fraction bits, the output has 2; give it as many",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
