"""Integer graphs over tensors with spatial axes: those of :mod:`recipes.fuzz.planes`, and some made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from designs import QUANTIZER, exact_conv, exact_dense

from compress.fixed import FixedPoint
from export.ir import Const, Graph, Op, Tensor
from export.ops import (
    Add,
    Cast,
    Concat,
    Input,
    MaxPool,
    Minimum,
    Modes,
    ReLU,
    Reshape,
    SparseDense,
)
from export.ops.casts import covering
from export.ops.movement import Rearrange
from export.ops.windows import Sliding, Window
from recipes.fuzz.planes import random_plane

__all__ = ["far_moved", "flattened", "gated", "random_plane", "residual", "small", "tail"]


def residual(size: int = 6, name: str = "residual") -> Graph:
    """Two convolutions and what goes past them, summed: the block of residual networks."""
    x = Tensor("x", (2, size, size), FixedPoint(6, 3))
    ops: list[Op] = [Input(x, QUANTIZER)]
    window = Window((Sliding(size, 3, 1, 1, 1, 1),) * 2)
    for number in (1, 2):
        rng = np.random.default_rng(number)
        weight = Const(rng.integers(-3, 4, size=(2, 2, 3, 3)), FixedPoint(3, 2))
        bias = Const(rng.integers(-8, 8, size=2), FixedPoint(4, 3))
        y = exact_conv(f"conv{number}", ops[-1].output, weight, bias, window, tuple(ops))
        act = Cast(Tensor(f"act{number}", y.output.shape, FixedPoint(5, 3, signed=number == 2)), y.output, QUANTIZER)
        ops += [y, act]
    ops.append(Add(Tensor("sum", x.shape, FixedPoint(7, 3)), ops[-1].output, x))
    return Graph(name, tuple(ops), (ops[-1].output,)).verify()


def small(name: str = "tiny_streams") -> Graph:
    """What a streamed convolutional design consists of, small enough to be read: a block, pooling, a layer."""
    ops = list(residual(4))
    relu = ReLU(Tensor("relu", (2, 4, 4), FixedPoint(6, 3, signed=False)), ops[-1].output)
    pooled = MaxPool(Tensor("pooled", (2, 2, 2), relu.output.format), relu.output, Window((Sliding(4, 2, 2),) * 2))
    flat = Reshape(Tensor("flat", (8,), relu.output.format), pooled.output)
    ops += [relu, pooled, flat]
    rng = np.random.default_rng(3)
    weight, bias = Const(rng.integers(-7, 8, size=(3, 8)), FixedPoint(4, 2)), Const([1, -2, 3], FixedPoint(4, 1))
    ops.append(exact_dense("fc", flat.output, weight, bias, tuple(ops)))
    return Graph(name, tuple(ops), (ops[-1].output,)).verify()


def flattened(
    shape: tuple[int, ...],
    outputs: int,
    reuse_factor: int,
    modes: Modes | None = None,
    name: str = "flattened",
    share: float | None = None,
) -> Graph:
    """A layer over all channels at all positions, its sums exact or cast, and a cast behind it.

    Where only a ``share`` of the weights is there the layer is sparse.
    """
    rng = np.random.default_rng(reuse_factor)
    x = Tensor("x", shape, FixedPoint(6, 3))
    flat = Reshape(Tensor("flat", (x.size,), x.format), x)
    ops: list[Op] = [Input(x, QUANTIZER), flat]
    codes = rng.integers(-15, 16, size=(outputs, x.size))
    if share is not None:
        codes *= rng.random(codes.shape) < share
    weight = Const(codes, FixedPoint(5, 3))
    bias = Const(rng.integers(-8, 8, size=outputs), FixedPoint(4, 3))
    layer = exact_dense("fc", flat.output, weight, bias, tuple(ops))
    if modes:
        layer = replace(layer, output=replace(layer.output, format=FixedPoint(10, 4)), modes=modes)
    fc = replace(layer, reuse_factor=reuse_factor) if share is None else SparseDense.of(layer, reuse_factor)
    act = Cast(Tensor("act", (outputs,), FixedPoint(6, 1)), fc.output, QUANTIZER)
    return Graph(name, (*ops, fc, act), (act.output,)).verify()


def gated(reuse_factor: int, name: str = "gated") -> Graph:
    """A layer over everything decides how much of each channel passes, for which the channels have to wait."""
    ops = list(flattened((3, 4, 2), 3, reuse_factor).ops)
    x, gate = ops[0].output, ops[-1].output
    single = Reshape(Tensor("single", (3, 1, 1), gate.format), gate)
    source = np.broadcast_to(np.arange(3)[:, None], (3, 8)).ravel().tolist()
    repeated = Rearrange(Tensor("repeated", x.shape, gate.format), single.output, tuple(source))
    passed = Minimum(Tensor("passed", x.shape, covering((x.format, gate.format))), x, repeated.output)
    return Graph(name, (*ops, single, repeated, passed), (passed.output,)).verify()


def tail(reuse_factor: int, name: str = "tail") -> Graph:
    """Two convolutions down to 16 channels of 11 x 11 positions, and a layer of 10 outputs behind them."""
    rng = np.random.default_rng(0)
    ops: list[Op] = [Input(Tensor("x", (1, 24, 24), FixedPoint(6, 3)), QUANTIZER)]
    for number, (channels, size) in enumerate(((4, 24), (16, 12)), start=1):
        x = ops[-1].output
        window = Window((Sliding(size, 2, 2 if number == 1 else 1),) * 2)
        weight = Const(rng.integers(-3, 4, size=(channels, x.shape[0], 2, 2)), FixedPoint(3, 2))
        bias = Const(rng.integers(-8, 8, size=channels), FixedPoint(4, 3))
        ops.append(exact_conv(f"conv{number}", x, weight, bias, window, tuple(ops)))
        acc = ops[-1].output
        ops.append(Cast(Tensor(f"act{number}", acc.shape, FixedPoint(4, 2, signed=False)), acc, QUANTIZER))
    x = ops[-1].output
    ops.append(Reshape(Tensor("flat", (x.size,), x.format), x))
    weight = Const(rng.integers(-7, 8, size=(10, x.size)), FixedPoint(4, 3))
    bias = Const(rng.integers(-8, 8, size=10), FixedPoint(4, 3))
    ops.append(exact_dense("fc", ops[-1].output, weight, bias, tuple(ops), reuse_factor))
    return Graph(name, tuple(ops), (ops[-1].output,)).verify()


def far_moved(name: str = "far_moved") -> Graph:
    """Numbers that move between packets: joined along either axis, turned about, shaped anew, with gaps."""
    x = Tensor("x", (3, 4, 2), FixedPoint(6, 3))
    ops: list[Op] = [Input(x, QUANTIZER)]

    def add(op: Op) -> Tensor:
        ops.append(op)
        return op.output

    fmt, rng = x.format, np.random.default_rng(0)
    narrow = add(Cast(Tensor("narrow", x.shape, FixedPoint(4, 2)), x, QUANTIZER))
    rows = add(Concat(Tensor("rows", (3, 8, 2), fmt), (x, narrow), 1))
    relu = add(ReLU(Tensor("relu", rows.shape, ReLU.positive(fmt)), rows))
    columns = add(Concat(Tensor("columns", (3, 8, 4), fmt), (relu, rows), 2))
    source = rng.integers(-1, columns.size, size=(4, 5, 2))
    anywhere = add(Rearrange(Tensor("anywhere", source.shape, fmt), columns, tuple(source.ravel().tolist()), 3))
    wide = add(Reshape(Tensor("wide", (8, 5), fmt), anywhere))
    add(ReLU(Tensor("last", wide.shape, ReLU.positive(fmt)), wide))
    return Graph(name, tuple(ops), (ops[-1].output,)).verify()
