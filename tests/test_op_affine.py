from __future__ import annotations

import numpy as np
import pytest
import reference
from reference import MODES

from compress.fixed import FixedPoint, Overflow
from export.intervals import Bounds
from export.ir import Const, GraphError, Tensor
from export.ops import Affine, Modes

X, Y = FixedPoint(5, 2), FixedPoint(6, 3)


def affine(scale, offset, modes=Modes(), shape=None, x=X, y=Y):  # noqa: B008 - a frozen value
    shape = shape or scale.shape
    return Affine(Tensor("y", shape, y), Tensor("x", shape, x), scale, offset, modes)


SCALE, OFFSET = Const([3, -5, 0], FixedPoint(4, 3)), Const([9, -3, 2], FixedPoint(6, 6))


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
@pytest.mark.parametrize("offset_frac", [6, 1])
def test_one_rounding_of_the_exact_number(rounding, overflow, offset_frac):
    offset = Const(OFFSET.codes, FixedPoint(6, offset_frac))
    op = affine(SCALE, offset, Modes(rounding, overflow))
    codes = reference.every_code(X)
    y = op.eval(np.stack([codes] * 3, axis=1))
    exact = reference.values(codes, X)[:, None] * reference.values(SCALE.codes, SCALE.format)
    exact = exact + reference.values(offset.codes, offset.format)
    assert (y == reference.casts(exact, Y, rounding, overflow)).all()


def test_channels_are_the_first_axis():
    x = np.random.default_rng(0).integers(-16, 16, size=(20, 3, 2, 2))
    y = affine(SCALE, OFFSET, shape=(3, 2, 2)).eval(x)
    flat = affine(SCALE, OFFSET)
    for i, j in np.ndindex(2, 2):
        assert (y[:, :, i, j] == flat.eval(x[:, :, i, j])).all()


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_bounds_hold_and_are_tight_where_nothing_wraps(rounding, overflow):
    op = affine(SCALE, OFFSET, Modes(rounding, overflow))
    for low in range(-16, 16, 5):
        for high in range(low, 16, 3):
            made = op.eval(np.stack([np.arange(low, high + 1)] * 3, axis=1))
            bounds = op.bounds(Bounds.everywhere((3,), low, high))
            assert (bounds.low <= made.min(axis=0)).all() and (made.max(axis=0) <= bounds.high).all()
            if overflow in (Overflow.SAT, Overflow.SAT_SYM):
                assert (bounds.low == made.min(axis=0)).all() and (made.max(axis=0) == bounds.high).all()


def test_exact_sums_are_the_extremes_before_the_cast():
    sums = affine(SCALE, OFFSET).exact_sums(Bounds.everywhere((3,), -16, 15))
    assert sums.low.tolist() == [-16 * 3 * 2 + 9, 15 * -5 * 2 - 3, 2]
    assert sums.high.tolist() == [15 * 3 * 2 + 9, -16 * -5 * 2 - 3, 2]


@pytest.mark.parametrize("signed", [True, False])
def test_at_the_64_bit_limit(signed):
    """The sum of an unsigned product and an unsigned offset needs all 64 bits of a uint64."""
    x, y = FixedPoint(32, 0, signed), FixedPoint(64, 0, signed)
    scale, offset = Const([2**31 - 1], FixedPoint(32, 0, signed)), Const([2**62 - 1], FixedPoint(63, 0, signed))
    op = affine(scale, offset, x=x, y=y)
    codes = np.array([[x.max_code], [x.min_code], [1]])
    assert op.eval(codes).tolist() == [[int(c) * (2**31 - 1) + 2**62 - 1] for c in codes[:, 0]]
    assert op.bounds(Bounds.everywhere((1,), x.min_code, x.max_code)).range == (
        x.min_code * (2**31 - 1) + 2**62 - 1,
        x.max_code * (2**31 - 1) + 2**62 - 1,
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: affine(SCALE, OFFSET, shape=(2,)), "y: scale has shape (3,) for 2 channels; give one per channel"),
        (
            lambda: affine(SCALE, Const([1], Y), shape=(3,)),
            "y: offset has shape (1,) for 3 channels; give one per channel",
        ),
        (
            lambda: Affine(Tensor("y", (3,), Y), Tensor("x", (3, 1), X), SCALE, OFFSET, Modes()),
            "y: acts element by element, but x is (3, 1) and the output (3,)",
        ),
        (
            lambda: affine(Const([-(2**31)], FixedPoint(32, 0)), Const([1], FixedPoint(2, 2)), x=FixedPoint(32, 0)),
            "y: x * scale + offset needs 66 bits, the limit is 64; use a narrower format before it",
        ),
        (
            lambda: affine(Const([1], FixedPoint(2, 0)), Const([1], FixedPoint(2, 70))),
            "y: x * scale + offset needs 73 bits, the limit is 64; use a narrower format before it",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
