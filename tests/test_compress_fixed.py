"""The number format against one-number-at-a-time fractions: every mode, every size, up to the 64-bit limits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import reference
from reference import MODES

from compress.fixed import (
    FixedPoint,
    FixedPointError,
    Overflow,
    Rounding,
    as_codes,
    cast,
    code_width,
    encode,
    rescaled,
    round_ratio,
)

TARGETS = [
    FixedPoint(1, 0),
    FixedPoint(1, 0, False),
    FixedPoint(3, 1),
    FixedPoint(4, 2, False),
    FixedPoint(5, -2),
    FixedPoint(2, 7),
]
LARGE = [FixedPoint(64, 3), FixedPoint(64, 0, False), FixedPoint(63, 5, False), FixedPoint(62, 60), FixedPoint(7, 2)]


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_cast_of_every_small_code_from_every_binary_point(target, rounding, overflow):
    codes = np.arange(-70, 71)
    for frac in range(-1, 6):
        expected = [reference.cast(Fraction(int(c)) / Fraction(2) ** frac, target, rounding, overflow) for c in codes]
        assert cast(codes, frac, target, rounding, overflow).tolist() == expected


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_cast_is_exact_for_integers_of_any_size(rounding, overflow):
    rng = np.random.default_rng(1)
    ends = [0, 1, -1, 2**31, 2**53 + 1, 2**62 - 1, 2**62, 2**63 - 1, -(2**63), -(2**62) - 1]
    huge = [2**63, 2**64 - 1, -(2**63) - 1, 3 * 2**80 + 1, -(2**90)]
    drawn = [int(c) >> int(rng.integers(0, 63)) for c in rng.integers(-(2**63), 2**63 - 1, 12)]
    for target in LARGE:
        for frac in (-70, -5, 0, 2, 4, 33, 64, 66, 130):
            for codes in (ends + drawn, ends + drawn + huge):  # int64 codes, and Python integers
                expected = [
                    reference.cast(Fraction(c) / Fraction(2) ** frac, target, rounding, overflow) for c in codes
                ]
                result = cast(np.array(codes, dtype=object), frac, target, rounding, overflow)
                assert result.tolist() == expected
                assert (result.dtype == np.int64) == all(-(2**63) <= e < 2**63 for e in expected)


@pytest.mark.parametrize("rounding", Rounding)
def test_a_cast_is_a_rescaling_then_a_limit(rounding):
    codes = np.arange(-40, 41)
    for to_frac in (-3, 0, 2, 9):
        expected = [reference.rounded(Fraction(int(c), 4) * Fraction(2) ** to_frac, rounding) for c in codes]
        assert rescaled(codes, 2, to_frac, rounding).tolist() == expected


def test_shapes_survive():
    for shape in ((), (0, 3), (2, 3, 4)):
        assert cast(np.zeros(shape, dtype=np.int64), 3, FixedPoint(4, 1), Rounding.RND, Overflow.WRAP).shape == shape
    assert cast(np.array(2**70, dtype=object), 3, FixedPoint(64, 1, False), Rounding.RND, Overflow.SAT) == 2**64 - 1
    assert cast(5, 1, FixedPoint(4, 0), Rounding.RND_CONV, Overflow.SAT) == 2


@pytest.mark.parametrize("rounding", Rounding)
def test_round_ratio(rounding):
    numerators = np.arange(-50, 51)
    for denominator in (1, 2, 3, 4, 7, 10):
        expected = [reference.rounded(Fraction(int(n), denominator), rounding) for n in numerators]
        assert round_ratio(numerators, denominator, rounding).tolist() == expected
    wide = np.array([2**62 + 3, -(2**63)])  # int64 would wrap in 2 * rest
    expected = [reference.rounded(Fraction(int(n), 2**62 + 1), rounding) for n in wide]
    assert round_ratio(wide, 2**62 + 1, rounding).tolist() == expected


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_encode_rounds_the_very_number_it_is_given(rounding, overflow):
    halves = np.arange(-12, 13) / 4
    close = np.concatenate([np.nextafter(halves, -np.inf), halves, np.nextafter(halves, np.inf)])
    wide = np.array([1e-300, -1e-300, 1e300, -1e300, 2.0**53 + 2, -(2.0**62), 2.0**63, 5e-324, 123456.789, 0.0])
    reals = np.concatenate([close, wide])
    for target in (FixedPoint(3, 0), FixedPoint(5, 1, False), FixedPoint(64, 20), FixedPoint(64, 0, False)):
        expected = [reference.cast(Fraction(float(r)), target, rounding, overflow) for r in reals]
        assert encode(reals, target, rounding, overflow).tolist() == expected


def test_encode_takes_integers_as_they_are():
    big = 2**53 + 1  # no float64
    assert encode(np.array([big, -big]), FixedPoint(60, 2)).tolist() == [4 * big, -4 * big]
    assert encode([True, False], FixedPoint(3, 1)).tolist() == [2, 0]
    assert encode(np.float32([0.1]), FixedPoint(40, 36)).tolist() == [reference.rounded(
        Fraction(float(np.float32(0.1))) * 2**36, Rounding.RND_CONV)]  # fmt: skip


def test_values_are_the_inverse_of_encode():
    fmt = FixedPoint(7, 3)
    codes = reference.every_code(fmt)
    assert (encode(fmt.values(codes), fmt) == codes).all()
    assert fmt.values([1]).tolist() == [0.125]


def test_a_format_knows_its_range():
    fmt = FixedPoint(6, 2)
    assert (fmt.min_code, fmt.max_code, fmt.integer, fmt.lsb, str(fmt)) == (-32, 31, 4, Fraction(1, 4), "fixed<6,4>")
    fmt = FixedPoint.of(5, 7, signed=False)
    assert (fmt.min_code, fmt.max_code, fmt.frac, fmt.lsb, str(fmt)) == (0, 31, -2, 4, "ufixed<5,7>")
    assert (FixedPoint(64, 0).min_code, FixedPoint(64, 0, False).max_code) == (-(2**63), 2**64 - 1)


def test_numpy_integers_become_ints():
    """2**63 wraps in int64, and np.int64(8) reads differently in a digest."""
    fmt = FixedPoint(np.int64(64), np.int32(3), np.bool_(False))
    assert fmt.max_code == 2**64 - 1
    assert repr(fmt) == repr(FixedPoint(64, 3, False))
    with pytest.raises(TypeError):
        FixedPoint(8.0, 2)  # type: ignore[arg-type]


RANGES = [(0, 0), (0, 1), (-1, 0), (-1, 1), (-2, 1), (-8, 7), (-9, 7), (0, 255), (0, 256), (5, 9), (-7, -3)]


@pytest.mark.parametrize(("low", "high"), [*RANGES, (-(2**63), 2**63 - 1), (0, 2**64 - 1)])
def test_covering_is_the_narrowest(low, high):
    fmt = FixedPoint.covering(low, high, 3)
    assert fmt.min_code <= low and high <= fmt.max_code and fmt.signed == (low < 0)
    assert fmt.width == code_width(low, high)
    if fmt.width > 1:
        narrower = FixedPoint(fmt.width - 1, 3, fmt.signed)
        assert low < narrower.min_code or high > narrower.max_code


def test_holds_is_what_a_lossless_cast_is():
    formats = [FixedPoint(w, f, s) for w in (1, 2, 4) for f in (-1, 0, 2) for s in (True, False)]
    for a in formats:
        for b in formats:
            of_a, of_b = ({reference.value(c, fmt) for c in reference.every_code(fmt)} for fmt in (a, b))
            assert a.holds(b) == (of_b <= of_a)


def test_as_codes_is_int64_wherever_that_fits():
    assert as_codes([1, -2]).dtype == np.int64
    assert as_codes(np.array([2**63 - 1], dtype=np.uint64)).dtype == np.int64
    assert as_codes(np.array([2**63], dtype=np.uint64)).tolist() == [2**63]
    assert as_codes(np.array([1, 2], dtype=object)).dtype == np.int64
    assert as_codes(np.array([-(2**63) - 1], dtype=object)).dtype == object


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedPoint(0, 0), "a fixed-point width must lie between 1 and 64 bits, got 0"),
        (lambda: FixedPoint(65, 0), "a fixed-point width must lie between 1 and 64 bits, got 65"),
        (lambda: FixedPoint.covering(0, 2**64, 0), "a fixed-point width must lie between 1 and 64 bits, got 65"),
        (lambda: FixedPoint.covering(1, 0, 0), "an empty range of codes: [1, 0]"),
        (lambda: FixedPoint(56, 2).values([1]),
         "float64 cannot hold every value of fixed<56,54>; work on the codes instead"),
        (lambda: FixedPoint(8, -1100).values([1]),
         "float64 cannot hold every value of fixed<8,1108>; work on the codes instead"),
        (lambda: FixedPoint(8, 1075).values([1]),
         "float64 cannot hold every value of fixed<8,-1067>; work on the codes instead"),
        (lambda: as_codes([1.5]), "codes must be integers, got an array of float64"),
        (lambda: as_codes(np.array([Fraction(3, 2)], dtype=object)),
         "codes must be integers: 'Fraction' object cannot be interpreted as an integer"),
        (lambda: encode([1.0, np.nan, np.inf], FixedPoint(8, 0)),
         "2 of 3 values are NaN or infinite; only finite numbers have a code"),
        (lambda: encode([1e300], FixedPoint(8, 200)), "float64 cannot scale these values by 2**200 exactly"),
        (lambda: encode([1e-300], FixedPoint(8, -200)), "float64 cannot scale these values by 2**-200 exactly"),
    ],
)  # fmt: skip
def test_what_cannot_be_says_so(make, message):
    with pytest.raises(FixedPointError) as error:
        make()
    assert str(error.value) == message
