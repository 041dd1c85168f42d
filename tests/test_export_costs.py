"""What ops that are no layers take: counts, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compress.fixed import FixedPoint, Overflow, Rounding
from export.costs import Target, estimate_op
from export.ir import Const, Tensor
from export.ops import (
    Add,
    Affine,
    ArgMax,
    BySign,
    Cast,
    Clip,
    Concat,
    Conv,
    Input,
    Maximum,
    MaxPool,
    Minimum,
    Modes,
    Multiply,
    ReLU,
    Reshape,
    SumPool,
    Table,
    Threshold,
)
from export.ops.binary import SIGN, BinaryDense
from export.ops.softmax import Softmax
from export.ops.windows import Sliding, Window

X, WIDE = FixedPoint(8, 4), FixedPoint(20, 8)
A, B = Tensor("a", (3, 4), X), Tensor("b", (3, 4), X)
SAT = Modes(Rounding.RND, Overflow.SAT)


def out(fmt: FixedPoint, *shape: int) -> Tensor:
    return Tensor("y", shape or A.shape, fmt)


def cost(op, clock_ns: float = 5.0):
    made = estimate_op(op, Target(clock_ns))
    assert made is not None
    return made


def const(codes, fmt: FixedPoint) -> Const:
    return Const(np.array(codes), fmt)


@pytest.mark.parametrize("op", [Input(A), Reshape(out(X, 12), A), Concat(out(X, 6, 4), (A, B))])
def test_wires_take_nothing(op):
    made = cost(op)
    assert (made.lut, made.ff, made.dsp, made.adders, made.multipliers, made.latency) == (0, 0, 0, 0, 0, 0)


def test_one_adder_or_comparison_for_each_element():
    assert cost(Add(out(WIDE), A, B)).adders == 12
    for op in (Maximum(out(X), A, B), Minimum(out(X), A, B), BySign(out(X), A, A, B), ReLU(out(ReLU.positive(X)), A)):
        made = cost(op)
        assert made.adders == made.multipliers == 0 < made.lut
    assert cost(BySign(out(X), A, A, B)).lut < cost(Maximum(out(X), A, B)).lut  # a sign needs no comparison


@pytest.mark.parametrize(("widths", "dsp"), [((8, 8), 0), ((10, 8), 12), ((20, 20), 24)])
def test_products_of_variables(widths, dsp):
    a, b = (Tensor(name, (3, 4), FixedPoint(width, 4)) for name, width in zip("ab", widths, strict=True))
    made = cost(Multiply(out(FixedPoint(sum(widths), 8)), a, b))
    assert (made.multipliers, made.dsp, made.in_dsp) == (12, dsp, 12 if dsp else 0)
    assert (made.lut > 0) == (dsp == 0)


def test_a_cast_that_only_leaves_out_bits_takes_no_logic():
    narrow = FixedPoint(5, 2)
    assert cost(Cast(out(narrow), A, Modes())).lut == 0
    rounded, limited = cost(Cast(out(narrow), A, Modes(Rounding.RND))), cost(Cast(out(narrow), A, SAT))
    assert (rounded.adders, limited.adders) == (12, 12) and 0 < rounded.lut < limited.lut
    assert cost(Cast(out(FixedPoint(9, 4)), A, Modes(Rounding.RND))).adders == 0  # nothing is rounded off


def test_an_affine_map_multiplies_by_constants():
    """By 11 and -11 a multiplier for each of 4 elements, by 8 wires, and an adder for each offset and each rounding."""
    scale, offset = const([11, -11, 8], FixedPoint(6, 3)), const([1, 2, 3], FixedPoint(4, 2))
    made = cost(Affine(out(FixedPoint(9, 3)), A, scale, offset, SAT))
    assert (made.multipliers, made.shift_adds, made.adders) == (8, 0, 24)
    fives = replace(scale, codes=np.array([5, -5, 8]))
    made = cost(Affine(out(FixedPoint(9, 3)), A, fives, offset, SAT))
    assert (made.multipliers, made.shift_adds, made.adders) == (0, 8, 24 + 8 + 4)  # -5 takes one more


def test_a_threshold_has_a_comparison_for_each_level():
    few, many = (
        cost(
            Threshold(
                out(FixedPoint(4, 0)),
                A,
                const([[*range(steps)]] * 3, X),
                const([0] * 3, FixedPoint(4, 0)),
                const([1] * 3, FixedPoint(4, 0)),
            )
        )
        for steps in (2, 6)
    )
    assert (few.adders, many.adders) == (24, 72) and many.lut == pytest.approx(3 * few.lut, rel=0.01)
    low, high = const([0] * 3, X), const([5] * 3, X)
    assert cost(Clip(out(X), A, low, high)).lut == 2 * cost(Maximum(out(X), A, B)).lut


def test_a_table_stands_beside_each_element():
    entries = const(np.arange(256)[None], FixedPoint(8, 0, signed=False))
    made = cost(Table(out(entries.format), A, X.min_code, entries))
    assert made.memory_bits == 12 * 256 * 8
    assert made.lut == 12 * 8 * 256 / 64


def test_argmax_compares_all_but_one():
    indices = ArgMax.indices(A)
    made, wider = cost(ArgMax(out(indices, 1, 4), A)), Tensor("a", (5, 4), X)
    assert made.lut * 2 < cost(ArgMax(out(ArgMax.indices(wider), 1, 4), wider)).lut * 1.05


WINDOW = Window((Sliding(6, 2, stride=2), Sliding(6, 3, stride=3)))
PLANE = Tensor("x", (5, 6, 6), X)


def test_windows_take_one_position_at_a_time():
    largest = cost(MaxPool(out(X, 5, 3, 2), PLANE, WINDOW))
    assert (largest.interval, largest.multipliers, largest.adders) == (6, 0, 0)
    assert largest.latency >= largest.interval
    taps = Window((Sliding(6, 6), Sliding(6, 6)))
    all_at_once = cost(MaxPool(out(X, 5, 1, 1), PLANE, taps))
    assert all_at_once.interval == 1 and all_at_once.lut == 7 * largest.lut  # 35 comparisons against 5


@pytest.mark.parametrize(
    ("weights", "multipliers", "shift_adds"),
    [([1], 0, 0), ([5], 0, 5), ([11], 5, 0), ([1, 2, 3, 4, 5, 6], 5, 0)],
)
def test_sums_of_windows(weights, multipliers, shift_adds):
    weight = const(weights, FixedPoint(5, 2, signed=False))
    made = cost(SumPool(out(FixedPoint(20, 6), 5, 3, 2), PLANE, WINDOW, weight))
    assert (made.interval, made.multipliers, made.shift_adds) == (6, multipliers, shift_adds)
    assert made.adders == 5 * 5 + shift_adds


def test_signs_are_counted_without_a_multiplier():
    x = Tensor("x", (32,), SIGN)
    weight = const(np.random.default_rng(0).integers(0, 2, size=(7, 32)), SIGN)
    made = cost(BinaryDense(out(FixedPoint(9, 0), 7), x, weight, const([0] * 7, FixedPoint(7, 0)), 0))
    assert (made.products, made.multipliers, made.dsp, made.adders, made.interval) == (7 * 32, 0, 0, 7 * 32, 1)


def test_groups_of_a_convolution_share_no_constants():
    """The same weights on other inputs are other products."""
    window = Window((Sliding(4, 2), Sliding(4, 2)))
    weight = const(np.full((4, 1, 2, 2), 11), FixedPoint(5, 3))
    bias = const([0] * 4, FixedPoint(4, 3))
    y = Tensor("conv", (4, 3, 3), FixedPoint(20, 7))
    depthwise = Conv(y, Tensor("x", (4, 4, 4), X), weight, bias, window=window)
    assert cost(depthwise).multipliers == 16
    shared = Conv(y, Tensor("x", (1, 4, 4), X), weight, bias, window=window)
    assert cost(shared).multipliers == 4
    assert cost(replace(depthwise, reuse_factor=4)).multipliers == 4
    assert cost(replace(depthwise, reuse_factor=4)).interval == 9 * 4


def test_a_faster_clock_needs_more_registers():
    op = Affine(out(FixedPoint(9, 3)), A, const([11, 11, 11], FixedPoint(6, 3)), const([1] * 3, FixedPoint(4, 2)), SAT)
    slow, fast = cost(op, clock_ns=50), cost(op, clock_ns=1)
    assert slow.latency == 1 < fast.latency and slow.ff < fast.ff and slow.lut == fast.lut


def test_a_softmax_has_a_table_and_a_product_for_each_element():
    x, y = Tensor("x", (3,), X), Tensor("y", (3,), FixedPoint(6, 6, signed=False))
    entry = FixedPoint(5, 4, signed=False)
    made = cost(
        Softmax(
            y,
            x,
            index=FixedPoint(2, 1, signed=False),
            exponentials=const([16, 10, 6, 4], entry),
            reciprocals=const([[16, 11], [8, 5]], FixedPoint(6, 4, signed=False)),
            powers=const([2, 1], FixedPoint(2, 1, signed=False)),
            modes=SAT,
        )
    )
    assert (made.multipliers, made.adders) == (3, 3 + 2)  # differences, and the sum
    assert made.memory_bits == 3 * 4 * 5 + 4 * 6
