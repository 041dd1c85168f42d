"""Channels that no output can feel go: of several axes, inputs and readers, of convolutions and tables."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from equality import RND_SAT, TRN_WRAP, chain, const, entry, same_bits

from compress.fixed import FixedPoint, Overflow, Rounding
from export.intervals import Bounds
from export.ir import Graph, Op, Tensor
from export.ops import (
    Add,
    Affine,
    ArgMax,
    BySign,
    Cast,
    Concat,
    Conv,
    Dense,
    Input,
    Maximum,
    MaxPool,
    Minimum,
    Modes,
    Multiply,
    Rearrange,
    Reshape,
    Subtract,
    SumPool,
    Table,
)
from export.ops.movement import NOWHERE
from export.ops.windows import Sliding, Window
from export.passes.choose_sparse import choose
from export.passes.prune_neurons import prune_neurons

X, W, B, ACC = FixedPoint(4, 2), FixedPoint(4, 1), FixedPoint(6, 3), FixedPoint(20, 6)
ACT = FixedPoint(4, 1, False)
# Neurons: alive, dead at its input (a constant 7), dead at its output, alive, dead at both ends.
FIRST = np.array([[1, -2, 3], [0, 0, 0], [4, 4, -1], [0, 5, 0], [0, 0, 0]])
FIRST_BIAS = [3, 28, -9, 1, 30]
SECOND = np.array([[2, 3, 0, -1, 0], [0, -5, 0, 7, 0]])


def dense(name, x, weight, bias, acc=ACC, modes=None, reuse=1):
    weight = np.array(weight)
    return Dense(Tensor(name, (len(weight),), acc), x.output, const(weight, W), const(bias, B), modes, reuse)


def cast(name, x, fmt=ACT, modes=RND_SAT):
    return Cast(replace(x.output, name=name, format=fmt), x.output, modes)


def shapes(graph: Graph):
    return {op.name: op.output.shape[0] for op in graph}


def planes(name, x, codes=(0, 1, 2, 0, 3)):
    """Five channels of 2 x 2, two of them always zero, made of the one channel of ``x``."""
    scale, offset = const(codes, FixedPoint(3, 0)), const([0] * len(codes), FixedPoint(1, 0))
    wide = Rearrange(Tensor(f"{name}.repeated", (len(codes), 2, 2), X), x.output, tuple(range(4)) * len(codes))
    return wide, Affine(Tensor(name, wide.output.shape, FixedPoint(8, 2)), wide.output, scale, offset, TRN_WRAP)


def reader(name, x, felt, channels=5):
    """A layer that feels some channels of a tensor of several axes."""
    flat = Reshape(Tensor(f"{name}.flat", (x.size,), x.format), x)
    weight = np.zeros((2, channels, x.size // channels), dtype=int)
    weight[0, felt, 1] = weight[1, felt, 0] = 3
    return flat, dense(name, flat, weight.reshape(2, -1), [1, 2])


def test_channels_of_several_axes_go():
    x = entry(X, 1, 2, 2)
    wide, scaled = planes("scaled", x)
    graph = chain(x, wide, scaled, *reader("y", scaled.output, [0, 2, 3]))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert [op.output.shape for op in result] == [(1, 2, 2), (1, 2, 2), (1, 2, 2), (4,), (2,)]
    assert result.ops[1].source == (0, 1, 2, 3) and result.ops[2].scale.codes.tolist() == [2]


def test_a_channel_that_another_reader_needs_stays_for_all():
    x = entry(X, 1, 2, 2)
    wide, scaled = planes("scaled", x)
    one, two = reader("one", scaled.output, [2]), reader("two", scaled.output, [1])
    graph = chain(x, wide, scaled, *one, *two, outputs=(one[-1].output, two[-1].output))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert [op.output.shape[0] for op in result] == [1, 2, 2, 8, 2, 8, 2]


@pytest.mark.parametrize("make", [Add, Subtract, Maximum, Minimum])
def test_a_residual_keeps_what_either_side_must(make):
    x = entry(X, 1, 2, 2)
    wide, scaled = planes("scaled", x)
    act = Cast(replace(scaled.output, name="act"), scaled.output, RND_SAT)
    total = make(Tensor("total", scaled.output.shape, FixedPoint(9, 2)), scaled.output, act.output)
    graph = chain(x, wide, scaled, act, total, *reader("y", total.output, [2, 4]))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert [op.output.shape[0] for op in result] == [1, 2, 2, 2, 2, 8, 2]


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1), (1, 2, 2)])
def test_an_operand_with_one_element_for_many(shape):
    x, weights = entry(X, 1, 2, 2), Input(Tensor("w", shape, X))
    wide, scaled = planes("scaled", x)
    places = np.broadcast_to(np.arange(np.prod(shape)).reshape(shape), (5, 2, 2))
    gate = Rearrange(Tensor("gate", (5, 2, 2), X), weights.output, tuple(places.ravel().tolist()))
    gated = Multiply(Tensor("gated", (5, 2, 2), FixedPoint(16, 4)), gate.output, scaled.output)
    picked = BySign(Tensor("picked", (5, 2, 2), gated.output.format), gate.output, gated.output, scaled.output)
    graph = chain(x, weights, wide, scaled, gate, gated, picked, *reader("y", picked.output, [1, 2]))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert [op.output.shape[0] for op in result] == [1, shape[0], 2, 2, 2, 2, 2, 8, 2]


def test_parts_of_a_concatenation_shrink_each_by_itself():
    x = entry(X, 1, 2, 2)
    (wide, one), (wide_two, two) = planes("one", x), planes("two", x, (1, 0))
    both = Concat(Tensor("both", (7, 2, 2), FixedPoint(8, 2)), (one.output, two.output))
    graph = chain(x, wide, one, wide_two, two, both, *reader("y", both.output, [2, 4, 6], channels=7))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert {op.name: op.output.shape[0] for op in result} == {
        "x": 1, "one.repeated": 2, "one": 2, "two.repeated": 1, "two": 1, "both": 3, "y.flat": 12, "y": 2
    }  # fmt: skip


def test_parts_along_another_axis_keep_the_same_channels():
    x = entry(X, 1, 2, 2)
    (wide, one), (wide_two, two) = planes("one", x), planes("two", x)
    both = Concat(Tensor("both", (5, 4, 2), FixedPoint(8, 2)), (one.output, two.output), axis=1)
    graph = chain(x, wide, one, wide_two, two, both, *reader("y", both.output, [4]))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert [op.output.shape[0] for op in result] == [1, 1, 1, 1, 1, 1, 8, 2]


def test_a_rearrangement_reads_what_is_left():
    x = entry(X)
    one = dense("one", x, FIRST, FIRST_BIAS)
    moved = Rearrange(Tensor("moved", (7,), ACC), one.output, (4, NOWHERE, 2, 0, 0, 1, 3), fill=5)
    graph = chain(x, one, moved, dense("y", moved, [[0, 3, 2, 0, 1, 1, 0]], [1], FixedPoint(30, 8)))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result) == {"x": 3, "one": 2, "moved": 2, "y": 1}
    assert result.ops[2].source == (1, 0) and result.ops[2].fill == 5


def test_a_reshape_keeps_whole_channels():
    x = entry(X)
    one = dense("one", x, FIRST[[0, 1, 2, 3, 4, 0]], [*FIRST_BIAS, 1])
    folded = Reshape(Tensor("folded", (3, 2), ACC), one.output)
    flat = Reshape(Tensor("flat", (6,), ACC), folded.output)
    graph = chain(x, one, folded, flat, dense("y", flat, [[1, 0, 0, 0, 0, 2]], [1], FixedPoint(30, 8)))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result) == {"x": 3, "one": 4, "folded": 2, "flat": 4, "y": 1}


def conv(name, x, weight, bias, window, modes=None, reuse=1):
    weight = np.array(weight)
    shape = (len(weight), *window.positions)
    return Conv(Tensor(name, shape, ACC), x.output, const(weight, W), const(bias, B), modes, reuse, window=window)


WINDOW = Window((Sliding(3, 2, before=1), Sliding(3, 2, after=1)))


@pytest.mark.parametrize("modes", [None, Modes(Rounding.RND, Overflow.SAT)])
@pytest.mark.parametrize("pool", [MaxPool, SumPool])
def test_channels_of_convolutions_go(pool, modes):
    """The second is always zero, the third nobody feels; a constant that is not zero stays, since padding is not it."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-4, 5, size=(5, 2, 2, 2)) | 1
    weight[[1, 4]] = 0
    x = entry(X, 2, 3, 3)
    first = conv("first", x, weight, [3, 0, 1, -2, 8], WINDOW, modes, reuse=2)
    act = cast("act", first)
    extra = (const([1], FixedPoint(1, 0, False)),) if pool is SumPool else ()
    windows = Window((Sliding(3, 2), Sliding(3, 2)))
    fmt = ACT if pool is MaxPool else FixedPoint(8, 1)
    pooled = pool(Tensor("pooled", (5, 2, 2), fmt), act.output, windows, *extra)
    weight = rng.integers(-4, 5, size=(3, 5, 2, 2)) | 1
    weight[:, 2] = 0
    padded = Window((Sliding(2, 2, before=1), Sliding(2, 2, before=1)))
    second = conv("second", pooled, weight, [1, 2, 3], padded, modes)
    graph = chain(x, first, act, pooled, second)
    result = prune_neurons(graph)
    same_bits(graph, result)
    kept = 3 if modes is None else 4  # a sum that is cast is no constant
    assert shapes(result) == {"x": 2, "first": kept, "act": kept, "pooled": kept, "second": 3}
    assert result.notes == (f"dropped neurons: {5 - kept} of first",)
    assert prune_neurons(result).ops == result.ops


@pytest.mark.parametrize("groups", [2, 4])
def test_groups_go_as_a_whole(groups):
    rng = np.random.default_rng(0)
    x = entry(X, 1, 3, 3)
    first = conv("first", x, rng.integers(-4, 5, size=(4, 1, 2, 2)) | 1, [1, 2, 3, 4], WINDOW)
    act = cast("act", first)
    weight = rng.integers(-4, 5, size=(8, 4 // groups, 2, 2)) | 1
    second = conv("second", act, weight, range(8), WINDOW)
    act_too = cast("act_too", second)
    last = rng.integers(-4, 5, size=(2, 8, 2, 2)) | 1
    last[:, :5] = 0
    graph = chain(x, first, act, second, act_too, conv("last", act_too, last, [1, 2], WINDOW))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result)["act"] == 2 and shapes(result)["second"] == 4
    assert result.ops[3].groups == groups // 2


@pytest.mark.parametrize("groups", [1, 2])
def test_sparse_convolutions_lose_channels_too(groups):
    """As the dense ones do; a multiplier is shared by as many weights as before, if there are so many."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-4, 5, size=(4, 1, 2, 2)) | 1
    weight[1] = 0
    x = entry(X, 1, 3, 3)
    first = conv("first", x, weight, [3, 0, 1, -2], WINDOW)
    act = cast("act", first)
    weight = rng.integers(-4, 5, size=(4, 4 // groups, 2, 2))
    weight[:2] = 0
    second = conv("second", act, weight, [0, 0, 1, 2], WINDOW)
    act_too = cast("act_too", second)
    dense = chain(x, first, act, second, act_too, conv("last", act_too, np.ones((1, 4, 2, 2), int), [1], WINDOW))
    graph = choose("coo")(dense)
    graph = graph.rebuilt([*graph.ops[:3], replace(graph.ops[3], reuse_factor=5), *graph.ops[4:]], {})
    result = prune_neurons(graph)
    same_bits(graph, result)
    expected = choose("coo")(prune_neurons(dense))
    assert shapes(result) == shapes(expected) and shapes(result)["second"] < 4
    assert (result.ops[3].groups, result.ops[3].reuse_factor) == (1, 5)
    assert prune_neurons(result).ops == result.ops


@pytest.mark.parametrize("channels", [1, 5])
def test_tables_lose_those_of_their_channels(channels):
    x = entry(X)
    one = dense("one", x, FIRST, FIRST_BIAS)
    act = cast("act", one)
    entries = const(np.random.default_rng(0).integers(-8, 8, size=(channels, 16)), X)
    table = Table(Tensor("table", (5,), X), act.output, 0, entries)
    graph = chain(x, one, act, table, dense("two", table, SECOND, [1, 2]))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result) == {"x": 3, "one": 2, "act": 2, "table": 2, "two": 2}
    assert len(result.ops[3].entries.codes) == min(channels, 2)


@dataclass(frozen=True)
class Unknown(Op):
    """What no pass has heard of: an element's place matters."""

    a: Tensor
    b: Tensor

    def eval(self, *codes):
        return codes[0] * np.arange(self.a.shape[0]) + codes[1][:, ::-1]

    def bounds(self, *bounds):
        return Bounds.everywhere(self.output.shape, self.output.format.min_code, self.output.format.max_code)


def test_an_unknown_op_keeps_all_that_it_reads_and_makes():
    x = entry(X)
    one, two = dense("one", x, FIRST, FIRST_BIAS), dense("two", x, FIRST, FIRST_BIAS)
    unknown = Unknown(Tensor("unknown", (5,), FixedPoint(30, 6)), one.output, two.output)
    graph = chain(x, one, two, unknown, dense("y", unknown, [[0, 0, 1, 0, 0]], [0], FixedPoint(50, 8)))
    assert prune_neurons(graph) is graph
    largest = ArgMax(Tensor("largest", (1,), FixedPoint(3, 0, False)), one.output)
    assert prune_neurons(chain(x, one, largest)) == chain(x, one, largest)
