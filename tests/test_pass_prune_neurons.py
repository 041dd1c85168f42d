from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from equality import RND_SAT, TRN_WRAP, chain, const, entry, kinds, on_random_graphs, same_bits

from compress.fixed import FixedPoint, Overflow, Rounding
from export.ir import Graph, Tensor
from export.ops import (
    Affine,
    Cast,
    ChannelCast,
    Clip,
    Dense,
    Input,
    Maximum,
    Modes,
    ReLU,
    Requantize,
    Reshape,
    SparseDense,
    Threshold,
)
from export.ops.casts import covering
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


def network(first_modes=None, second_modes=None, between=cast, reuse=1):
    x = entry(X)
    one = dense("one", x, FIRST, FIRST_BIAS, modes=first_modes)
    act = between("act", one)
    two = dense("two", act, SECOND, [1, 2], modes=second_modes, reuse=reuse)
    return chain(x, one, act, two)


def shapes(graph: Graph):
    return {op.name: op.output.shape[0] for op in graph}


def test_on_random_graphs():
    on_random_graphs(prune_neurons, 500)


def test_dead_neurons_go_and_constants_move_into_the_bias():
    graph = network()
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result) == {"x": 3, "one": 2, "act": 2, "two": 2}
    assert result.ops[3].bias != graph.ops[3].bias
    assert result.notes == ("dropped neurons: 3 of one",)
    assert prune_neurons(result) is result


def requantize(name, x):
    scale, offset = (tuple(Fraction(k, d) for k in range(1, 6)) for d in (3, 7))
    return Requantize(replace(x.output, name=name, format=ACT), x.output, scale, offset, RND_SAT)


def affine(name, x):
    scale, offset = const([1, 2, 3, -4, 5], FixedPoint(4, 2)), const([5, 4, 3, 2, 1], FixedPoint(4, 3))
    return Affine(replace(x.output, name=name, format=ACT), x.output, scale, offset, RND_SAT)


def threshold(name, x):
    level = const([[k, k + 50] for k in range(5)], x.output.format)
    start, step = const([1, 2, 3, 4, 5], ACT), const([1, -1, 1, -1, 1], FixedPoint(2, 1))
    return Threshold(replace(x.output, name=name, format=ACT), x.output, level, start, step)


FORMATS = (FixedPoint(3, 0, False), FixedPoint(2, 2, False), None, FixedPoint(4, 1, False), None)


def by_channel(name, x):
    return ChannelCast(replace(x.output, name=name, format=covering(FORMATS)), x.output, FORMATS, RND_SAT)


def requantize_by_channel(name, x):
    return replace(requantize(name, x), output=replace(x.output, name=name, format=covering(FORMATS)), formats=FORMATS)


def clip(name, x):
    low, high = (const(codes, x.output.format) for codes in ([-9, 0, 3, -40, 7], [90, 80, 70, 60, 50]))
    return Clip(replace(x.output, name=name), x.output, low, high)


def relu(name, x):
    return ReLU(replace(x.output, name=name, format=ReLU.positive(x.output.format)), x.output)


def flatten(name, x):
    return Reshape(replace(x.output, name=name), x.output)


@pytest.mark.parametrize("between", [requantize, affine, threshold, relu, flatten, clip])
def test_through_every_op_that_acts_channel_by_channel(between):
    x = entry(X)
    one = dense("one", x, FIRST, FIRST_BIAS)
    if between in (relu, flatten, clip):
        middle = [between("b", one)]
        middle.append(cast("act", middle[0]))
    else:
        middle = [between("act", one)]
    two = dense("two", middle[-1], SECOND, [1, 2])
    graph = chain(x, one, *middle, two)
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result)["one"] == shapes(result)["act"] == 2


@pytest.mark.parametrize("between", [by_channel, requantize_by_channel])
def test_channels_without_bits_go(between):
    """The third would be felt; as it is always zero, the two that are left are the fourth and the first."""
    second = np.array([[2, 0, 5, -1, 0], [0, 0, -3, 7, 0]])
    x = entry(X)
    one = dense("one", x, FIRST, FIRST_BIAS)
    act = between("act", one)
    graph = chain(x, one, act, dense("two", act, second, [1, 2]))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result) == {"x": 3, "one": 2, "act": 2, "two": 2}
    assert result.ops[2].formats == (FORMATS[0], FORMATS[3])


def test_an_input_channel_without_bits_stays_and_is_multiplied_by_nothing():
    formats = (FixedPoint(4, 2), None, FixedPoint(2, 1))
    x = Input(Tensor("x", (3,), covering(formats)), RND_SAT, formats)
    again = ChannelCast(Tensor("again", (3,), x.output.format), x.output, formats, RND_SAT)
    graph = chain(x, again, dense("one", again, [[1, -2, 3], [4, 5, 0]], [1, 2]))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert result.ops[2].matrix.tolist() == [[1, 0, 3], [4, 0, 0]]
    assert prune_neurons(result) is result


def test_the_larger_of_two_keeps_what_either_must():
    x = entry(X)
    one, two = dense("one", x, FIRST, FIRST_BIAS), dense("two", x, FIRST[::-1], FIRST_BIAS)
    largest = Maximum(Tensor("max", (5,), ACC), one.output, two.output)
    act = cast("act", largest)
    ends = [dense("y", act, [[0, 0, 0, 2, 0]], [1]), dense("z", two, [[0, 3, 0, 0, 0]], [1], FixedPoint(30, 8))]
    graph = chain(x, one, two, largest, act, *ends, outputs=tuple(end.output for end in ends))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert {name: n for name, n in shapes(result).items() if n == 2} == dict.fromkeys(("one", "two", "max", "act"), 2)


@pytest.mark.parametrize("overflow", Overflow)
def test_a_sum_with_modes_keeps_its_constants_and_loses_only_zeros(overflow):
    modes = Modes(Rounding.TRN, overflow)
    graph = network(second_modes=modes)
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result)["one"] == 3  # the constant 7 takes part in cast partial sums
    graph = network(first_modes=modes)  # what wraps is no constant
    result = prune_neurons(graph)
    same_bits(graph, result)


def test_sparse_layers_stay_sparse():
    graph = network()
    ops = tuple(SparseDense.of(op, reuse_factor=3) if isinstance(op, Dense) else op for op in graph)
    graph = Graph("g", ops, graph.outputs).verify()
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert kinds(result) == ["Input", "SparseDense", "Cast", "SparseDense"]
    assert shapes(result)["one"] == 2


def test_a_layer_that_loses_every_weight_is_its_bias():
    x = entry(X)
    one = dense("one", x, np.zeros((3, 3), dtype=int), [1, 20, -3])
    act = cast("act", one)
    two = SparseDense.of(dense("two", act, [[1, 2, 3]], [4]))
    graph = chain(x, one, act, two)
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result) == {"x": 3, "one": 1, "act": 1, "two": 1}
    assert prune_neurons(result).ops == result.ops


def test_inputs_and_outputs_keep_their_shape():
    x = entry(X)
    only = dense("only", x, [[0, 1, 0], [0, 0, 0]], [1, 2])
    graph = chain(x, only)
    assert prune_neurons(graph) is graph
    graph = chain(*network().ops, outputs=tuple(op.output for op in network()))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result) == shapes(graph)


def test_a_cast_of_the_input_keeps_its_shape_too():
    """The input cannot shrink, so neither can what repeats it element by element."""
    x = entry(X)
    wide = cast("c", x, FixedPoint(5, 2))
    graph = chain(x, wide, dense("y", wide, [[0, 1, 0]], [1]))
    assert prune_neurons(graph) is graph


def test_a_zero_column_behind_a_flattened_image():
    x = Input(Tensor("x", (1, 2, 2), X))
    flat = Reshape(Tensor("f", (4,), X), x.output)
    one = dense("one", flat, [[0, 1, 2, 0], [0, 0, 0, 0]], [1, 2])
    act = cast("act", one)
    graph = chain(x, flat, one, act, dense("y", act, [[1, 1]], [0]))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result)["one"] == 1 and result.ops[1] == flat


def test_readers_that_need_different_neurons():
    x = entry(X)
    one = dense("one", x, FIRST, FIRST_BIAS)
    a, b = cast("a", one), cast("b", one, FixedPoint(6, 2))
    left = dense("left", a, [[1, 0, 0, 0, 0]], [0])
    right = dense("right", b, [[0, 0, 0, 2, 0]], [0])
    direct = dense("direct", one, [[0, 0, 1, 0, 0]], [0], FixedPoint(30, 8))
    graph = chain(x, one, a, b, left, right, direct, outputs=(left.output, right.output, direct.output))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result)["one"] == 3


def test_several_axes_are_left_alone():
    x = Input(Tensor("x", (2, 3), X))
    c = Cast(Tensor("c", (2, 3), ACT), x.output, RND_SAT)
    flat = Reshape(Tensor("f", (6,), ACT), c.output)
    graph = chain(x, c, flat, dense("y", flat, [[0, 0, 1, 0, 0, 0]], [1]))
    assert prune_neurons(graph) is graph


def test_one_neuron_that_nobody_feels_stays():
    x = entry(X)
    one = dense("one", x, [[1, 2, 3]], [0])
    graph = chain(x, one, dense("two", one, [[0]], [5], FixedPoint(20, 8)))
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert shapes(result) == {"x": 3, "one": 1, "two": 1}


def test_a_reuse_factor_that_is_not_legal_any_more_shrinks():
    graph = network(reuse=5)
    result = prune_neurons(graph)
    same_bits(graph, result)
    assert result.ops[3].reuse_factor == 4  # of 2 inputs and 2 outputs; 5 of 5


def test_constants_beyond_the_bias_width_fit():
    x = entry(X)
    one = dense("one", x, np.zeros((1, 3), dtype=int), [31])
    wide = Cast(Tensor("c", (1,), FixedPoint(40, 30)), one.output, TRN_WRAP)
    two = dense("two", wide, [[7], [-8]], [1, 1], FixedPoint(60, 31))
    graph = chain(x, one, wide, two)
    result = prune_neurons(graph)
    same_bits(graph, result)
