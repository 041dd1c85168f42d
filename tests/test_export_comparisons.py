"""What ops compare: that the margins say what the kernels do, and that what is proved unreachable is."""

from __future__ import annotations

import numpy as np
import pytest
from designs import every_op, mlp

from compress.fixed import FixedPoint, Overflow, Rounding
from export.ir import Const, Graph, Op, Tensor
from export.ops import (
    Affine,
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
    Threshold,
)
from export.ops.windows import Sliding, Window
from export.verification.comparisons import Comparisons, UnlistedError, margins

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
    assert list(by_channel) == ["channel 0: above 1", "channel 0: below -2"]
    assert np.array_equal(by_channel["channel 0: above 1"][:, 0], SAT.cast(CODES[:, 0], 1, FixedPoint(9, 0)) > 1)


def test_what_is_proved_is_so_for_every_input() -> None:
    """On a network small enough to enter everything that can enter."""
    graph = mlp("net", (2, 3, 2), seed=5)
    comparisons = Comparisons(graph)
    span = range(-128, 128)
    reached = comparisons.margins(np.array([[a, b] for a in span for b in span])) > 0
    never = np.concatenate([c.never for c in comparisons.all])
    always = np.concatenate([c.always for c in comparisons.all])
    assert never.any() and not never.all()
    assert not reached[:, never].any() and reached[:, always].all()


def test_numbers_of_64_bits() -> None:
    wide = FixedPoint(64, 0)
    a, b = Tensor("a", (1,), wide), Tensor("b", (1,), wide)
    graph = Graph("net", (Input(a), Input(b), Maximum(Tensor("y", (1,), wide), a, b)), (Tensor("y", (1,), wide),))
    low, high = np.array([[-(2**63)]], dtype=object), np.array([[2**63 - 1]], dtype=object)
    comparisons = Comparisons(graph.verify())
    assert comparisons.margins(high, low)[0, 0] > 0 > comparisons.margins(low, high)[0, 0]
    assert not comparisons.all[0].never[0] and not comparisons.all[0].always[0]


def test_what_is_not_listed_is_said_by_name() -> None:
    graph = every_op()
    narrow = next(op for op in graph if op.name == "narrow")
    assert isinstance(narrow, Dense)
    assert Comparisons(graph).unlisted == {narrow: "narrow: a sum that saturates at every step is not listed"}
    with pytest.raises(UnlistedError, match="other: the comparisons of Unheard are not listed"):
        list(margins(Unheard(Tensor("other", (1,), FMT))))


class Unheard(Op):
    """An op that nobody has written down the comparisons of."""

    def eval(self, *codes: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def bounds(self, *bounds: object) -> object:
        raise NotImplementedError
