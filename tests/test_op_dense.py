from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import reference
from reference import MODES

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Const, Graph, GraphError, Tensor
from export.ops import Dense, Input, Modes

ACCUMULATORS = [FixedPoint(5, 2), FixedPoint(4, 1, False), FixedPoint(7, 6), FixedPoint(1, 0)]
X, W, B = FixedPoint(4, 2), FixedPoint(3, 1), FixedPoint(5, 4)


def dense(weight, bias, acc, x=X, w=W, b=B, modes=None, reuse=1):
    weight, bias = np.array(weight), np.array(bias)
    return Dense(
        Tensor("y", bias.shape, acc), Tensor("x", weight.shape[1:], x), Const(weight, w), Const(bias, b), modes, reuse
    )


def drawn(rng, n_out, n_in, x=X, w=W, b=B):
    weight = rng.integers(w.min_code, w.max_code + 1, size=(n_out, n_in))
    bias = rng.integers(b.min_code, b.max_code + 1, size=n_out)
    return weight, bias, rng.integers(x.min_code, x.max_code + 1, size=(40, n_in))


def test_the_exact_sum():
    weight, bias, x = drawn(np.random.default_rng(0), 3, 4)
    for acc in (FixedPoint(12, 4), FixedPoint(30, 11)):  # also with more fraction bits than needed
        y = dense(weight, bias, acc).eval(x)
        for row, result in zip(x, y, strict=True):
            for j in range(3):
                exact = reference.value(bias[j], B) + sum(
                    reference.value(c, X) * reference.value(v, W) for c, v in zip(row, weight[j], strict=True)
                )
                assert reference.value(result[j], acc) == exact


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
@pytest.mark.parametrize("acc", ACCUMULATORS, ids=str)
def test_with_modes_every_product_and_partial_sum_is_cast_in_order(acc, rounding, overflow):
    weight, bias, x = drawn(np.random.default_rng(1), 2, 5)
    x = x[:12]
    y = dense(weight, bias, acc, modes=Modes(rounding, overflow)).eval(x)

    def fit(v):
        return reference.value(reference.cast(v, acc, rounding, overflow), acc)

    for row, result in zip(x, y, strict=True):
        for j in range(2):
            total = fit(reference.value(bias[j], B))
            for c, v in zip(row, weight[j], strict=True):
                total = fit(total + fit(reference.value(c, X) * reference.value(v, W)))
            assert reference.value(result[j], acc) == total


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
@pytest.mark.parametrize("acc", ACCUMULATORS, ids=str)
def test_leaving_out_a_product_of_zero_changes_nothing(acc, rounding, overflow):
    """Of a sum that any cast can give, wherever the product stands: in front of it is a bias, behind it anything."""
    modes = Modes(rounding, overflow)
    fine = FixedPoint(acc.width + 4, acc.frac + 2)
    sums = np.unique(modes.cast(np.arange(fine.min_code, fine.max_code + 1), fine.frac, acc))
    assert len(sums) > acc.max_code - acc.min_code - 1  # SAT_SYM has one code less
    zero = modes.cast(np.zeros(1, dtype=np.int64), X.frac + W.frac, acc)
    assert zero.tolist() == [0] and (modes.cast(sums + zero, acc.frac, acc) == sums).all()
    weight, bias, x = drawn(np.random.default_rng(7), 3, 6)
    weight[:, [0, 2, 5]] = 0
    op = dense(weight, bias, acc, modes=modes)
    short = dense(weight[:, [1, 3, 4]], bias, acc, modes=modes)
    assert (op.eval(x) == short.eval(x[:, [1, 3, 4]])).all()


def test_partial_sums_are_those_of_every_subset_of_products():
    rng = np.random.default_rng(2)
    for _ in range(20):
        weight, bias, _ = drawn(rng, 1, 4)
        op = dense(weight, bias, FixedPoint(30, 4))
        low = rng.integers(-8, 8, size=4)
        high = np.minimum(low + rng.integers(0, 5, size=4), 7)
        start = Fraction(int(bias[0]), 16)
        extremes = [[Fraction(int(weight[0, i]) * int(e), 8) for e in (low[i], high[i])] for i in range(4)]
        subsets = [s for n in range(5) for s in combinations(range(4), n)]
        smallest = min(start + sum(min(extremes[i]) for i in s) for s in subsets)
        largest = max(start + sum(max(extremes[i]) for i in s) for s in subsets)
        reached = op.partial_sums(Bounds(low, high)).range
        assert (Fraction(reached[0], 16), Fraction(reached[1], 16)) == (smallest, largest)
        assert op.accumulator(Bounds(low, high)) == FixedPoint.covering(*reached, 4)


def test_bounds_are_exactly_the_extreme_sums():
    rng = np.random.default_rng(3)
    for _ in range(10):
        weight, bias, _ = drawn(rng, 2, 3)
        op = dense(weight, bias, FixedPoint(20, 6))
        low = rng.integers(-8, 8, size=3)
        reach = Bounds(low, np.minimum(low + rng.integers(0, 4, size=3), 7))
        corners = np.array(np.meshgrid(*zip(reach.low, reach.high, strict=True))).reshape(3, -1).T
        made = op.eval(corners)
        bounds = op.bounds(reach)
        assert (bounds.low == made.min(axis=0)).all() and (bounds.high == made.max(axis=0)).all()


def test_bounds_with_modes_hold():
    weight, bias, _ = drawn(np.random.default_rng(4), 3, 4)
    for rounding, overflow in MODES:
        op = dense(weight, bias, FixedPoint(4, 2), modes=Modes(rounding, overflow))
        reference.check_bounds(op, Bounds.everywhere((4,), -8, 7))


@pytest.mark.parametrize("signed", [True, False])
def test_at_the_64_bit_limit(signed):
    """Products of 62 bits and sums of 64: int64 would wrap on the way, float64 round."""
    x, w, n = FixedPoint(31, 0, signed), FixedPoint(31, 0, signed), 3
    extreme = np.full((1, n), w.max_code)
    acc = FixedPoint(64, 0, signed)
    op = dense(extreme, [5], acc, x, w, FixedPoint(5, 0))
    y = op.eval(np.full((1, n), x.max_code))
    assert y.tolist() == [[n * x.max_code * w.max_code + 5]]
    bounds = op.bounds(Bounds.everywhere((n,), x.min_code, x.max_code))
    assert bounds.range[1] == y[0, 0] and bounds.range[0] == min(0, n * x.min_code * w.max_code) + 5


def test_an_unsigned_sum_beyond_int64():
    """4 * 2**62 minus a little: product and bias both fit int64, their sum only uint64."""
    fmt = FixedPoint(31, 0, False)
    full = fmt.max_code
    bias = 2**63 - 1
    op = dense([[full, full]], [bias], FixedPoint(64, 0, False), fmt, fmt, FixedPoint(63, 0, False))
    y = op.eval(np.array([[full, full], [0, 1]]))
    assert y.tolist() == [[2 * full**2 + bias], [full + bias]]
    assert op.bounds(Bounds.everywhere((2,), 0, full)).range == (bias, 2 * full**2 + bias)


def test_the_sum_of_both_signs_beyond_int64_is_refused_not_wrapped():
    """The two halves of the bound, of positive and of negative weights, each fit int64; their sum does not."""
    x, w = FixedPoint(32, 0), FixedPoint(32, 0)
    weight = np.array([[w.max_code, w.max_code, w.min_code, w.min_code]])
    op = dense(weight, [0], FixedPoint(64, 0), x, w, FixedPoint(1, 0))
    reach = Bounds.everywhere((4,), x.min_code, x.max_code)
    low = 2 * x.min_code * w.max_code + 2 * x.max_code * w.min_code
    assert op.partial_sums(reach).range[0] == low
    with pytest.raises(GraphError) as error:
        op.verify(reach)
    assert str(error.value) == "y: an exact accumulator needs 65 bits, the limit is 64; use narrower formats"


def test_no_samples():
    for modes in (None, Modes()):
        op = dense([[1, 2]], [0], FixedPoint(12, 4), modes=modes)
        assert op.eval(np.zeros((0, 2), dtype=np.int64)).shape == (0, 1)


def test_the_law_of_the_accumulator():
    x = Input(Tensor("x", (2,), X))
    need = dense([[3, -4]], [1], FixedPoint(30, 4)).accumulator(x.bounds())
    assert need == FixedPoint.covering(-8 * 3 * 2 - 7 * 4 * 2 + 1, 7 * 3 * 2 + 8 * 4 * 2 + 1, 4)
    fits = dense([[3, -4]], [1], need)
    Graph("g", (x, fits), (fits.output,)).verify()
    tight = dense([[3, -4]], [1], FixedPoint(need.width - 1, 4))
    with pytest.raises(GraphError) as error:
        Graph("g", (x, tight), (tight.output,)).verify()
    assert str(error.value) == f"y: partial sums reach {need}, the accumulator is {tight.output.format}; widen it"


def test_a_sum_that_is_always_zero_fits_any_binary_point():
    """One bit at 4 fraction bits is not held by one bit at 5, but the only code there is 0."""
    x = Input(Tensor("x", (1,), X))
    op = dense([[0]], [0], FixedPoint(1, 5, False))
    assert Graph("g", (x, op), (op.output,)).verify()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Dense(Tensor("y", (1,), X), Tensor("x", (2,), X), Const([1, 2], W), Const([0], B)),
            "y: weights must have two axes (outputs, inputs), got shape (2,)",
        ),
        (
            lambda: Dense(Tensor("y", (1,), X), Tensor("x", (3,), X), Const(np.ones((1, 2), int), W), Const([0], B)),
            "y: the weights take 2 inputs, x: fixed<4,2>[3] has another shape; flatten it",
        ),
        (
            lambda: Dense(Tensor("y", (1,), X), Tensor("x", (1, 2), X), Const(np.ones((1, 2), int), W), Const([0], B)),
            "y: the weights take 2 inputs, x: fixed<4,2>[1, 2] has another shape; flatten it",
        ),
        (
            lambda: Dense(Tensor("y", (2,), X), Tensor("x", (2,), X), Const(np.ones((1, 2), int), W), Const([0], B)),
            "y: 1 outputs, but the bias is (1,) and the output (2,)",
        ),
        (
            lambda: dense([[1]], [0], FixedPoint(64, 9), x=FixedPoint(40, 2), w=FixedPoint(25, 1)),
            "y: a product of fixed<40,38> and fixed<25,24> needs 65 bits, the limit is 64; "
            "use narrower inputs or weights",
        ),
        (
            lambda: dense([[1]], [0], FixedPoint(20, 3)),
            "y: the exact sum has 4 fraction bits, the accumulator 3; give it the fraction bits or state its modes",
        ),
        (lambda: dense([[9]], [0], X), "codes from 9 to 9 do not fit fixed<3,2>; widen the format"),
        (
            lambda: dense([[1, 2, 3]] * 2, [0, 0], FixedPoint(20, 4), reuse=4),
            "y: reuse factor 4 is not legal for 3 inputs and 2 outputs; use 3 or 6",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
