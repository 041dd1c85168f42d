"""Functions before a quantizer as functions of integers: the right code on every integer, for every rounding."""

from __future__ import annotations

from decimal import Decimal, getcontext
from fractions import Fraction
from functools import cache
from types import SimpleNamespace

import exact
import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F

from compress.fixed import FixedPoint, Overflow, Rounding
from compress.layers import Kind
from export.frontends.curves import Curve
from export.frontends.functions import Clamp, gelu, leaky_relu
from export.frontends.stairs import Quantized, Stairs, compared, stairs, tabulated
from export.ir import Tensor
from export.modes import Modes
from export.ops import Table

X = FixedPoint(8, 3)
LINES = [(Fraction(1, 8), Fraction(0)), (Fraction(-3, 40), Fraction(1, 7)), (Fraction(0), Fraction(2, 3)),
         (Fraction(0), Fraction(-5)), (Fraction(7, 3), Fraction(-9))]  # fmt: skip
FORMATS = [FixedPoint(4, 3), FixedPoint(3, 0), FixedPoint(5, 5, False), FixedPoint(2, 0)]
FUNCTIONS = {
    Curve.TANH: (Kind.TANH, None),
    Curve.SIGMOID: (Kind.SIGMOID, None),
    Curve.SILU: (Kind.SILU, None),
    Curve.GELU: (Kind.GELU, SimpleNamespace(approximate="none")),
    Curve.GELU_TANH: (Kind.GELU, SimpleNamespace(approximate="tanh")),
}


@cache
def real(curve: Curve, x: Fraction) -> Fraction:
    """To about 50 digits, by other series than the curve's own."""
    which, layer = FUNCTIONS[curve]
    return exact.real(which, x, layer)


@cache
def in_float64(curve: Curve, x: Fraction) -> Fraction:
    """The same, but what float64 has far from zero."""
    which, layer = FUNCTIONS[curve]
    return exact.function(which, x, layer)


@pytest.mark.parametrize("curve", Curve)
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_a_curve_on_every_code(curve: Curve, rounding: Rounding, fmt: FixedPoint) -> None:
    codes = reference.every_code(X)
    for overflow, unit in ((Overflow.SAT, Fraction(1)), (Overflow.SAT_SYM, Fraction(11, 13))):
        function = Quantized(curve, fmt, Modes(rounding, overflow), unit)
        made = [stairs(function, *line, X.min_code, X.max_code) for line in LINES]
        shape = (len(LINES),)
        for make in (compared, tabulated):
            op = make(Tensor("y", shape, fmt), Tensor("x", shape, X), made)
            y = op.eval(np.stack([codes] * len(LINES), axis=1))
            for channel, (slope, offset) in enumerate(LINES):
                numbers = [in_float64(curve, slope * int(c) + offset) / unit for c in codes]
                expected = [reference.cast(v, fmt, rounding, overflow) for v in numbers]
                assert y[:, channel].tolist() == expected, channel


@pytest.mark.parametrize("curve", Curve)
def test_a_curve_lies_strictly_between_two_fractions(curve: Curve) -> None:
    numbers = [Fraction(n, 7) for n in range(-60, 61)] + [Fraction(s * n) for n in (13, 14, 16, 90) for s in (-1, 1)]
    for digits in (5, 20, 45):
        for x in numbers:
            low, high = curve.between(x, digits)
            assert high - low <= 2 * Fraction(1, 10**digits)
            value = real(curve, x)
            if x == 0:
                assert low == high == value == (0 if curve.negative else Fraction(1, 2))
            elif abs(x) < 12:
                assert low < value < high
            else:  # as exactly as the tests' own numbers are
                assert low - Fraction(1, 10**48) < value < high + Fraction(1, 10**48)


@pytest.mark.parametrize("curve", Curve)
def test_far_away_a_curve_keeps_to_the_right_side_of_its_line(curve: Curve) -> None:
    """The side decides how a number is rounded that no float tells from the line."""
    for x in (Fraction(-(10**9)), Fraction(10**9), Fraction(-800), Fraction(800)):
        low, high = curve.between(x, 30)
        line = {Curve.TANH: int(x > 0) * 2 - 1, Curve.SIGMOID: int(x > 0)}.get(curve, max(x, 0))
        below = (curve in (Curve.TANH, Curve.SIGMOID) and x > 0) or curve not in (Curve.TANH, Curve.SIGMOID)
        assert high == line if below else low == line


def _torch(curve: Curve, x: torch.Tensor) -> torch.Tensor:
    which, layer = FUNCTIONS[curve]
    calls = {Kind.TANH: torch.tanh, Kind.SIGMOID: torch.sigmoid, Kind.SILU: F.silu}
    return calls[which](x) if which in calls else F.gelu(x, approximate=layer.approximate)


def _tells_the_place(curve: Curve, x: float | Fraction) -> bool:
    """Whether torch's result depends on where in the tensor the number stands, vectors being rounded otherwise."""
    return curve is Curve.GELU_TANH and -7.21 < x < -7.14


@pytest.mark.parametrize("curve", Curve)
def test_far_away_a_curve_is_its_line_where_torch_has_that(curve: Curve) -> None:
    """At the multiples of 1/64 around where that begins."""
    for sign, ends in ((-1, ((5, 20), (700, 720))), (1, ((5, 40),))):
        numbers = sign * torch.cat([torch.arange(low, high, 1 / 64, dtype=torch.float64) for low, high in ends])
        numbers = torch.tensor([x for x in numbers.tolist() if not _tells_the_place(curve, x)], dtype=torch.float64)
        line = numbers.clamp(min=0) if curve in (Curve.SILU, Curve.GELU, Curve.GELU_TANH) else numbers.sign()
        line = line.clamp(min=0) if curve is Curve.SIGMOID else line
        settled = [curve.settled(Fraction(number)) for number in numbers.tolist()]
        assert [value is not None for value in settled] == (_torch(curve, numbers) == line).tolist()
        assert all(value in (None, expected) for value, expected in zip(settled, line.tolist(), strict=True))
        assert settled[0] is None and settled[-1] is not None


@pytest.mark.parametrize("curve", Curve)
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("frac", [-4, -1, 1])
def test_every_tie_far_away_is_rounded_as_torch_has_it(curve: Curve, rounding: Rounding, frac: int) -> None:
    """Numbers at half and quarter steps of the quantizer, where a large number is a tie by itself."""
    function = Quantized(curve, FixedPoint(24, frac), Modes(rounding, Overflow.SAT))
    numbers = [Fraction(n, 4) / Fraction(2) ** frac for n in range(-320, 321)]
    values = _torch(curve, torch.tensor([float(n) for n in numbers], dtype=torch.float64)).tolist()
    settled = [curve.settled(n) is not None for n in numbers]
    assert sum(settled) > 20
    for number, value in zip(numbers, values, strict=True):
        if not _tells_the_place(curve, number):
            assert function.code(number) == reference.cast(Fraction(value), function.target, rounding, Overflow.SAT)


def _derivative_signs(x: Fraction) -> dict[Curve, bool]:
    """Whether each turning curve rises at ``x``, from its derivative in 60 digits."""
    getcontext().prec = 70
    n = Decimal(x.numerator) / Decimal(x.denominator)
    density = (-n * n / 2).exp() / (2 * exact._PI).sqrt()
    normal = Decimal(exact._normal(x).numerator) / Decimal(exact._normal(x).denominator)
    root, cubic = (8 / exact._PI).sqrt(), Decimal("0.044715")
    return {
        Curve.SILU: 1 + n + n.exp() > 0,
        Curve.GELU: normal + n * density > 0,
        Curve.GELU_TANH: 1 + (root * (n + cubic * n**3)).exp() + root * (n + 3 * cubic * n**3) > 0,
    }


@pytest.mark.parametrize("curve", [c for c in Curve if c.turn is not None])
def test_a_curve_turns_where_it_says(curve: Curve) -> None:
    before, behind = curve.turn
    assert 0 < behind - before <= Fraction(1, 10**30)
    assert not _derivative_signs(before)[curve] and _derivative_signs(behind)[curve]


def test_a_code_between_the_two_ends_of_a_turn_is_computed_by_itself() -> None:
    before, behind = Curve.SILU.turn
    function = Quantized(Curve.SILU, FixedPoint(8, 6), Modes(Rounding.RND_CONV, Overflow.SAT))
    made = stairs(function, Fraction(1, 4), (before + behind) / 2, -20, 20)
    assert made.listed(-20, 20) == [function.code(Fraction(n, 4) + (before + behind) / 2) for n in range(-20, 21)]


@pytest.mark.parametrize("curve", Curve)
def test_wide_sums_have_as_many_comparisons_as_results(curve: Curve) -> None:
    function = Quantized(curve, FixedPoint(6, 4), Modes(Rounding.RND_CONV, Overflow.SAT))
    low, high, line = -(1 << 35), 1 << 35, (Fraction(1, 1 << 31), Fraction(1, 3))
    made = stairs(function, *line, low, high)
    assert len(made.levels) < 80
    for level, result, before in zip(made.levels, made.results, (made.first, *made.results), strict=False):
        assert function.code(line[0] * level + line[1]) == result != before
        assert function.code(line[0] * (level - 1) + line[1]) == before


def test_steps_that_nothing_reaches_are_no_comparisons() -> None:
    function = Quantized(Curve.TANH, FixedPoint(6, 5), Modes(Rounding.RND_CONV, Overflow.SAT))
    counts = [
        len(stairs(function, *LINES[0], low, high).levels) for low, high in ((-128, 127), (0, 127), (0, 4), (0, 0))
    ]
    assert counts == sorted(counts, reverse=True) and counts[0] > 2 * counts[2] and counts[-1] == 0


def test_channels_that_agree_share_a_table() -> None:
    one, other = Stairs(-2, 1, 3, (0,), (5,)), Stairs(-1, 1, 3, (0,), (5,))
    x, y = Tensor("x", (2,), FixedPoint(2, 0)), Tensor("y", (2,), FixedPoint(4, 0))
    assert tabulated(y, x, [one, other]).entries.codes.tolist() == [[3, 3, 5, 5]]
    different = tabulated(y, x, [one, Stairs(-2, 1, 4, (), ())])
    assert isinstance(different, Table) and different.entries.codes.tolist() == [[3, 3, 5, 5], [4, 4, 4, 4]]


def test_two_clips_are_one() -> None:
    limits = [None, Fraction(-2), Fraction(0), Fraction(1), Fraction(5)]
    clips = [Clamp(a, b) for a in limits for b in limits if a is None or b is None or a <= b]
    for first in clips:
        for second in clips:
            both = second.after(first)
            for number in map(Fraction, range(-4, 8)):
                assert both.of(number) == second.of(first.of(number))


def test_a_slope_is_the_decimal_number_that_it_prints_as() -> None:
    assert leaky_relu(0.01).function.slopes == (Fraction(1, 100),)
    assert leaky_relu(0.125).function.slopes == (Fraction(1, 8),)


def test_gelu_is_what_torch_calls_it() -> None:
    assert gelu("none").function is Curve.GELU and gelu("tanh").function is Curve.GELU_TANH
