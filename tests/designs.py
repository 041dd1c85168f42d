"""Small graphs made by hand, for whatever comes after the passes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np

from compress.fixed import FixedPoint, Overflow, Rounding
from export.emulation.emulator import Emulator
from export.frontends.normalizing import tables
from export.frontends.precision import Precision
from export.ir import Const, Graph, Op, Tensor
from export.ops import (
    Add,
    Affine,
    ArgMax,
    BinaryDense,
    BySign,
    Cast,
    ChannelCast,
    Clip,
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
    ReLU,
    Reshape,
    SparseConv,
    SparseDense,
    Subtract,
    SumPool,
    Table,
    Threshold,
)
from export.ops.binary import SIGN
from export.ops.casts import covering
from export.ops.windows import Sliding, Window

QUANTIZER = Modes(Rounding.RND_CONV, Overflow.SAT)


def exact_dense(
    name: str, x: Tensor, weight: Const, bias: Const, before: tuple[Op, ...], reuse_factor: int = 1
) -> Dense:
    """A dense layer whose accumulator holds exactly what it must."""
    frac = max(x.format.frac + weight.format.frac, bias.format.frac)
    outputs = weight.shape[0]
    wide = Dense(Tensor(name, (outputs,), FixedPoint(64, frac)), x, weight, bias)
    reach = Graph("reach", before, (x,)).bounds[x]
    return Dense(
        Tensor(name, (outputs,), wide.partial_sums(reach).format(frac)), x, weight, bias, reuse_factor=reuse_factor
    )


def exact_conv(
    name: str, x: Tensor, weight: Const, bias: Const, window: Window, before: tuple[Op, ...], reuse_factor: int = 1
) -> Conv:
    """A convolution whose accumulator holds exactly what it must."""
    frac = max(x.format.frac + weight.format.frac, bias.format.frac)
    shape = (weight.shape[0], *window.positions)
    wide = Conv(Tensor(name, shape, FixedPoint(64, frac)), x, weight, bias, None, reuse_factor, window=window)
    return replace(wide, output=replace(wide.output, format=wide.accumulator(Graph("reach", before, (x,)).bounds[x])))


def conv_net(name: str = "conv_net", reuse_factors: tuple[int, int] = (1, 1), seed: int = 0) -> Graph:
    """A padded 2d convolution, max pooling, a grouped one, a sparse one, an average of windows that differ, a layer."""
    rng = np.random.default_rng(seed)
    x = Tensor("x", (2, 6, 5), FixedPoint(7, 4))
    ops: list[Op] = [Input(x, QUANTIZER)]

    def add(op: Op) -> Tensor:
        ops.append(op)
        return op.output

    def conv(name: str, x: Tensor, weights: tuple[int, ...], window: Window, reuse_factor: int) -> Tensor:
        weight = Const(rng.integers(-15, 16, size=weights) * (rng.random(weights) < 0.6), FixedPoint(5, 3))
        bias = Const(rng.integers(-8, 8, size=weights[0]), FixedPoint(4, 3))
        return add(exact_conv(name, x, weight, bias, window, tuple(ops), reuse_factor))

    def activation(name: str, x: Tensor) -> Tensor:
        return add(Cast(Tensor(name, x.shape, FixedPoint(5, 2, signed=False)), x, QUANTIZER))

    window = Window((Sliding(6, 3, before=1, after=1), Sliding(5, 3, 2, before=1, after=1)))
    acc = conv("conv1", x, (4, 2, 3, 3), window, reuse_factors[0])
    window = Window((Sliding(6, 2, 2), Sliding(3, 2, after=1)))
    largest = add(MaxPool(Tensor("pool", (4, *window.positions), acc.format), acc, window))
    acc = conv("conv2", activation("act1", largest), (4, 2, 2, 2), Window((Sliding(3, 2), Sliding(3, 2))),
               reuse_factors[1])  # fmt: skip
    window, act = Window((Sliding(2, 1), Sliding(2, 2, before=1))), activation("act2", acc)
    weight = Const([[[[0, 3]], [[-1, 2]]], [[[2, 0]], [[0, 1]]], [[[0, -3]], [[0, 0]]], [[[1, 0]], [[0, 2]]]],
                   FixedPoint(3, 1))  # fmt: skip
    conv3 = exact_conv("conv3", act, weight, Const([1, -2, 3, 0], FixedPoint(4, 2)), window, tuple(ops))
    act = activation("act3", add(SparseConv.of(conv3, reuse_factor=4)))
    weight = Const([2, 1, 2, 1], FixedPoint(2, 1, signed=False))
    mean = add(SumPool(Tensor("mean", (4, 2, 2), FixedPoint(9, 3, signed=False)), act, window, weight))
    flat = add(Reshape(Tensor("flat", (16,), mean.format), mean))
    weight = Const(rng.integers(-15, 16, size=(3, 16)), FixedPoint(5, 3))
    add(exact_dense("fc", flat, weight, Const([1, -2, 3], FixedPoint(3, 3)), tuple(ops)))
    return Graph(name, tuple(ops), (ops[-1].output,)).verify()


def mlp(name: str, sizes: tuple[int, ...], seed: int = 0, reuse_factors: tuple[int, ...] = ()) -> Graph:
    """Dense, ReLU, 6-bit cast, and so on; 6-bit weights, an 8-bit input."""
    rng = np.random.default_rng(seed)
    x = Tensor("x", sizes[:1], FixedPoint(8, 5))
    ops: list[Op] = [Input(x, QUANTIZER)]
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        weight = Const(rng.integers(-31, 32, size=(outputs, inputs)), FixedPoint(6, 5))
        bias = Const(rng.integers(-128, 128, size=outputs), FixedPoint(8, 7))
        reuse = reuse_factors[index] if reuse_factors else 1
        ops.append(exact_dense(f"fc{index + 1}", ops[-1].output, weight, bias, tuple(ops), reuse))
        if index < len(sizes) - 2:
            acc = ops[-1].output
            ops.append(ReLU(Tensor(f"relu{index + 1}", (outputs,), ReLU.positive(acc.format)), acc))
            narrow = Tensor(f"act{index + 1}", (outputs,), FixedPoint(6, 3, signed=False))
            ops.append(Cast(narrow, ops[-1].output, QUANTIZER))
    return Graph(name, tuple(ops), (ops[-1].output,)).verify()


def every_op(name: str = "every_op") -> Graph:
    """One of each op, dense layers with and without reuse, exact and cast."""
    x = Tensor("x", (2, 3), FixedPoint(7, 4))
    ops: list[Op] = [Input(x, QUANTIZER)]

    def add(op: Op) -> Tensor:
        ops.append(op)
        return op.output

    cast = add(Cast(Tensor("cast", (2, 3), FixedPoint(6, 2)), x, Modes(Rounding.RND, Overflow.SAT_SYM)))
    shift = Const([3, -2], FixedPoint(4, 2)), Const([1, 5], FixedPoint(6, 4))
    wrapping = Modes(Rounding.TRN_ZERO, Overflow.WRAP)
    scaled = add(Affine(Tensor("affine", (2, 3), FixedPoint(7, 3)), cast, *shift, wrapping))
    flat = add(Reshape(Tensor("flat", (6,), scaled.format), scaled))
    rows = [[1, -2, 3, 0, 5, -6], [0, 0, 7, -7, 1, 2], [3, 3, 0, 0, -1, 1], [0, 4, 0, -4, 0, 2]]
    weight = Const(rows, FixedPoint(4, 2))
    bias = Const([1, -2, 3, -4], FixedPoint(4, 3))
    fc = add(exact_dense("fc", flat, weight, bias, tuple(ops), reuse_factor=3))
    relu = add(ReLU(Tensor("relu", (4,), ReLU.positive(fc.format)), fc))
    level = Const([[0, 5, 9], [1, 1, 40], [3, 30, 300], [100, 200, 300]], FixedPoint(10, relu.format.frac, False))
    steps = Const([-2, 3, 0, 1], FixedPoint(4, 0)), Const([1, -1, 1, 1], FixedPoint(2, 0))
    steps_out = add(Threshold(Tensor("threshold", (4,), FixedPoint(4, 0)), relu, level, *steps))
    few = Const([[0, 3, 0, -1], [2, 0, 0, 0], [0, 0, -3, 0]], FixedPoint(3, 1))
    sparse = add(SparseDense.of(exact_dense("sparse", steps_out, few, Const([1, 0, -1], FixedPoint(2, 1)), tuple(ops))))
    narrow = Tensor("narrow", (2,), FixedPoint(6, 1))
    modes = Modes(Rounding.RND_MIN_INF, Overflow.SAT)
    weight, bias = Const([[1, -3, 2], [3, 1, -1]], FixedPoint(3, 1)), Const([1, 2], FixedPoint(3, 2))
    add(Dense(narrow, sparse, weight, bias, modes))
    low, high = (Const(codes, narrow.format) for codes in ([-9, -32], [31, 6]))
    clip = add(Clip(Tensor("clip", (2,), narrow.format), narrow, low, high))
    formats = FixedPoint(3, -1), FixedPoint(4, 2)
    channels = add(ChannelCast(Tensor("channels", (2,), covering(formats)), clip, formats, QUANTIZER))
    largest = add(Maximum(Tensor("largest", (2,), FixedPoint(8, 2)), channels, narrow))
    return Graph(name, tuple(ops), (largest,)).verify()


def skip_net(name: str = "skip_net") -> Graph:
    """Numbers that move, and tensors that meet: everything that reads several, with formats of their own."""
    x = Tensor("x", (2, 2, 3), FixedPoint(6, 3))
    ops: list[Op] = [Input(x, QUANTIZER)]

    def add(op: Op) -> Tensor:
        ops.append(op)
        return op.output

    def cast(name: str, fmt: FixedPoint) -> Tensor:
        return add(Cast(Tensor(name, padded.shape, fmt), padded, QUANTIZER))

    places = np.pad(np.arange(12).reshape(2, 2, 3), ((0, 0), (0, 0), (1, 0)), constant_values=-1)
    finer = Tensor("padded", (2, 2, 4), FixedPoint(8, 4))
    padded = add(Rearrange(finer, x, tuple(places.ravel().tolist()), fill=-9))
    turned = add(Rearrange(replace(finer, name="turned"), padded, tuple(range(15, -1, -1))))
    fine, coarse = cast("fine", FixedPoint(4, 4, signed=False)), cast("coarse", FixedPoint(4, 0))
    total = add(Add(Tensor("total", fine.shape, FixedPoint(10, 4)), fine, coarse))
    rest = add(Subtract(Tensor("rest", fine.shape, FixedPoint(9, 4)), turned, fine))
    product = add(Multiply(Tensor("product", fine.shape, FixedPoint(14, 4)), total, coarse))
    both = Tensor("most", fine.shape, FixedPoint(14, 4))
    most = add(Maximum(both, product, rest))
    least = add(Minimum(replace(both, name="least"), total, product))
    chosen = add(BySign(replace(both, name="chosen"), turned, most, least))
    joined = add(Concat(Tensor("joined", (2, 4, 4), both.format), (chosen, coarse), axis=1))
    rows = add(Reshape(Tensor("rows", (8, 4), joined.format), joined))
    add(ArgMax(Tensor("place", (1, 4), FixedPoint(3, 0, signed=False)), rows))
    return Graph(name, tuple(ops), (joined, ops[-1].output)).verify()


def lookup_net(name: str = "lookup_net") -> Graph:
    """Numbers that are looked up, and signs that are compared."""
    x = Tensor("x", (2, 3), FixedPoint(5, 2))
    ops: list[Op] = [Input(x, QUANTIZER)]

    def add(op: Op) -> Tensor:
        ops.append(op)
        return op.output

    rng = np.random.default_rng(0)
    curve = Tensor("curve", (2, 3), FixedPoint(6, 3))
    looked_up = add(Table(curve, x, -16, Const(rng.integers(-32, 32, size=(2, 32)), curve.format)))
    level, steps = Const([[-9, 4, 11], [-20, 0, 6]], curve.format), Const([[-2, 1, 3], [1, 4, -2]], FixedPoint(4, 1))
    turning = Tensor("turning", (2, 3), FixedPoint(4, 1))
    turned = add(Threshold(turning, looked_up, level, Const([3, -2], turning.format), steps))
    signs, up_down = Tensor("signs", (2, 3), SIGN), Const([1, -1], FixedPoint(2, 0))
    bits = add(Threshold(signs, turned, Const([[1], [0]], turning.format), Const([0, 1], SIGN), up_down))
    flat = add(Reshape(Tensor("bits", (6,), SIGN), bits))
    counted = Tensor("counted", (5,), FixedPoint(8, 3))
    weight, offset = Const(rng.integers(0, 2, size=(5, 6)), SIGN), Const([3, -8, 0, 5, -1], FixedPoint(5, 3))
    logits = add(BinaryDense(counted, flat, weight, offset, 1))
    reach = Graph("reach", tuple(ops), (logits,)).bounds[logits]
    share = Tensor("share", (5,), FixedPoint(8, 8, signed=False))
    add(tables(share, logits, Fraction(1), reach, Precision(table_width=6)))
    return Graph(name, tuple(ops), (share,)).verify()


def chain(name: str, names: list[str], size: int = 3) -> Graph:
    """An input and as many relus as it takes to use ``names`` for tensors."""
    fmt = FixedPoint(6, 3)
    ops: list[Op] = [Input(Tensor(names[0], (size,), fmt), QUANTIZER)]
    for each in names[1:]:
        ops.append(ReLU(Tensor(each, (size,), fmt), ops[-1].output))
    return Graph(name, tuple(ops), (ops[-1].output,))


def samples(graph: Graph, count: int, seed: int = 0) -> list[np.ndarray]:
    """Values for every input that reach beyond both ends of its format."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(count, *op.output.shape)) * float(op.output.format.lsb) * op.output.format.max_code * 0.7
        for op in graph.inputs
    ]


def assert_equal_traces(graph: Graph, emulator: Emulator, values: list[np.ndarray]) -> None:
    """Every tensor by name, in the order of the graph, with every code."""
    expected = graph.trace(*(op.encode(v) for op, v in zip(graph.inputs, values, strict=True)))
    got = emulator.trace_codes(*values)
    assert list(got) == [op.name for op in graph]
    for name, codes in expected.items():
        assert got[name].shape == codes.shape
        assert np.array_equal(got[name], codes), name
