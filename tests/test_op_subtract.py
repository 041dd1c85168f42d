from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import Subtract

FORMATS = [FixedPoint(4, 1), FixedPoint(4, 3, False), FixedPoint(3, -2), FixedPoint(1, 0, False), FixedPoint(5, 7)]


def subtract(a, b, y, shape=(1,)):
    return Subtract(Tensor("y", shape, y), Tensor("a", (1,), a), Tensor("b", (1,), b))


def holding(a, b):
    """A format of every difference."""
    return FixedPoint(24, max(a.frac, b.frac))


@pytest.mark.parametrize("b", FORMATS, ids=str)
@pytest.mark.parametrize("a", FORMATS, ids=str)
def test_every_pair_of_codes(a, b):
    x, z = (grid.ravel() for grid in np.meshgrid(reference.every_code(a), reference.every_code(b)))
    y = holding(a, b)
    made = subtract(a, b, y).eval(x[:, None], z[:, None])[:, 0]
    expected = [reference.value(p, a) - reference.value(q, b) for p, q in zip(x, z, strict=True)]
    assert reference.values(made, y).tolist() == expected


@given(ends=st.tuples(*[st.integers(-8, 7)] * 4))
def test_bounds_hold_and_are_tight(ends):
    low, high, least, most = *sorted(ends[:2]), *sorted(ends[2:])
    a, b = FixedPoint(4, 1), FixedPoint(4, 3)
    op = subtract(a, b, holding(a, b))
    x, z = (grid.ravel() for grid in np.meshgrid(np.arange(low, high + 1), np.arange(least, most + 1)))
    made = op.eval(x[:, None], z[:, None])
    reaches = Bounds.everywhere((1,), low, high), Bounds.everywhere((1,), least, most)
    assert op.bounds(*reaches).range == (made.min(), made.max())


def test_beyond_62_bits():
    wide = FixedPoint(63, 0)
    made = subtract(wide, wide, FixedPoint(64, 0)).eval(np.array([[wide.max_code]]), np.array([[wide.min_code]]))
    assert made.tolist() == [[wide.max_code - wide.min_code]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: subtract(FixedPoint(4, 1), FixedPoint(4, 3), FixedPoint(20, 2)),
            "y: the exact difference has 3 fraction bits, fixed<20,18> has 2; give it the fraction bits, and cast "
            "afterwards",
        ),
        (
            lambda: subtract(FixedPoint(4, 1), FixedPoint(4, 3), FixedPoint(20, 8), shape=(2,)),
            "y: acts element by element: a is (1,), the output (2,)",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
