"""Give every exact accumulator the narrowest format that holds all its partial sums."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from typing import TypeGuard

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Graph, GraphError, Op, Tensor
from export.ops import (
    Add,
    Affine,
    ArgMax,
    BySign,
    Cast,
    ChannelCast,
    Clip,
    Concat,
    Conv,
    Dense,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Rearrange,
    ReLU,
    Requantize,
    Reshape,
    SparseDense,
    Subtract,
    SumOfProducts,
    SumPool,
    Table,
    Threshold,
)


def fit_accumulators(graph: Graph) -> Graph:
    """Interval arithmetic over the actual weights decides; accumulators with stated modes are the user's and stay."""
    replacement: dict[Tensor, Tensor] = {}
    reach: dict[Tensor, Bounds] = {}
    ops: list[Op] = []
    for op in graph:
        readers, op = graph.consumers(op.output), op.rewired(replacement)
        if _is_exact_sum(op) and op.output not in graph.outputs:
            need = op.accumulator(reach[op.x])
            if need != op.output.format and all(can_read(reader, op.output, need) for reader in readers):
                fitted = replace(op.output, format=need)
                replacement[op.output] = fitted
                op = replace(op, output=fitted)
        reach[op.output] = op.bounds(*(reach[t] for t in op.inputs))
        ops.append(op)
    return graph.rebuilt(ops, replacement)


def _is_exact_sum(op: Op) -> TypeGuard[SumOfProducts | SumPool]:
    return isinstance(op, SumPool) or (isinstance(op, SumOfProducts) and op.modes is None)


@singledispatch
def can_read(reader: Op, tensor: Tensor, fmt: FixedPoint) -> bool:
    """Whether the reader computes the same numbers if the ``tensor`` that it reads has the format ``fmt``.

    Of an op that is not listed below it is not assumed.
    """
    return False


def _can_by_law(reader: Op, tensor: Tensor, fmt: FixedPoint) -> bool:
    """For ops that read numbers, wherever the binary point is, as far as their laws allow."""
    try:
        reader.rewired({tensor: replace(tensor, format=fmt)})
    except GraphError:
        return False
    return True


for _op in (Add, Affine, ArgMax, BySign, Cast, ChannelCast, Clip, Concat, Conv, Dense, Maximum, MaxPool, Minimum,
            Multiply, Rearrange, ReLU, Requantize, Reshape, SparseDense, Subtract, SumPool, Threshold):  # fmt: skip
    can_read.register(_op)(_can_by_law)


@can_read.register
def _(reader: Table, tensor: Tensor, fmt: FixedPoint) -> bool:
    """Codes choose its entries."""
    return tensor.format.frac == fmt.frac
