"""Give every exact result the narrowest format that holds it: accumulators, and whatever is computed from them."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from compress.fixed import FixedPoint
from export.ir import Graph, GraphError, Op, Tensor
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
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Rearrange,
    ReLU,
    Requantize,
    Reshape,
    Softmax,
    Subtract,
    SumOfProducts,
    SumPool,
    Table,
    Threshold,
)
from export.ops.casts import covering


def fit_accumulators(graph: Graph) -> Graph:
    """Interval arithmetic over the actual weights decides. What a cast makes, or leaves the graph, stays as it is.

    So does what some reader can only read as it is: that is found by trying.
    """
    needs = {op.output: _held(graph, op) for op in graph}
    kept = set(graph.outputs)
    while isinstance(tried := _fitted(graph, needs, kept), set):
        kept |= tried
    return tried


def _held(graph: Graph, op: Op) -> tuple[int, int]:
    """The least and the greatest code that the output has to hold: of a sum of products, at any moment."""
    if not (isinstance(op, SumOfProducts) and op.modes is None):
        return graph.bounds[op.output].range
    low, high = op.partial_sums(graph.bounds[op.x]).range
    shift = op.output.format.frac - op.exact_frac
    return low << shift, high << shift


def _fitted(graph: Graph, needs: dict[Tensor, tuple[int, int]], kept: set[Tensor]) -> Graph | set[Tensor]:
    """The graph with all formats but those of ``kept`` fitted; or tensors to keep, since an op cannot read them."""
    replacement: dict[Tensor, Tensor] = {}
    ops: list[Op] = []
    for op in graph:
        changed = {t for t in op.inputs if t in replacement}
        formats = [replacement.get(t, t).format for t in op.inputs]
        fmt = None if op.output in kept else narrowest(op, needs[op.output], *formats)
        if fmt is not None and fmt != op.output.format and fmt.width <= op.output.format.width:
            replacement[op.output] = replace(op.output, format=fmt)
        try:
            ops.append(_moved(op, replacement))
        except GraphError:
            return changed or {op.output}
    return graph.rebuilt(ops, replacement)


def _moved(op: Op, replacement: dict[Tensor, Tensor]) -> Op:
    """``op`` reading and making tensors of other formats, and the same numbers. Raises GraphError where it cannot."""
    if any(t in replacement and not _reads_numbers(op, t, replacement[t].format) for t in op.inputs):
        raise op.fail("what it reads has another format")
    if isinstance(op, Rearrange):
        dropped = op.output.format.frac - replacement.get(op.output, op.output).format.frac
        return op.moved(replacement, fill=op.fill >> dropped if op.is_filled else 0)
    return op.moved(replacement)


def _reads_numbers(op: Op, tensor: Tensor, fmt: FixedPoint) -> bool:
    """Whether it is the numbers that ``op`` reads, wherever their binary point is, as far as its law allows.

    Of an op that is not listed it is not assumed.
    """
    if isinstance(op, Table):  # codes choose its entries
        return tensor.format.frac == fmt.frac
    return isinstance(op, _READ_NUMBERS)


_READ_NUMBERS = (Add, Affine, ArgMax, BySign, Cast, ChannelCast, Clip, Concat, Maximum, MaxPool, Minimum, Multiply,
                 Rearrange, ReLU, Requantize, Reshape, Softmax, Subtract, SumOfProducts, SumPool,
                 Threshold)  # fmt: skip


@singledispatch
def narrowest(op: Op, held: tuple[int, int], *formats: FixedPoint) -> FixedPoint | None:
    """The narrowest format for the codes from ``held[0]`` to ``held[1]`` of its output, where it reads ``formats``.

    None of an op whose format is not a matter of what fits but of what its results are.
    """
    return None


def _covered(op: Op, held: tuple[int, int], frac: int) -> FixedPoint:
    """With fewer fraction bits than the output has, all of which are zero."""
    low, high = (code >> (op.output.format.frac - frac) for code in held)
    return FixedPoint.covering(low, high, frac)


@narrowest.register
def _(op: SumOfProducts, held: tuple[int, int], x: FixedPoint) -> FixedPoint | None:
    if op.modes is not None:  # the user's
        return None
    return _covered(op, held, max(x.frac + op.weight.format.frac, op.bias.format.frac))


@narrowest.register
def _(op: SumPool, held: tuple[int, int], x: FixedPoint) -> FixedPoint:
    return _covered(op, held, x.frac + op.weight.format.frac)


@narrowest.register
def _(op: BinaryDense, held: tuple[int, int], x: FixedPoint) -> FixedPoint:
    return _covered(op, held, max(op.frac, op.offset.format.frac))


@narrowest.register(Add)
@narrowest.register(Subtract)
def _(op: Add | Subtract, held: tuple[int, int], a: FixedPoint, b: FixedPoint) -> FixedPoint:
    return _covered(op, held, max(a.frac, b.frac))


@narrowest.register
def _(op: Multiply, held: tuple[int, int], a: FixedPoint, b: FixedPoint) -> FixedPoint:
    return _covered(op, held, a.frac + b.frac)


@narrowest.register
def _(op: ReLU, held: tuple[int, int], x: FixedPoint) -> FixedPoint:
    return ReLU.positive(x)


@narrowest.register
def _(op: BySign, held: tuple[int, int], x: FixedPoint, *chosen: FixedPoint) -> FixedPoint:
    return covering(chosen)


@narrowest.register
def _(op: Rearrange, held: tuple[int, int], x: FixedPoint) -> FixedPoint:
    if not (op.is_filled and op.fill):
        return x
    zeros = (op.fill & -op.fill).bit_length() - 1
    frac = max(x.frac, op.output.format.frac - zeros)
    fill = op.fill >> (op.output.format.frac - frac)
    return covering((x, FixedPoint.covering(min(0, fill), max(0, fill), frac)))


@narrowest.register(Maximum)
@narrowest.register(Minimum)
@narrowest.register(MaxPool)
@narrowest.register(Reshape)
@narrowest.register(Concat)
def _(op: Op, held: tuple[int, int], *formats: FixedPoint) -> FixedPoint:
    """Numbers that it reads."""
    return covering(formats)
