from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import reference
from reference import MODES

from compress.fixed import FixedPoint, Overflow, Rounding
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import Modes, Requantize
from export.ops.casts import covering

X, Y = FixedPoint(6, 2), FixedPoint(4, 1)
SCALE = (Fraction(1, 3), Fraction(-7, 5), Fraction(0), Fraction(1, 2))
OFFSET = (Fraction(1, 4), Fraction(-2, 7), Fraction(5, 2), Fraction(0))


def requantize(modes, scale=SCALE, offset=OFFSET, x=X, y=Y):
    shape = (len(scale),)
    return Requantize(Tensor("y", shape, y), Tensor("x", shape, x), scale, offset, modes)


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_the_cast_of_the_exact_rational(rounding, overflow):
    codes = reference.every_code(X)
    y = requantize(Modes(rounding, overflow)).eval(np.stack([codes] * 4, axis=1))
    exact = reference.values(codes, X)[:, None] * np.array(SCALE, dtype=object) + np.array(OFFSET, dtype=object)
    assert (y == reference.casts(exact, Y, rounding, overflow)).all()
    assert y.dtype == np.int64


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_bounds_hold_and_are_tight_where_nothing_wraps(rounding, overflow):
    op = requantize(Modes(rounding, overflow))
    for low in range(-32, 32, 7):
        for high in range(low, 32, 5):
            made = op.eval(np.stack([np.arange(low, high + 1)] * 4, axis=1))
            bounds = op.bounds(Bounds.everywhere((4,), low, high))
            assert (bounds.low <= made.min(axis=0)).all() and (made.max(axis=0) <= bounds.high).all()
            if overflow in (Overflow.SAT, Overflow.SAT_SYM):
                assert (bounds.low == made.min(axis=0)).all() and (made.max(axis=0) == bounds.high).all()


FORMATS = (FixedPoint(3, 1), FixedPoint(4, 0), None, FixedPoint(5, 3))


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_each_channel_in_a_format_of_its_own(rounding, overflow):
    """One rounding, into the channel's format: not into the finer one that covers them all."""
    output, codes = covering(FORMATS), reference.every_code(X)
    op = Requantize(Tensor("y", (4,), output), Tensor("x", (4,), X), SCALE, OFFSET, Modes(rounding, overflow), FORMATS)
    y = op.eval(np.stack([codes] * 4, axis=1))
    for channel, fmt in enumerate(FORMATS):
        exact = reference.values(codes, X) * SCALE[channel] + OFFSET[channel]
        made = None if fmt is None else reference.values(reference.casts(exact, fmt, rounding, overflow), fmt)
        assert (reference.values(y[:, channel], output) == (0 if made is None else made)).all()
    bounds = op.bounds(Bounds.everywhere((4,), -32, 31))
    assert (bounds.low <= y.min(axis=0)).all() and (y.max(axis=0) <= bounds.high).all()


def test_ratio_is_the_map_between_codes():
    op = requantize(Modes())
    for channel in range(4):
        p, q, d = op.ratio(channel)
        for code in (-32, 0, 31):
            value = reference.value(code, X) * SCALE[channel] + OFFSET[channel]
            assert Fraction(p * code + q, d) == value / Y.lsb


@pytest.mark.parametrize("overflow", Overflow)
def test_numbers_far_beyond_64_bits(overflow):
    scale, offset = (Fraction(2) ** 90, Fraction(1, 2**90)), (Fraction(-1), Fraction(10**40))
    op = requantize(Modes(Rounding.RND, overflow), scale, offset)
    x = np.array([[3, 3], [-1, -1], [0, 0]])
    exact = reference.values(x, X) * np.array(op.scale, dtype=object) + np.array(op.offset, dtype=object)
    assert (op.eval(x) == reference.casts(exact, Y, Rounding.RND, overflow)).all()
    reference.check_bounds(op, Bounds.everywhere((2,), -32, 31))


def test_codes_beyond_int64():
    wide = FixedPoint(64, 0, False)
    op = requantize(Modes(Rounding.TRN, Overflow.SAT), (Fraction(1, 2**62),), (Fraction(0),), x=wide)
    assert op.eval(np.array([[2**64 - 1], [2**63]], dtype=object)).tolist() == [[7], [4]]
    assert op.bounds(Bounds.everywhere((1,), 0, 2**64 - 1)).range == (0, 7)


@pytest.mark.parametrize(
    ("scale", "offset", "message"),
    [
        (SCALE[:2], OFFSET, "y: scale has shape (2,) for 4 channels; give one per channel"),
        (SCALE, OFFSET[:1], "y: offset has shape (1,) for 4 channels; give one per channel"),
    ],
)
def test_messages(scale, offset, message):
    with pytest.raises(GraphError) as error:
        Requantize(Tensor("y", (4,), Y), Tensor("x", (4,), X), scale, offset, Modes())
    assert str(error.value) == message
    with pytest.raises(GraphError) as error:
        Requantize(Tensor("y", (4,), Y), Tensor("x", (3,), X), SCALE, OFFSET, Modes())
    assert str(error.value) == "y: acts element by element, but x is (3,) and the output (4,)"
