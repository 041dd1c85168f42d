from __future__ import annotations

import numpy as np
import pytest

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import Reshape

FMT = FixedPoint(8, 3)


def reshape(shape=(2, 3, 4), n=24, fmt=FMT):
    return Reshape(Tensor("y", (n,), fmt), Tensor("x", shape, FMT))


def test_row_major_as_in_torch():
    x = np.arange(48).reshape(2, 2, 3, 4)
    y = reshape().eval(x)
    for sample in range(2):
        for i, j, k in np.ndindex(2, 3, 4):
            assert y[sample, (i * 3 + j) * 4 + k] == x[sample, i, j, k]


def test_any_axes():
    x = np.arange(48).reshape(2, 2, 3, 4)
    op = Reshape(Tensor("y", (4, 1, 6), FMT), Tensor("x", (2, 3, 4), FMT))
    assert np.array_equal(op.eval(x), x.reshape(2, 4, 1, 6))


def test_no_samples():
    assert reshape().eval(np.zeros((0, 2, 3, 4), dtype=np.int64)).shape == (0, 24)


def test_bounds_move_along():
    low, high = -np.arange(24).reshape(2, 3, 4), np.arange(24).reshape(2, 3, 4)
    bounds = reshape().bounds(Bounds(low, high))
    assert bounds.low.tolist() == [-i for i in range(24)] and bounds.high.tolist() == list(range(24))


@pytest.mark.parametrize(("n", "fmt"), [(23, FMT), (24, FixedPoint(9, 3)), (24, FixedPoint(8, 2))])
def test_it_changes_nothing_else(n, fmt):
    with pytest.raises(GraphError) as error:
        reshape(n=n, fmt=fmt)
    assert str(error.value) == f"y: must be fixed<8,5> of 24 elements, got y: {fmt}[{n}]"
