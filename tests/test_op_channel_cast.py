from __future__ import annotations

import numpy as np
import pytest
import reference
from reference import MODES

from compress.fixed import FixedPoint, FixedPointError, Overflow, Rounding
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import ChannelCast, Input, Modes
from export.ops.casts import channels_by_format, covering

X = FixedPoint(6, 2)
FORMATS = (FixedPoint(3, 1), None, FixedPoint(4, 4, False), FixedPoint(3, 1), FixedPoint(2, -2), FixedPoint(1, 0))


def channel_cast(modes, formats=FORMATS, shape=None, y=None):
    shape = shape or (len(formats),)
    return ChannelCast(Tensor("y", shape, y or covering(formats)), Tensor("x", shape, X), formats, modes)


def test_the_common_format_holds_every_value_of_each_and_is_the_narrowest():
    assert covering(FORMATS) == FixedPoint(8, 4)  # -8 to 7.9375 in steps of 1/16
    for fmt in filter(None, FORMATS):
        assert covering(FORMATS).holds(fmt)
    assert covering((None, None)) == FixedPoint(1, 0, False)
    assert covering((FixedPoint(3, -2, False), None)) == FixedPoint(3, -2, False)
    with pytest.raises(FixedPointError, match="65"):
        covering((FixedPoint(1, 60), FixedPoint(4, -1)))


def test_channels_are_listed_by_format():
    assert channels_by_format(FORMATS) == {
        FORMATS[0]: [0, 3], None: [1], FORMATS[2]: [2], FORMATS[4]: [4], FORMATS[5]: [5]
    }  # fmt: skip


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_every_code_in_every_channel(rounding, overflow):
    op = channel_cast(Modes(rounding, overflow))
    codes = reference.every_code(X)
    y = op.eval(np.stack([codes] * len(FORMATS), axis=1))
    for channel, fmt in enumerate(FORMATS):
        got = reference.values(y[:, channel], op.output.format)
        if fmt is None:
            assert (got == 0).all()
        else:
            made = reference.casts(reference.values(codes, X), fmt, rounding, overflow)
            assert (got == reference.values(made, fmt)).all()


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_bounds_hold_and_are_tight_where_nothing_wraps(rounding, overflow):
    op = channel_cast(Modes(rounding, overflow))
    for low in range(-32, 32, 7):
        for high in range(low, 32, 5):
            made = op.eval(np.stack([np.arange(low, high + 1)] * len(FORMATS), axis=1))
            bounds = op.bounds(Bounds.everywhere((len(FORMATS),), low, high))
            assert (bounds.low <= made.min(axis=0)).all() and (made.max(axis=0) <= bounds.high).all()
            if overflow in (Overflow.SAT, Overflow.SAT_SYM):
                assert (bounds.low == made.min(axis=0)).all() and (made.max(axis=0) == bounds.high).all()


def test_channels_are_the_first_axis():
    modes = Modes(Rounding.RND_CONV, Overflow.SAT)
    x = np.random.default_rng(0).integers(-32, 32, size=(20, 6, 2, 2))
    y = channel_cast(modes, shape=(6, 2, 2)).eval(x)
    for i, j in np.ndindex(2, 2):
        assert (y[:, :, i, j] == channel_cast(modes).eval(x[:, :, i, j])).all()


def test_beyond_62_bits():
    formats = FixedPoint(60, 58), FixedPoint(3, -1)
    op = channel_cast(Modes(Rounding.RND, Overflow.SAT), formats, y=FixedPoint(64, 58))
    assert op.eval(np.array([[31, 31]])).tolist() == [[(1 << 59) - 1, 6 << 58]]


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_an_input_rounds_each_real_number_once(rounding, overflow):
    entry = Input(Tensor("x", (6,), covering(FORMATS)), Modes(rounding, overflow), FORMATS)
    reals = np.linspace(-11, 11, 353)  # ties of every channel among them
    codes = entry.encode(np.stack([reals] * 6, axis=1))
    exact = np.array([reference.Fraction(float(r)) for r in reals], dtype=object)
    for channel, fmt in enumerate(FORMATS):
        expected = [0] * len(reals) if fmt is None else reference.values(
            reference.casts(exact, fmt, rounding, overflow), fmt).tolist()  # fmt: skip
        assert reference.values(codes[:, channel], entry.output.format).tolist() == expected
    bounds = entry.bounds()
    assert (bounds.low == codes.min(axis=0)).all() and (bounds.high == codes.max(axis=0)).all()
    assert (entry.eval(codes) == codes).all()


def test_twice_rounded_would_be_another_number():
    """Why an input has formats: the finer grid of a neighbour must not round first."""
    formats = FixedPoint(6, 0), FixedPoint(8, 2)
    modes = Modes(Rounding.RND_CONV, Overflow.SAT)
    entry = Input(Tensor("x", (2,), covering(formats)), modes, formats)
    assert entry.encode([[0.6, 0.6]]).tolist() == [[4, 2]]
    once = Input(Tensor("x", (2,), covering(formats)), modes)
    twice = ChannelCast(Tensor("y", (2,), covering(formats)), once.output, formats, modes)
    assert twice.eval(once.encode([[0.6, 0.6]])).tolist() == [[0, 2]]


def test_codes_that_cannot_enter_are_refused_and_can_be_settled():
    entry = Input(Tensor("x", (6,), covering(FORMATS)), Modes(Rounding.TRN, Overflow.SAT), FORMATS)
    settled = entry.settled(np.array([[5, 5, 99, -128, 127, -3]]))
    assert settled.tolist() == [[0, 0, 15, -32, 64, -16]]
    assert (entry.eval(settled) == settled).all()
    with pytest.raises(GraphError) as error:
        entry.eval(np.array([[0, 0, 0, 5, 0, 0]]))
    assert str(error.value) == "x: channel 3 is fixed<3,2>, which lacks codes; encode() the values"


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_channel_without_bits_takes_numbers_only(number):
    entry = Input(Tensor("x", (2,), FixedPoint(2, 0)), formats=(FixedPoint(2, 0), None))
    with pytest.raises(FixedPointError, match="1 of 1 values are NaN or infinite"):
        entry.encode([[0.0, number]])
    assert entry.encode([[0.0, 1e300]]).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: channel_cast(Modes(), shape=(5,)), "y: formats has shape (6,) for 5 channels; give one per channel"),
        (
            lambda: channel_cast(Modes(), y=FixedPoint(6, 4)),
            "y: channel 4 is fixed<2,4>, which fixed<6,2> does not hold; use fixed<8,4>",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
