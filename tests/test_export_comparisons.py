"""What ops compare: that the margins say what the kernels do, and that what is proved unreachable is."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from designs import every_op, mlp

from compress.fixed import FixedPoint, Overflow, Rounding
from export.frontends.normalizing import tables
from export.frontends.precision import Precision
from export.intervals import Bounds
from export.ir import Const, Graph, Op, Tensor
from export.ops import (
    Affine,
    ArgMax,
    BinaryDense,
    Cast,
    ChannelCast,
    Clip,
    Dense,
    Input,
    Maximum,
    MaxPool,
    Minimum,
    Modes,
    ReLU,
    Reshape,
    Softmax,
    Threshold,
)
from export.ops.binary import SIGN
from export.ops.windows import Sliding, Window
from export.verification.comparisons import Comparisons
from export.verification.margins import margins

FMT = FixedPoint(4, 1)
X = Tensor("x", (2,), FMT)
CODES = np.array([[a, b] for a in range(-8, 8) for b in range(-8, 8)])
SAT = Modes(Rounding.RND_CONV, Overflow.SAT)


def held(op: Op, *codes: np.ndarray) -> dict[str, np.ndarray]:
    """Whether each condition holds, by its name."""
    return {m.condition: m.values > 0 for m in margins(op, *codes)}


def test_relu_and_clip() -> None:
    assert np.array_equal(held(ReLU(Tensor("y", (2,), FMT), X), CODES)["x > 0"], CODES > 0)
    clip = held(Clip(Tensor("y", (2,), FMT), X, Const([-3, 2], FMT), Const([1, 5], FMT)), CODES)
    assert np.array_equal(clip["x < low"], CODES < [-3, 2])
    assert np.array_equal(clip["x > high"], CODES > [1, 5])


def test_maximum_and_minimum_align_their_points() -> None:
    other = Tensor("b", (2,), FixedPoint(4, 2))
    a, b = CODES, CODES[::-1]
    wide = Tensor("y", (2,), FixedPoint(6, 2))
    assert np.array_equal(held(Maximum(wide, X, other), a, b)["a > b"], 2 * a > b)
    assert np.array_equal(held(Minimum(wide, X, other), a, b)["a < b"], 2 * a < b)


def test_a_pool_compares_each_tap_with_the_largest_before() -> None:
    """Padding takes no part: the first element that a window reads is compared with nothing."""
    x = Tensor("x", (1, 3), FMT)
    op = MaxPool(Tensor("y", (1, 2), FMT), x, Window((Sliding(3, 3, stride=2, before=1, after=1),)))
    a, b, c = CODES[:, 0], CODES[:, 1], CODES[::-1, 0] // 2
    (conditions,) = held(op, np.stack([a, b, c], axis=1)[:, None]).values()
    assert np.array_equal(conditions.T, [b > a, c > b])  # the windows read (a, b) and (b, c)
    whole = MaxPool(Tensor("y", (1, 1), FMT), x, Window((Sliding(3, 3),)))
    (conditions,) = held(whole, np.stack([a, b, c], axis=1)[:, None]).values()
    assert np.array_equal(conditions.T, [b > a, c > np.maximum(a, b)])


def test_what_a_pool_can_never_choose_is_proved() -> None:
    x = Tensor("x", (1, 3), FMT)
    low, high = Const([[-8], [2], [0]], FMT), Const([[7], [2], [1]], FMT)
    channels = Tensor("x", (3, 1), FMT)
    clip = Clip(Tensor("clip", (3, 1), FMT), channels, Const(low.codes.ravel(), FMT), Const(high.codes.ravel(), FMT))
    flat = Reshape(Tensor("flat", (1, 3), FMT), clip.output)
    pool = MaxPool(Tensor("y", (1, 1), FMT), flat.output, Window((Sliding(3, 3),)))
    assert x.shape == flat.output.shape
    graph = Graph("net", (Input(channels), clip, flat, pool), (pool.output,)).verify()
    found = next(c for c in Comparisons(graph).all if c.op is pool)
    assert found.never.tolist() == [False, True] and not found.always.any()


def test_threshold_has_a_comparison_for_each_level() -> None:
    level = Const([[-2, 0, 3], [1, 1, 7]], FMT)
    op = Threshold(Tensor("y", (2,), FMT), X, level, Const([0, 0], FMT), Const([1, 1], FMT))
    for step, conditions in enumerate(held(op, CODES).values()):
        assert np.array_equal(conditions, level.codes[:, step] <= CODES)


@pytest.mark.parametrize("overflow", [Overflow.SAT, Overflow.SAT_SYM, Overflow.SAT_ZERO])
@pytest.mark.parametrize("rounding", Rounding)
def test_a_cast_compares_with_the_ends_of_its_range(rounding: Rounding, overflow: Overflow) -> None:
    """A side that saturates is one on which a wide target with the same rounding has another code."""
    narrow, wide = FixedPoint(2, 0), FixedPoint(10, 0)
    modes = Modes(rounding, overflow)
    above, below = held(Cast(Tensor("y", (2,), narrow), X, modes), CODES).values()
    rounded = modes.cast(CODES, FMT.frac, wide)
    assert np.array_equal(above, rounded > 1)
    assert np.array_equal(below, rounded < (-1 if overflow is Overflow.SAT_SYM else -2))
    changed = modes.cast(CODES, FMT.frac, narrow) != rounded
    assert np.array_equal(above | below, changed)
    assert not held(Cast(Tensor("y", (2,), narrow), X, Modes(rounding, Overflow.WRAP)), CODES)


def test_affine_and_casts_by_channel() -> None:
    op = Affine(Tensor("y", (2,), FixedPoint(3, 0)), X, Const([3, -2], FMT), Const([1, 1], FMT), SAT)
    exact = CODES * [3, -2] + np.array([2, 2])  # with two fraction bits
    above, below = held(op, CODES).values()
    rounded = SAT.cast(exact, 2, FixedPoint(20, 0))
    assert np.array_equal(above, rounded > 3) and np.array_equal(below, rounded < -4)
    formats = FixedPoint(2, 0), None
    by_channel = held(ChannelCast(Tensor("y", (2,), FixedPoint(2, 0)), X, formats, SAT), CODES)
    assert list(by_channel) == ["channel 0 is above 1", "channel 0 is below -2"]
    assert np.array_equal(by_channel["channel 0 is above 1"][:, 0], SAT.cast(CODES[:, 0], 1, FixedPoint(9, 0)) > 1)


def test_numbers_of_64_bits() -> None:
    wide = FixedPoint(64, 0)
    a, b = Tensor("a", (1,), wide), Tensor("b", (1,), wide)
    graph = Graph("net", (Input(a), Input(b), Maximum(Tensor("y", (1,), wide), a, b)), (Tensor("y", (1,), wide),))
    low, high = np.array([[-(2**63)]], dtype=object), np.array([[2**63 - 1]], dtype=object)
    comparisons = Comparisons(graph.verify())
    assert comparisons.margins(high, low)[0, 0] > 0 > comparisons.margins(low, high)[0, 0]
    assert not comparisons.all[0].never[0] and not comparisons.all[0].always[0]


def test_signs_are_compared_with_the_weights_that_they_meet() -> None:
    x, bits = Tensor("x", (3,), SIGN), np.array(list(np.ndindex(2, 2, 2)))
    weight = Const([[0, 1, 1], [0, 0, 1]], SIGN)
    op = BinaryDense(Tensor("y", (2,), FixedPoint(6, 2)), x, weight, Const([0, 1], FixedPoint(2, 0)), 1)
    conditions = held(op, bits)
    assert np.array_equal(conditions["x agrees with a weight of -1"], bits[:, :2] == 0)
    assert np.array_equal(conditions["x agrees with a weight of +1"], bits[:, 1:] == 1)
    assert {m.chosen for m in margins(op, bits)} == {(FixedPoint(2, 1, signed=False),)}


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_an_arg_max_compares_halves(channels: int) -> None:
    """As many comparisons as there are channels but one at each place; their outcomes alone give the place."""
    x = Tensor("x", (channels, 2), FMT)
    op = ArgMax(Tensor("y", (1, 2), ArgMax.indices(x)), x)
    codes = np.random.default_rng(0).integers(-2, 3, size=(300, channels, 2))
    outcomes = iter(np.concatenate([np.zeros((300, 0)), *held(op, codes).values()], axis=1).T.reshape(-1, 2, 300))

    def chosen(first: int, count: int) -> np.ndarray:
        if count == 1:
            return np.full((2, 300), first)
        held = next(outcomes)
        one, other = chosen(first, count // 2), chosen(first + count // 2, count - count // 2)
        return np.where(held, one, other)

    assert np.array_equal(chosen(0, channels).T, op.eval(codes)[:, 0])
    assert next(outcomes, None) is None


def softmax(precision: Precision) -> Graph:
    """A softmax of three numbers that differ in what they can be, the last a constant."""
    x = Tensor("x", (3,), FMT)
    clip = Clip(Tensor("clip", (3,), FMT), x, Const([-8, 2, -3], FMT), Const([4, 7, -3], FMT))
    reach = Graph("net", (Input(x), clip), (clip.output,)).bounds[clip.output]
    share = Tensor("share", (3,), FixedPoint(5, 5, signed=False))
    op = tables(share, clip.output, Fraction(1), reach, precision)
    return Graph("net", (Input(x), clip, op), (share,)).verify()


@pytest.mark.parametrize("stable", [True, False])
def test_a_softmax_compares_the_numbers_on_its_way(stable: bool) -> None:
    graph = softmax(Precision(table_width=4, stable=stable))
    op = graph.ops[-1]
    assert isinstance(op, Softmax)
    x = np.stack(np.meshgrid(range(-8, 5), range(2, 8), [-3]), axis=-1).reshape(-1, 3)
    conditions = held(op, x)
    if stable:
        before = np.stack([x[:, 0], x[:, :2].max(axis=1)], axis=1)
        assert np.array_equal(conditions.pop("x > those before"), x[:, 1:] > before)
    distance = (x.max(axis=1, keepdims=True) if stable else 7) - x
    places = np.floor(distance * 2.0 ** (op.index.frac - FMT.frac) + 0.5).astype(int)
    far = conditions.pop(f"the distance is above {op.index.max_code}")
    assert np.array_equal(far, places > op.index.max_code)
    terms = op.exponentials.values[np.minimum(places, op.index.max_code)]
    total = terms.sum(axis=1)
    for octave in op.octaves[1:]:
        assert np.array_equal(conditions.pop(f"the sum >= 2**{octave}")[:, 0], total >= 2.0**octave)
    octave = np.floor(np.log2(total)).astype(int)
    place = np.floor((total * 2.0**-octave - 1) * op.reciprocals.shape[1]).astype(int)
    inverse = op.reciprocals.values[octave - op.octaves[0], place]
    assert np.array_equal(conditions.pop("the result is above 31"), np.round(terms * inverse[:, None] * 32) > 31)
    assert not any(c.any() for c in conditions.values())  # nothing is below zero
    assert all(condition.endswith("is below 0") for condition in conditions)


@pytest.mark.parametrize("rounding", [Rounding.TRN, Rounding.RND_CONV])
@pytest.mark.parametrize("overflow", [Overflow.SAT, Overflow.SAT_SYM, Overflow.SAT_ZERO])
def test_a_sum_that_saturates_is_compared_at_every_step(rounding: Rounding, overflow: Overflow) -> None:
    modes, acc = Modes(rounding, overflow), FixedPoint(4, 1)
    weight, bias = Const([[3, -2], [0, 7]], FixedPoint(4, 1)), Const([5, -20], FixedPoint(6, 2))
    op = Dense(Tensor("y", (2,), acc), X, weight, bias, modes)
    conditions = held(op, CODES)
    lowest = -7 if overflow is Overflow.SAT_SYM else -8
    above, below = ([c for name, c in conditions.items() if side in name] for side in ("is above 7", f"below {lowest}"))
    assert len(above) == len(below) == 2 and len(conditions) == 4
    total = modes.cast(bias.codes, 2, acc)
    for k in range(2):
        here = slice(2 * k, 2 * k + 2)
        product = Modes(rounding).cast(CODES[:, k : k + 1] * weight.codes[:, k], 2, FixedPoint(20, 1))
        summed = total + modes.cast(product, 1, acc)
        for number, over, under in zip((product, summed), above, below, strict=True):
            assert np.array_equal(over[:, here], number > 7) and np.array_equal(under[:, here], number < lowest)
        total = modes.cast(summed, 1, acc)
    assert np.array_equal(total, op.eval(CODES))


def saturating(overflow: Overflow) -> Graph:
    weight, bias = Const([[3, -2], [0, 5]], FMT), Const([5, -8], FMT)
    dense = Dense(Tensor("y", (2,), FixedPoint(5, 1)), X, weight, bias, Modes(overflow=overflow))
    return Graph("net", (Input(X), dense), (dense.output,)).verify()


def signs() -> Graph:
    """The signs of numbers some of which have one, counted; and the place of the largest count."""
    clip = Clip(Tensor("clip", (2,), FMT), X, Const([-8, 1], FMT), Const([7, 7], FMT))
    level, start, step = Const([[0], [0]], FMT), Const([0, 0], SIGN), Const([1, 1], FixedPoint(2, 0))
    bits = Threshold(Tensor("bits", (2,), SIGN), clip.output, level, start, step)
    weight, offset = Const([[0, 1], [1, 1], [0, 0]], SIGN), Const([0, 1, -4], FixedPoint(4, 0))
    counts = BinaryDense(Tensor("counts", (3,), FixedPoint(5, 0)), bits.output, weight, offset, 0)
    place = ArgMax(Tensor("place", (1,), FixedPoint(2, 0, signed=False)), counts.output)
    return Graph("net", (Input(X), clip, bits, counts, place), (place.output,)).verify()


#: With how many sides no input reaches although they are not proved to be so.
SMALL: dict[str, tuple[Graph, int]] = {
    "mlp": (mlp("net", (2, 3, 2), seed=5), 0),
    "stable softmax": (softmax(Precision(table_width=4)), 0),
    "fast softmax": (softmax(Precision(table_width=4, stable=False)), 1),  # the terms of a sum are not independent
    "saturating": (saturating(Overflow.SAT), 0),
    "zeroing": (saturating(Overflow.SAT_ZERO), 0),
    "signs": (signs(), 0),
}


@pytest.mark.parametrize("network", SMALL)
def test_what_is_proved_is_so_for_every_input(network: str) -> None:
    """On networks small enough to enter everything that can enter."""
    graph, not_proved = SMALL[network]
    comparisons = Comparisons(graph)
    assert not comparisons.unlisted
    fmt = graph.inputs[0].output.format
    spans = [range(fmt.min_code, fmt.max_code + 1)] * graph.inputs[0].output.size
    reached = comparisons.margins(np.stack(np.meshgrid(*spans), axis=-1).reshape(-1, len(spans))) > 0
    never = np.concatenate([c.never for c in comparisons.all])
    always = np.concatenate([c.always for c in comparisons.all])
    assert (never | always).any() and not (never | always).all()
    assert not reached[:, never].any() and reached[:, always].all()
    unreached = np.concatenate([~reached.any(axis=0) & ~never, reached.all(axis=0) & ~always])
    assert np.count_nonzero(unreached) == not_proved


def test_what_is_not_listed_is_said_by_name() -> None:
    op = Unheard(Tensor("other", (1,), FMT))
    assert Comparisons(Graph("net", (op,), (op.output,))).unlisted == {
        op: "other: the comparisons of Unheard are not listed"
    }
    assert not Comparisons(every_op()).unlisted


class Unheard(Op):
    """An op that nobody has written down the comparisons of."""

    def eval(self, *codes: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def bounds(self, *bounds: Bounds) -> Bounds:
        return Bounds.everywhere(self.output.shape, 0, 1)
