"""The multiplier search against brute force: exact where it claims, smallest where it claims, silent nowhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.fixed import Rounding, round_ratio
from export.staircase import Multiplier, roundest, smallest_multiplier, staircase

ratios = st.tuples(
    st.integers(-300, 300), st.integers(-2000, 2000), st.integers(1, 400), st.sampled_from(list(Rounding))
)
reaches = st.tuples(st.integers(-60, 60), st.integers(0, 80)).map(lambda r: (r[0], r[0] + r[1]))
clips = st.one_of(st.none(), st.tuples(st.integers(-9, 3), st.integers(0, 12)).map(lambda c: (c[0], c[0] + c[1])))


def truth(p, q, d, rounding, reach, clip):
    codes = np.arange(reach[0], reach[1] + 1, dtype=object)
    values = round_ratio(codes * p + q, d, rounding)
    return codes, values if clip is None else np.clip(values, *clip)


@given(ratios, reaches, clips)
@settings(max_examples=600, deadline=None, derandomize=True)
def test_thresholds_are_where_the_function_steps(ratio, reach, clip):
    codes, values = truth(*ratio, reach, clip)
    stairs = staircase(*ratio, reach, clip)
    seen = -codes if stairs.falling else codes
    counted = stairs.first + np.array([sum(c >= t for t in stairs.thresholds) for c in seen])
    assert (counted == values).all()


@given(ratios, reaches, clips)
@settings(max_examples=600, deadline=None, derandomize=True)
def test_a_found_multiplier_equals_the_rational_map_everywhere(ratio, reach, clip):
    codes, values = truth(*ratio, reach, clip)
    found = smallest_multiplier(staircase(*ratio, reach, clip), 24)
    if found is not None:
        result = (codes * found.factor + found.offset) >> found.shift
        assert ((result if clip is None else np.clip(result, *clip)) == values).all()


@given(ratios, st.integers(-8, 8).flatmap(lambda a: st.integers(a, a + 9).map(lambda b: (a, b))), clips)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_no_smaller_shift_would_do(ratio, reach, clip):
    """Every (M, C) of a smaller shift is tried; none may be exact."""
    codes, values = truth(*ratio, reach, clip)
    stairs = staircase(*ratio, reach, clip)
    found = smallest_multiplier(stairs, 3)
    limit = 4 if found is None else found.shift
    span = int(values.max() - values.min())
    for shift in range(min(limit, 3)):
        unit = 1 << shift
        for factor in range(-(span + 2) * unit, (span + 2) * unit + 1):
            scaled = codes * factor
            # An offset that is exact at the first code is one of `unit`, or of some more where the result is clipped.
            first = int(values[0]) * unit - int(scaled[0])
            for offset in range(first - 12 * unit, first + 13 * unit):
                result = (scaled + offset) >> shift
                exact = (result if clip is None else np.clip(result, *clip)) == values
                assert not exact.all(), (shift, factor, offset)


def test_half_to_even_with_every_tie_reached_has_no_multiplier():
    """round(code / 2), ties to even, steps at 2, 3, 6, 7, ...: no line passes through those points alone."""
    assert smallest_multiplier(staircase(1, 0, 2, Rounding.RND_CONV, (0, 40), None), 30) is None


@pytest.mark.parametrize(
    ("low", "high", "best"), [(3, 5, 4), (-5, -3, -4), (-1, 9, 0), (17, 31, 24), (7, 7, 7), (33, 63, 48)]
)
def test_roundest(low, high, best):
    assert roundest(low, high) == best


def test_a_larger_shift_is_the_same_function():
    small = Multiplier(5, -3, 2)
    large = small.at_shift(6)
    codes = np.arange(-100, 100)
    assert ((codes * 5 - 3 >> 2) == (codes * large.factor + large.offset >> large.shift)).all()


@pytest.mark.parametrize("rounding", Rounding)
def test_wide_staircases_against_fractions(rounding):
    """Coefficients beyond int64, 60,000 steps: the fast thresholds are the exact ones, and the multiplier is too."""
    rng = np.random.default_rng(0)
    for _ in range(4):
        p, q = int(rng.integers(1, 2**53)) << 10, int(rng.integers(-(2**53), 2**53)) << 20
        d = (p << 2) + int(rng.integers(0, 2**40)) if rng.random() < 0.7 else p * 3
        stairs = staircase(p, q, d, rounding, (-(2**17), 2**17), (-30000, 30000))
        picked = rng.choice(len(stairs.thresholds), 300)
        for t, j in zip(stairs.thresholds[picked].tolist(), stairs.steps()[picked].tolist(), strict=True):
            at, before = round_ratio(np.array([p * t + q, p * (t - 1) + q], dtype=object), d, rounding)
            assert before < j <= at
        found = smallest_multiplier(stairs, 64)
        if found is not None:
            codes, values = truth(p, q, d, rounding, (-(2**17), 2**17), (-30000, 30000))
            assert (np.clip((codes * found.factor + found.offset) >> found.shift, -30000, 30000) == values).all()
