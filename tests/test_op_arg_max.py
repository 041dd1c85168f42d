from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import ArgMax

X = FixedPoint(3, 1)


def arg_max(*shape, y=None, x=X):
    read = Tensor("x", shape, x)
    return ArgMax(Tensor("y", (1, *shape[1:]), y or ArgMax.indices(read)), read)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_combination_of_codes_ties_as_in_torch(channels):
    """Of equal ones the first, as torch says it does."""
    codes = np.array(list(product(range(-2, 2), repeat=channels)))
    made = arg_max(channels).eval(codes)
    assert made.shape == (len(codes), 1)
    assert np.array_equal(made[:, 0], torch.from_numpy(codes).argmax(dim=1).numpy())
    assert made[:, 0].tolist() == [row.index(max(row)) for row in codes.tolist()]


def test_every_place_by_itself():
    x = np.random.default_rng(0).integers(-4, 4, size=(50, 5, 2, 3))
    made = arg_max(5, 2, 3).eval(x)
    assert np.array_equal(made, torch.from_numpy(x).argmax(dim=1, keepdim=True).numpy())


def test_beyond_62_bits():
    wide = FixedPoint(64, 0, False)
    assert arg_max(3, x=wide).eval(np.array([[1, wide.max_code, wide.max_code - 1]], dtype=object)).tolist() == [[1]]


@given(ends=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=4))
def test_bounds_hold_and_are_tight(ends):
    low, high = (np.array(side) for side in zip(*map(sorted, ends), strict=True))
    codes = np.array(list(product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))
    op = arg_max(len(ends))
    made = op.eval(codes)
    assert op.bounds(Bounds(low, high)).range == (made.min(), made.max())


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (FixedPoint(1, 0, False), "y: must be y: ufixed<2,2>[1], or wider, got y: ufixed<1,1>[1]"),
        (FixedPoint(2, 0), "y: must be y: ufixed<2,2>[1], or wider, got y: fixed<2,2>[1]"),
        (FixedPoint(3, 1, False), "y: must be y: ufixed<2,2>[1], or wider, got y: ufixed<3,2>[1]"),
    ],
)
def test_messages(y, message):
    with pytest.raises(GraphError) as error:
        arg_max(3, y=y)
    assert str(error.value) == message
