"""Functions before a quantizer as comparisons of integers: the right code on every integer, for every rounding."""

from __future__ import annotations

from fractions import Fraction

import exact
import numpy as np
import pytest
import reference

from compress.fixed import FixedPoint, Overflow, Rounding
from compress.layers import Kind
from export.frontends.functions import Clamp, Crossing, Curve, crossings, exactly, leaky_relu, threshold
from export.intervals import Bounds
from export.ir import Tensor
from export.modes import Modes

X = FixedPoint(8, 3)
LINES = [(Fraction(1, 8), Fraction(0)), (Fraction(-3, 40), Fraction(1, 7)), (Fraction(0), Fraction(2, 3)),
         (Fraction(0), Fraction(-5)), (Fraction(7, 3), Fraction(-9))]  # fmt: skip
FORMATS = [FixedPoint(4, 3), FixedPoint(3, 0), FixedPoint(5, 5, False), FixedPoint(2, 0)]
FUNCTIONS = {Curve.TANH: Kind.TANH, Curve.SIGMOID: Kind.SIGMOID}


@pytest.mark.parametrize("curve", Curve)
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_a_curve_on_every_code(curve, rounding, fmt):
    for overflow, unit in ((Overflow.SAT, Fraction(1)), (Overflow.SAT_SYM, Fraction(11, 13))):
        steps = crossings(curve, fmt, Modes(rounding, overflow), unit)
        reach = Bounds.everywhere((len(LINES),), X.min_code, X.max_code)
        shape = (len(LINES),)
        op = threshold(Tensor("y", shape, fmt), Tensor("x", shape, X), LINES, steps, reach)
        codes = reference.every_code(X)
        y = op.eval(np.stack([codes] * len(LINES), axis=1))
        for channel, (slope, offset) in enumerate(LINES):
            numbers = [exact.function(FUNCTIONS[curve], slope * int(c) + offset) / unit for c in codes]
            expected = [reference.cast(v, fmt, rounding, overflow) for v in numbers]
            assert y[:, channel].tolist() == expected, channel


def test_steps_that_nothing_reaches_are_no_comparisons():
    fmt = FixedPoint(6, 5)
    steps = crossings(Curve.TANH, fmt, Modes(Rounding.RND_CONV, Overflow.SAT), Fraction(1))
    x, y = Tensor("x", (1,), X), Tensor("y", (1,), fmt)
    counts = [
        threshold(y, x, LINES[:1], steps, Bounds.everywhere((1,), low, high)).level.shape[1]
        for low, high in ((-128, 127), (0, 127), (0, 4), (0, 0))
    ]
    assert counts == sorted(counts, reverse=True) and counts[0] > 2 * counts[2] and counts[-1] == 1


def test_more_digits_are_asked_for_where_they_decide():
    asked = []

    def between(digits: int) -> tuple[Fraction, Fraction]:
        asked.append(digits)
        error = Fraction(1, 10**digits)
        return 3 + Fraction(1, 10**60) - error, 3 + Fraction(1, 10**60) + error

    assert Crossing(between).least(Fraction(1), Fraction(0)) == 4
    assert asked == [40, 80]


def test_a_number_that_is_met_may_have_to_be_exceeded():
    assert exactly(Fraction(6)).least(Fraction(2), Fraction(0)) == 3
    assert Crossing(lambda _: (Fraction(6), Fraction(6)), strict=True).least(Fraction(2), Fraction(0)) == 4
    assert exactly(Fraction(0)).reached(Fraction(0)) and not exactly(Fraction(1, 9)).reached(Fraction(0))


def test_two_clips_are_one():
    limits = [None, Fraction(-2), Fraction(0), Fraction(1), Fraction(5)]
    clips = [Clamp(a, b) for a in limits for b in limits if a is None or b is None or a <= b]
    for first in clips:
        for second in clips:
            both = second.after(first)
            for number in map(Fraction, range(-4, 8)):
                assert both.of(number) == second.of(first.of(number))


def test_a_slope_is_the_decimal_number_that_it_prints_as():
    assert leaky_relu(0.01).function.slope == Fraction(1, 100)
    assert leaky_relu(0.125).function.slope == Fraction(1, 8)
    assert leaky_relu(1.5) is None and leaky_relu(-0.1) is None
