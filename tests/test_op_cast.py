from __future__ import annotations

import numpy as np
import pytest
import reference
from reference import MODES

from compress.fixed import FixedPoint, Overflow, Rounding
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import Cast, Modes

FORMATS = [FixedPoint(5, 2), FixedPoint(4, 3, False), FixedPoint(6, -1), FixedPoint(1, 0), FixedPoint(3, 0, False)]


def cast(source, target, rounding, overflow, shape=(1,)):
    return Cast(Tensor("y", shape, target), Tensor("x", shape, source), Modes(rounding, overflow))


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_every_code_between_all_formats(rounding, overflow):
    for source in FORMATS:
        codes = reference.every_code(source)
        for target in FORMATS:
            expected = reference.casts(reference.values(codes, source), target, rounding, overflow)
            assert (cast(source, target, rounding, overflow).eval(codes[:, None])[:, 0] == expected).all()


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_bounds_hold_everything_and_are_tight_where_nothing_overflows(rounding, overflow):
    source, target = FixedPoint(6, 2), FixedPoint(4, 1)
    op = cast(source, target, rounding, overflow)
    for low in range(-32, 32, 3):
        for high in range(low, 32, 4):
            made = op.eval(np.arange(low, high + 1)[:, None])
            bounds = op.bounds(Bounds.everywhere((1,), low, high))
            assert bounds.range[0] <= made.min() and made.max() <= bounds.range[1]
            ends = reference.values(np.array([low, high]), source)
            inside = reference.casts(ends, FixedPoint(20, 1), rounding, overflow)
            fits = target.min_code <= inside[0] and inside[1] <= target.max_code
            if fits or overflow in (Overflow.SAT, Overflow.SAT_SYM):
                assert bounds.range == (made.min(), made.max())


def test_bounds_are_element_by_element():
    """One element that wraps does not spoil its neighbour."""
    op = cast(FixedPoint(8, 0), FixedPoint(4, 0), Rounding.TRN, Overflow.WRAP, (2,))
    bounds = op.bounds(Bounds(np.array([1, 0]), np.array([3, 100])))
    assert bounds.low.tolist() == [1, -8] and bounds.high.tolist() == [3, 7]


@pytest.mark.parametrize("overflow", [Overflow.WRAP, Overflow.SAT_ZERO])
@pytest.mark.parametrize("target", [FixedPoint(64, 20), FixedPoint(64, 20, False)], ids=str)
def test_bounds_at_the_64_bit_limit(target, overflow):
    """The rounded numbers lie outside int64, so a bound that saturates them first would call this lossless."""
    op = cast(FixedPoint(60, 0), target, Rounding.TRN, overflow)
    reach = Bounds.everywhere((1,), 0, 2**50 + 1)
    bounds = op.bounds(reach)
    for code in (0, 1, 2**43, 2**44 + 1, 2**45 - 1, 2**50 + 1):
        y = op.eval(np.array([[code]]))
        assert (y >= bounds.low).all() and (y <= bounds.high).all()
    assert bounds.range == (target.min_code, target.max_code)


def test_several_axes_and_no_samples():
    op = cast(FixedPoint(5, 2), FixedPoint(4, 0), Rounding.RND, Overflow.SAT, (2, 3))
    assert op.eval(np.zeros((0, 2, 3), dtype=np.int64)).shape == (0, 2, 3)


def test_shapes_must_agree():
    with pytest.raises(GraphError) as error:
        Cast(Tensor("y", (3,), FORMATS[0]), Tensor("x", (2,), FORMATS[0]), Modes())
    assert str(error.value) == "y: acts element by element, but x is (2,) and the output (3,)"
