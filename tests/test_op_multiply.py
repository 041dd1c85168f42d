from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import Multiply

FORMATS = [FixedPoint(4, 1), FixedPoint(4, 3, False), FixedPoint(3, -2), FixedPoint(1, 0, False), FixedPoint(5, 7)]


def multiply(a, b, y, shape=(1,)):
    return Multiply(Tensor("y", shape, y), Tensor("a", (1,), a), Tensor("b", (1,), b))


def holding(a, b):
    """A format of every product."""
    return FixedPoint(24, a.frac + b.frac)


@pytest.mark.parametrize("b", FORMATS, ids=str)
@pytest.mark.parametrize("a", FORMATS, ids=str)
def test_every_pair_of_codes(a, b):
    x, z = (grid.ravel() for grid in np.meshgrid(reference.every_code(a), reference.every_code(b)))
    y = holding(a, b)
    made = multiply(a, b, y).eval(x[:, None], z[:, None])[:, 0]
    expected = [reference.value(p, a) * reference.value(q, b) for p, q in zip(x, z, strict=True)]
    assert reference.values(made, y).tolist() == expected


@given(ends=st.tuples(*[st.integers(-8, 7)] * 4))
def test_bounds_hold_and_are_tight(ends):
    low, high, least, most = *sorted(ends[:2]), *sorted(ends[2:])
    a, b = FixedPoint(4, 1), FixedPoint(4, 3)
    op = multiply(a, b, holding(a, b))
    x, z = (grid.ravel() for grid in np.meshgrid(np.arange(low, high + 1), np.arange(least, most + 1)))
    made = op.eval(x[:, None], z[:, None])
    reaches = Bounds.everywhere((1,), low, high), Bounds.everywhere((1,), least, most)
    assert op.bounds(*reaches).range == (made.min(), made.max())


@given(ends=st.tuples(st.integers(-8, 7), st.integers(-8, 7)))
def test_bounds_of_a_square_are_tight(ends):
    low, high = sorted(ends)
    x = Tensor("x", (1,), FixedPoint(4, 1))
    op, codes = Multiply(Tensor("y", (1,), FixedPoint(8, 2)), x, x), np.arange(low, high + 1)[:, None]
    reach = Bounds.everywhere((1,), low, high)
    assert op.bounds(reach, reach).range == (op.eval(codes, codes).min(), op.eval(codes, codes).max())


def test_beyond_62_bits():
    wide = FixedPoint(40, 0), FixedPoint(24, 0)
    made = multiply(*wide, FixedPoint(64, 0)).eval(np.array([[wide[0].min_code]]), np.array([[wide[1].max_code]]))
    assert made.tolist() == [[wide[0].min_code * wide[1].max_code]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: multiply(FixedPoint(4, 1), FixedPoint(4, 3), FixedPoint(20, 3)),
            "y: the exact product has 4 fraction bits, fixed<20,17> has 3; give it the fraction bits, and cast "
            "afterwards",
        ),
        (
            lambda: multiply(FixedPoint(4, 1), FixedPoint(4, 3), FixedPoint(20, 8), shape=(2,)),
            "y: acts element by element: a is (1,), the output (2,)",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
