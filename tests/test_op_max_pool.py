from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import reference
import torch
from geometry import SEEDS, windows
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import MaxPool
from export.ops.windows import Sliding, Window, adaptive

X = FixedPoint(5, 2)


def pool(window, channels=2, fmt=X, y=None):
    x = Tensor("x", (channels, *window.size), fmt)
    return MaxPool(Tensor("y", (channels, *window.positions), y or fmt), x, window)


@settings(max_examples=200)
@given(windows(one_sided=True), SEEDS, st.sampled_from([X, FixedPoint(5, 2, False), FixedPoint(64, 0)]))
def test_the_largest_of_what_the_taps_read(window, seed, fmt):
    """Padding never wins, not even over the lowest code."""
    assume(window.counts.all())
    op = pool(window, fmt=fmt)
    x = np.random.default_rng(seed).integers(max(fmt.min_code, -99), min(fmt.max_code, 99), size=(4, *op.x.shape))
    x[0] = fmt.min_code
    y = op.eval(x).reshape(4, 2, -1)
    for n, c, p in product(range(4), range(2), range(y.shape[2])):
        assert y[n, c, p] == max(x[n, c].ravel()[place] for place in window.reads[p] if place >= 0)


@pytest.mark.parametrize("window", [
    Window((Sliding(7, 3, 2, 2, 1, 1),)),
    Window((Sliding(5, 3, 1, 1, 1, 1), Sliding(6, 2, 2))),
])  # fmt: skip
def test_it_is_torchs(window):
    op = pool(window)
    x = np.random.default_rng(0).integers(-16, 16, size=(20, *op.x.shape))
    torchs = (F.max_pool1d, F.max_pool2d)[len(window.axes) - 1]
    options = ([getattr(a, f) for a in window.axes] for f in ("kernel", "stride", "before", "dilation"))
    assert np.array_equal(op.eval(x), torchs(torch.tensor(x).double(), *options).numpy())


@pytest.mark.parametrize("positions", [(3, 2), (4, 4), (1, 1), (7, 5)])
def test_adaptive_as_torchs(positions):
    op = pool(Window((adaptive(7, positions[0]), adaptive(5, positions[1]))))
    x = np.random.default_rng(0).integers(-16, 16, size=(20, *op.x.shape))
    assert np.array_equal(op.eval(x), F.adaptive_max_pool2d(torch.tensor(x).double(), positions).numpy())


@given(windows(one_sided=True), SEEDS)
def test_bounds_hold_and_are_tight(window, seed):
    assume(window.counts.all())
    op = pool(window, channels=1)
    rng = np.random.default_rng(seed)
    low = rng.integers(-16, 16, size=op.x.shape)
    reach = Bounds(low, np.minimum(low + rng.integers(0, 9, size=op.x.shape), 15))
    reference.check_bounds(op, reach)
    ends = op.eval(np.stack([reach.low, reach.high]))  # which rises with every element
    assert np.array_equal(op.bounds(reach).low, ends[0]) and np.array_equal(op.bounds(reach).high, ends[1])


def test_a_wider_format_holds_it_too():
    op = pool(Window((Sliding(2, 2),)), y=FixedPoint(9, 4))
    assert op.eval(np.array([[[1, 2], [-3, -16]]])).tolist() == [[[8], [-12]]]
    assert op.bounds(Bounds(np.array([[1, 2], [-9, -3]]), np.array([[5, 3], [0, 0]]))).range == (-12, 20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: pool(Window((Sliding(3, 2),)), y=FixedPoint(5, 3)),
            "y: fixed<5,2> does not hold x: fixed<5,3>[2, 3]; widen it, or cast before",
        ),
        (
            lambda: pool(Window((Sliding(3, 2),)), y=FixedPoint(5, 2, False)),
            "y: ufixed<5,3> does not hold x: fixed<5,3>[2, 3]; widen it, or cast before",
        ),
        (
            lambda: pool(Window((Sliding(2, 1, before=1),))),
            "y: a window reads nothing but padding; use less of it",
        ),
        (
            lambda: MaxPool(Tensor("y", (2, 2), X), Tensor("x", (2, 4), X), Window((Sliding(3, 2),))),
            "y: the windows are over (3,), x: fixed<5,3>[2, 4] has other spatial axes",
        ),
        (
            lambda: MaxPool(Tensor("y", (2, 3), X), Tensor("x", (2, 3), X), Window((Sliding(3, 2),))),
            "y: must be 2 channels of (2,), got y: fixed<5,3>[2, 3]",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
