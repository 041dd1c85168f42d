from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from equality import chain, kinds, on_random_graphs

from compress.fixed import FixedPoint, Overflow, Rounding
from export.ir import GraphError, Tensor
from export.ops import Input, Modes, Requantize
from export.ops.casts import covering
from export.passes.lower_requantize import lower_requantize, staircases, threshold

SAT = (Overflow.SAT, Overflow.SAT_SYM)
SATURATING = Modes(Rounding.RND_CONV, Overflow.SAT)

X, Y = FixedPoint(8, 2), FixedPoint(4, 1)


def lowered(scale, offset, modes, x=X, y=Y):
    """The one op that takes the requantization's place, after comparing the two on every code there is."""
    n = len(scale)
    enter = Input(Tensor("x", (n,), x))
    q = Requantize(
        Tensor("y", (n,), y), enter.output, tuple(map(Fraction, scale)), tuple(map(Fraction, offset)), modes
    )
    graph = chain(enter, q)
    result = lower_requantize(graph).verify()
    every = np.stack([np.arange(x.min_code, x.max_code + 1)] * n, axis=1)
    for codes in np.array_split(every, max(1, len(every) // 4096)):
        assert (graph.eval(codes) == result.eval(codes)).all()
    assert result.ops[1].has_kernel and result.ops[1].output == q.output and len(result.notes) == 1
    return result.ops[1], result.notes[0]


def test_on_random_graphs():
    for _, result in on_random_graphs(lower_requantize, 400):
        assert "Requantize" not in kinds(result)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("overflow", Overflow)
def test_every_mode_and_sign(rounding, overflow):
    """Small scales stay in range under WRAP and SAT_ZERO too; steep and falling ones saturate."""
    rng = np.random.default_rng(0)
    for _ in range(6):
        largest = 4 if overflow in SAT else Fraction(1, 20)
        scale = [largest * Fraction(int(n), 97) for n in rng.integers(-97, 98, size=4)]
        offset = [Fraction(int(n), 60) for n in rng.integers(-60, 61, size=4)]
        lowered(scale, offset, Modes(rounding, overflow))
        other = FixedPoint(3, 0, False) if overflow in SAT else FixedPoint(6, 2)
        lowered(scale, offset, Modes(rounding, overflow), y=other)


@pytest.mark.parametrize("overflow", [Overflow.WRAP, Overflow.SAT_ZERO])
@pytest.mark.parametrize("rounding", [r for r in Rounding if r not in (Rounding.TRN_ZERO, Rounding.RND_CONV)])
def test_results_that_leave_the_format_go_through_the_overflow_mode(overflow, rounding):
    scale, offset = [Fraction(3, 7), Fraction(-5, 7)], [Fraction(1, 9), Fraction(0)]
    op, _ = lowered(scale, offset, Modes(rounding, overflow))
    assert type(op).__name__ == "Affine" and op.modes.overflow is overflow


@pytest.mark.parametrize("overflow", [Overflow.WRAP, Overflow.SAT_ZERO])
def test_truncation_towards_zero_has_a_kink_that_no_multiplier_has(overflow):
    with pytest.raises(GraphError, match=r"^y: no exact multiplier of up to 48 bits exists"):
        lowered([Fraction(3, 7)], [0], Modes(Rounding.TRN_ZERO, overflow))


def test_binary_constants_stay_as_they_are():
    modes = Modes(Rounding.RND_CONV, Overflow.SAT)
    op, note = lowered([Fraction(3, 4), Fraction(-1, 8)], [Fraction(1, 2), 0], modes)
    assert type(op).__name__ == "Affine" and op.modes == modes
    assert op.scale.codes.tolist() == [6, -1] and op.scale.format.frac == 3
    assert note == "y: exact constants of 4 bits, nothing to prove"


def test_a_searched_multiplier_is_smaller_than_the_constants():
    op, note = lowered([Fraction(1, 3), Fraction(2, 7)], [0, Fraction(1, 11)], Modes(Rounding.RND, Overflow.SAT))
    assert type(op).__name__ == "Affine" and op.modes == Modes(Rounding.TRN, Overflow.SAT)
    assert op.scale.format.width <= 8
    assert note.startswith(f"y: multipliers of {op.scale.format.width} bits, proved equal to the rational map at all ")
    assert note.endswith(" steps of 2 channels")


@pytest.mark.parametrize("sign", [1, -1])
def test_ties_to_even_without_a_multiplier_are_comparisons(sign):
    """round(code / 6), ties to even: no line passes all steps, and 1/6 is no binary fraction."""
    modes = Modes(Rounding.RND_CONV, Overflow.SAT)
    op, note = lowered([Fraction(sign, 6)], [0], modes, FixedPoint(6, 0), FixedPoint(5, 0))
    assert type(op).__name__ == "Threshold"
    assert note == "y: 10 comparisons, exact by construction"
    assert op.step.codes.tolist() == [sign]


def test_channels_of_different_steps_share_a_threshold_op():
    """Rising, falling and constant; the shorter ones are filled up with levels that are never reached."""
    scale, offset = [Fraction(1, 6), Fraction(-1, 6), 0, Fraction(1, 600)], [0, Fraction(1, 2), 3, 0]
    for x in (FixedPoint(6, 0), FixedPoint(6, 0, False)):
        op, _ = lowered(scale, offset, Modes(Rounding.RND_CONV, Overflow.SAT), x, FixedPoint(5, 0))
        assert type(op).__name__ == "Threshold"
        assert op.level.format.signed == x.signed  # a comparison of both signs is not what vendors' types get right


def test_all_channels_constant():
    op, _ = lowered([0, 0], [Fraction(9, 7), -100], Modes(Rounding.RND_CONV, Overflow.SAT))
    assert type(op).__name__ == "Affine" and not op.scale.codes.any()


@pytest.mark.parametrize("exponent", [-200, -90, -40, 40, 90, 200])
def test_tiny_and_huge_scales(exponent):
    scale = [Fraction(2) ** exponent / 3, -(Fraction(2) ** exponent) / 7]
    lowered(scale, [Fraction(1, 3), Fraction(-1, 3)], Modes(Rounding.RND_CONV, Overflow.SAT))


def test_huge_offsets():
    lowered([Fraction(1, 3)] * 2, [10**30, -(10**30)], Modes(Rounding.RND_CONV, Overflow.SAT))


def test_a_wide_activation_of_a_float_scale():
    """Sixteen bits on both sides and a scale that float32 would give: found, and equal on all 65,536 codes."""
    scale = [Fraction(float(np.float32(0.0123456))), Fraction(float(np.float32(0.9)))]
    modes = Modes(Rounding.RND_CONV, Overflow.SAT)
    op, _ = lowered(scale, [0, Fraction(1, 7)], modes, FixedPoint(16, 8), FixedPoint(16, 9))
    assert type(op).__name__ == "Affine"


def test_one_bit_everywhere():
    for x in (FixedPoint(1, 0), FixedPoint(1, 0, False)):
        for y in (FixedPoint(1, 0), FixedPoint(1, 0, False)):
            for overflow in SAT:
                scale = [Fraction(1, 3), Fraction(-2, 3), Fraction(5, 3)]
                lowered(scale, [Fraction(1, 3), 0, -1], Modes(Rounding.RND_INF, overflow), x, y)


def test_where_nothing_is_exact_it_says_so():
    """A third of every 24-bit code, ties to even reached: too many steps to compare, none of them a multiplier."""
    wide = FixedPoint(24, 0)
    enter, modes = Input(Tensor("x", (1,), wide)), Modes(Rounding.RND_CONV, Overflow.SAT)
    q = Requantize(Tensor("y", (1,), wide), enter.output, (Fraction(1, 6),), (Fraction(0),), modes)
    with pytest.raises(GraphError) as error:
        lower_requantize(chain(enter, q))
    assert str(error.value) == (
        "y: no exact multiplier of up to 48 bits exists, and comparisons need at most 4096 steps that stay within "
        "fixed<24,24>; use a power-of-two scale or a narrower, saturating activation"
    )


@pytest.mark.parametrize("overflow", SAT)
@pytest.mark.parametrize("rounding", Rounding)
def test_channels_with_formats_of_their_own(rounding, overflow):
    """Multipliers, then a cast by channel; or comparisons, whose steps are each as high as the channel is coarse."""
    formats = (FixedPoint(3, 1), FixedPoint(2, -1), None, FixedPoint(4, 3), FixedPoint(1, 0))
    x = Input(Tensor("x", (5,), X))
    found = set()
    for numerator, denominator in ((3, 7), (-11, 13), (1, 8), (5, 1 << 40)):
        scale = tuple(Fraction(numerator, denominator + k) for k in range(5))
        offset = tuple(Fraction(k - 2, 9) for k in range(5))
        modes = Modes(rounding, overflow)
        q = Requantize(Tensor("y", (5,), covering(formats)), x.output, scale, offset, modes, formats)
        graph = chain(x, q)
        result = lower_requantize(graph).verify()
        codes = np.stack([np.arange(X.min_code, X.max_code + 1)] * 5, axis=1)
        assert (graph.eval(codes) == result.eval(codes)).all()
        assert result.outputs == graph.outputs
        found.add(tuple(kinds(result)))
    assert ("Input", "Affine", "ChannelCast") in found
    stairs = staircases(q, graph)
    assert (chain(x, threshold(q, stairs)).eval(codes) == graph.eval(codes)).all()


def test_the_name_of_the_exact_sum_is_nobodys():
    x = Input(Tensor("y.exact", (1,), X))
    formats = (FixedPoint(3, 1),)
    q = Requantize(Tensor("y", (1,), formats[0]), x.output, (Fraction(1, 3),), (Fraction(1, 9),), SATURATING, formats)
    result = lower_requantize(chain(x, q))
    assert [op.name for op in result] == ["y.exact", "y.exact_", "y"]
