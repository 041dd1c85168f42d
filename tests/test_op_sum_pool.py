from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import reference
import torch
from geometry import SEEDS, windows
from hypothesis import assume, given, settings
from torch.nn import functional as F

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Const, GraphError, Tensor
from export.ops import SumPool
from export.ops.windows import Sliding, Window

X = FixedPoint(4, 2)
ONE = Const([1], FixedPoint(1, 0, False))


def pool(window, weight=ONE, channels=2, fmt=X, width=40):
    x = Tensor("x", (channels, *window.size), fmt)
    y = Tensor("y", (channels, *window.positions), FixedPoint(width, fmt.frac + weight.format.frac))
    return SumPool(y, x, window, weight)


@settings(max_examples=200)
@given(windows(one_sided=True), SEEDS)
def test_the_weighted_sum_of_what_the_taps_read(window, seed):
    assume(window.counts.all())
    rng = np.random.default_rng(seed)
    count = window.counts.size
    weight = Const(rng.integers(1, 8, size=(count, 1)[seed % 2]), FixedPoint(3, 1, False))
    op = pool(window, weight)
    x = rng.integers(-8, 8, size=(3, *op.x.shape))
    y = op.eval(x).reshape(3, 2, -1)
    for n, c, p in product(range(3), range(2), range(count)):
        read = sum(reference.value(x[n, c].ravel()[place], X) for place in window.reads[p] if place >= 0)
        share = reference.value(weight.codes[p if len(weight.codes) > 1 else 0], weight.format)
        assert reference.value(y[n, c, p], op.output.format) == read * share


def test_an_average_over_a_power_of_two_is_torchs():
    op = pool(Window((Sliding(5, 2, 2, before=1, after=1), Sliding(4, 2))), Const([1], FixedPoint(1, 2, False)))
    x = np.random.default_rng(0).integers(-8, 8, size=(30, *op.x.shape))
    expected = F.avg_pool2d(torch.tensor(X.values(x)), 2, (2, 1), (1, 0)).numpy()
    assert np.array_equal(op.output.format.values(op.eval(x)), expected)


@settings(max_examples=40)
@given(windows(one_sided=True), SEEDS)
def test_bounds_are_exactly_the_extreme_sums(window, seed):
    """Which the ends of all elements reach, since every weight is positive."""
    assume(window.counts.all())
    op = pool(window, channels=1)
    rng = np.random.default_rng(seed)
    low = rng.integers(-8, 8, size=op.x.shape)
    reach = Bounds(low, np.minimum(low + rng.integers(0, 5, size=op.x.shape), 7))
    reference.check_bounds(op, reach)
    ends = op.eval(np.stack([reach.low, reach.high]))
    assert np.array_equal(op.bounds(reach).low, ends[0]) and np.array_equal(op.bounds(reach).high, ends[1])
    assert op.accumulator(reach) == FixedPoint.covering(int(ends[0].min()), int(ends[1].max()), 2)


@pytest.mark.parametrize("fmt", [FixedPoint(62, 0), FixedPoint(62, 0, False)])
def test_at_the_64_bit_limit(fmt):
    """Sums of 63 bits, and the bit of the weight."""
    op = pool(Window((Sliding(2, 2),)), fmt=fmt, width=64)
    for code in (fmt.min_code, fmt.max_code):
        assert op.eval(np.full((1, 2, 2), code)).tolist() == [[[2 * code]] * 2]
    assert op.sum_format == FixedPoint.covering(2 * fmt.min_code, 2 * fmt.max_code, 0)


def test_the_type_of_the_sum_holds_every_window_and_no_more():
    """Padding is not summed: the fullest window decides."""
    assert pool(Window((Sliding(1, 3, before=1, after=1),))).sum_format == X
    assert pool(Window((Sliding(3, 3, before=1, after=1),))).sum_format == FixedPoint.covering(-24, 21, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pool(Window((Sliding(3, 2),)), Const([1, 1, 1], FixedPoint(1, 0, False))),
         "y: 2 positions have weights of shape (3,)"),
        (lambda: pool(Window((Sliding(3, 2),)), Const([1, 0], FixedPoint(1, 0, False))), "y: weights must be positive"),
        (lambda: pool(Window((Sliding(2, 1, before=1),))), "y: a window reads nothing but padding; use less of it"),
        (
            lambda: SumPool(Tensor("y", (1, 2), X), Tensor("x", (1, 3), X), Window((Sliding(3, 2),)),
                            Const([1], FixedPoint(1, 1, False))),
            "y: the exact sum has 3 fraction bits, got y: fixed<4,2>[1, 2]",
        ),
        (
            lambda: pool(Window((Sliding(2, 2),)), fmt=FixedPoint(63, 0)),
            "y: a weighted sum needs 65 bits, the limit is 64; narrow what enters",
        ),
        (
            lambda: pool(Window((Sliding(2, 2),)), fmt=FixedPoint(64, 0)),
            "y: sums of 2 elements need 65 bits, the limit is 64; narrow what enters",
        ),
    ],
)  # fmt: skip
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
