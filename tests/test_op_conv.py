from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import reference
import torch
from geometry import CHANNELS, SEEDS, Channels, slidings, windows
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import MODES
from torch.nn import functional as F

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Const, Graph, GraphError, Tensor
from export.ops import Conv, Input, Modes, linear
from export.ops.windows import Adaptive, Sliding, Window

X, W, B = FixedPoint(4, 2), FixedPoint(3, 1), FixedPoint(5, 4)
EXACT = FixedPoint(30, 4)
ALONE, THREE = Channels(1, 1, 1), (Sliding(5, 3),)


def conv(window, channels=ALONE, seed=0, acc=EXACT, modes=None, reuse=1, zeros=0.3):
    """A convolution with weights at random, and some samples."""
    rng = np.random.default_rng(seed)
    made = channels.groups * channels.made
    weight = rng.integers(W.min_code, W.max_code + 1, size=(made, channels.read, *window.kernel))
    weight[rng.random(weight.shape) < zeros] = 0
    bias = rng.integers(B.min_code, B.max_code + 1, size=made)
    x = Tensor("x", (channels.groups * channels.read, *window.size), X)
    y = Tensor("y", (made, *window.positions), acc)
    samples = rng.integers(X.min_code, X.max_code + 1, size=(3, *x.shape))
    return Conv(y, x, Const(weight, W), Const(bias, B), modes, reuse, window=window), samples


def by_torch(op, samples):
    """In float64, which holds every sum."""
    axes = op.window.axes
    padded = F.pad(
        torch.tensor(X.values(samples)), [side for axis in reversed(axes) for side in (axis.before, axis.after)]
    )
    weight, bias = torch.tensor(op.weight.values), torch.tensor(op.bias.values)
    stride, dilation = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    made = (F.conv1d, F.conv2d)[len(axes) - 1](padded, weight, bias, stride, 0, dilation, op.groups)
    return made.numpy()


@settings(max_examples=80)
@given(windows(one_sided=True), CHANNELS, SEEDS)
def test_it_is_torchs(window, channels, seed):
    op, samples = conv(window, channels, seed)
    y = op.eval(samples)
    assert y.shape == (3, *op.output.shape)
    assert np.array_equal(EXACT.values(y), by_torch(op, samples))
    assert op.interval == np.prod(window.positions)


def test_many_samples_are_taken_in_parts(monkeypatch):
    op, _ = conv(Window((Sliding(5, 3, before=1),)), Channels(2, 2, 1))
    samples = np.random.default_rng(1).integers(-8, 8, size=(50, *op.x.shape))
    whole = op.eval(samples)
    monkeypatch.setattr(linear, "_MOST_OPERANDS", 7 * op.output.size * 6)
    assert np.array_equal(op.eval(samples), whole)
    assert op.eval(samples[:0]).shape == (0, *op.output.shape)


@settings(max_examples=30)
@given(windows(one_sided=True), CHANNELS, SEEDS, st.sampled_from([FixedPoint(5, 2), FixedPoint(4, 1, False)]))
def test_with_modes_every_product_and_partial_sum_is_cast_in_order(window, channels, seed, acc):
    """Channel by channel, tap by tap; padding is a product too."""
    rounding, overflow = MODES[seed % len(MODES)]
    op, samples = conv(window, channels, seed, acc, Modes(rounding, overflow))
    y = op.eval(samples[:1])[0].reshape(len(op.matrix), -1)
    x = samples[0].reshape(op.x.shape[0], -1)

    def fit(v):
        return reference.value(reference.cast(v, acc, rounding, overflow), acc)

    for j, p in product(range(len(op.matrix)), range(y.shape[1])):
        total = fit(reference.value(op.bias.codes[j], B))
        first = j // channels.made * channels.read
        for c, t in product(range(channels.read), range(window.taps)):
            place = window.reads[p, t]
            read = reference.value(x[first + c, place], X) if place >= 0 else 0
            total = fit(total + fit(read * reference.value(op.matrix[j, c * window.taps + t], W)))
        assert reference.value(y[j, p], acc) == total


@pytest.mark.parametrize("window", [
    Window((Sliding(3, 2, before=1, after=1),)),
    Window((Sliding(2, 2, before=1), Sliding(2, 2, stride=2, after=1))),
    Window((Sliding(4, 2, stride=2, dilation=2),)),
])  # fmt: skip
@pytest.mark.parametrize("channels", [Channels(1, 1, 2), Channels(2, 1, 1)])
def test_bounds_are_exactly_the_extreme_sums(window, channels):
    """At every position: where taps stand on padding, less is reached."""
    rng = np.random.default_rng(3)
    for seed in range(5):
        op, _ = conv(window, channels, seed)
        low = rng.integers(-8, 8, size=op.x.shape)
        reach = Bounds(low, np.minimum(low + rng.integers(0, 4, size=op.x.shape), 7))
        ends = zip(reach.low.ravel(), reach.high.ravel(), strict=True)
        made = op.eval(np.array(list(product(*ends))).reshape(-1, *op.x.shape))
        bounds = op.bounds(reach)
        assert (bounds.low == made.min(axis=0)).all() and (bounds.high == made.max(axis=0)).all()


def test_partial_sums_are_those_of_every_subset_of_products():
    window = Window((Sliding(3, 3, before=1, after=1),))
    rng = np.random.default_rng(2)
    for seed in range(10):
        op, _ = conv(window, seed=seed)
        low = rng.integers(-8, 8, size=(1, 3))
        high = np.minimum(low + rng.integers(0, 5, size=(1, 3)), 7)
        sums = op.partial_sums(Bounds(low, high))
        for p in range(3):
            terms = [
                [2 * int(w) * int(end[0, place]) for end in (low, high)]
                for w, place in zip(op.matrix[0], window.reads[p], strict=True)
                if place >= 0
            ]
            subsets = [s for n in range(len(terms) + 1) for s in combinations(terms, n)]
            start = int(op.bias.codes[0])
            assert sums.low[0, p] == min(start + sum(map(min, s)) for s in subsets)
            assert sums.high[0, p] == max(start + sum(map(max, s)) for s in subsets)
        assert op.accumulator(Bounds(low, high)) == FixedPoint.covering(*sums.range, 4)


def test_bounds_with_modes_hold():
    for rounding, overflow in MODES:
        op, _ = conv(Window((Sliding(3, 2, after=1),)), acc=FixedPoint(4, 2), modes=Modes(rounding, overflow))
        reference.check_bounds(op, Bounds.everywhere(op.x.shape, -8, 7))


def test_the_law_of_the_accumulator():
    op, _ = conv(Window((Sliding(4, 3, before=1),)), Channels(1, 2, 2))
    x = Input(op.x)
    need = op.accumulator(x.bounds())
    for acc, legal in ((need, True), (FixedPoint(need.width - 1, 4), False)):
        fitted = Conv(Tensor("y", op.output.shape, acc), op.x, op.weight, op.bias, window=op.window)
        graph = Graph("g", (x, fitted), (fitted.output,))
        if legal:
            graph.verify()
            continue
        with pytest.raises(GraphError) as error:
            graph.verify()
        assert str(error.value) == f"y: partial sums reach {need}, the accumulator is {acc}; widen it"


def test_at_the_64_bit_limit():
    """Products of 62 bits and sums of 64: int64 would wrap on the way, float64 round."""
    fmt, acc = FixedPoint(31, 0), FixedPoint(64, 0)
    window = Window((Sliding(2, 3, before=1),))
    full = np.full((1, 1, 3), fmt.max_code)
    op = Conv(Tensor("y", (1, 1), acc), Tensor("x", (1, 2), fmt), Const(full, fmt), Const([5], FixedPoint(5, 0)),
              window=window)  # fmt: skip
    assert op.eval(np.full((1, 1, 2), fmt.min_code)).tolist() == [[[2 * fmt.min_code * fmt.max_code + 5]]]
    assert op.bounds(Bounds.everywhere((1, 2), 0, fmt.max_code)).range == (5, 2 * fmt.max_code**2 + 5)


def made(x=(2, 5), weight=(2, 2, 3), output=(2, 3), bias=2, axes=THREE, reuse=1):
    return Conv(Tensor("y", output, EXACT), Tensor("x", x, X), Const(np.ones(weight, int), W),
                Const([0] * bias, B), None, reuse, window=Window(axes))  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made(x=(2, 6)), "y: the windows are over (5,), x: fixed<4,2>[2, 6] has other spatial axes"),
        (lambda: made(weight=(2, 2, 2)), "y: the windows have (3,) taps, the weights are (2, 2, 2)"),
        (
            lambda: made(x=(3, 5)),
            "y: 3 channels do not divide into groups of 2 that make 2 together; check the weights",
        ),
        (
            lambda: made(x=(6, 5)),
            "y: 6 channels do not divide into groups of 2 that make 2 together; check the weights",
        ),
        (lambda: made(bias=3), "y: 2 outputs, but the bias is (3,) and the output (2, 3)"),
        (lambda: made(output=(2, 4)), "y: there are (3,) positions, the output is y: fixed<30,26>[2, 4]"),
        (
            lambda: made(output=(2, 2), axes=(Adaptive(5, 2),)),
            "y: a convolution has windows that slide",
        ),
        (lambda: made(reuse=5), "y: reuse factor 5 is not legal for 6 inputs and 2 outputs; use 3 or 6"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


@given(slidings(one_sided=True), SEEDS)
def test_reuse_changes_no_bit(axis, seed):
    window = Window((axis,))
    op, samples = conv(window, Channels(2, 1, 2), seed)
    shared, _ = conv(window, Channels(2, 1, 2), seed, reuse=axis.kernel * 4)
    assert np.array_equal(op.eval(samples), shared.eval(samples))
    assert shared.interval == 4 * axis.kernel * op.interval
