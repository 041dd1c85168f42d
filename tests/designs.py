"""Small graphs made by hand, for whatever comes after the passes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from compress.fixed import FixedPoint, Overflow, Rounding
from export.casts import covering
from export.emulator import Emulator
from export.ir import Const, Graph, Op, Tensor
from export.ops import (
    Affine,
    Cast,
    ChannelCast,
    Clip,
    Dense,
    Flatten,
    Input,
    Maximum,
    Modes,
    ReLU,
    SparseDense,
    Threshold,
)

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
    flat = add(Flatten(Tensor("flat", (6,), scaled.format), scaled))
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
