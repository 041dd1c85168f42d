"""Drop the neurons that no output can feel, and those that never change.

A neuron whose outgoing weights are all zero changes nothing. A neuron that can only be one code (all its weights are
zero, or its activation never leaves zero) is a constant: it moves into the biases of the layers that read it, even
where the tensor cannot shrink.

What can go are channels: elements along a tensor's first axis. Three functions say what an op makes of that; of an op
that they do not know, every channel that it reads or makes stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from export.arithmetic import exact_matmul, shifted
from export.intervals import Bounds
from export.ir import Const, Graph, Op, Tensor
from export.ops import (
    Affine,
    Cast,
    ChannelCast,
    Clip,
    Concat,
    Conv,
    Convolution,
    Dense,
    Rearrange,
    ReLU,
    Requantize,
    Reshape,
    SparseConv,
    SparseDense,
    Table,
    Threshold,
)
from export.ops.elementwise import Elementwise
from export.ops.linear import SumOfProducts
from export.ops.movement import NOWHERE
from export.ops.pooling import Pool
from export.ops.reuse import legal_reuse_factors

#: Which channels.
Mask = NDArray[np.bool_]
_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class Shrinking:
    """What becomes of a graph: the channels that stay, by tensor, and the tensors with those alone."""

    keep: Mapping[Tensor, Mask]
    smaller: Mapping[Tensor, Tensor]
    reach: Mapping[Tensor, Bounds]


def prune_neurons(graph: Graph) -> Graph:
    """Inputs and outputs of the graph keep their shape; every layer keeps at least one neuron."""
    keep = kept_channels(graph)
    layers = [op for op in graph if isinstance(op, Dense | SparseDense)]
    if all(mask.all() for mask in keep.values()) and not any(
        (op.matrix[:, movable(op, graph.bounds[op.x])] != 0).any() for op in layers
    ):
        return graph
    shrinking = Shrinking(
        keep,
        {t: replace(t, shape=(int(mask.sum()), *t.shape[1:])) for t, mask in keep.items() if not mask.all()},
        graph.bounds,
    )
    dropped = {op.name: int((~keep[op.output]).sum()) for op in graph if isinstance(op, SumOfProducts)}
    counts = ", ".join(f"{count} of {name}" for name, count in dropped.items() if count)
    notes = [f"dropped neurons: {counts}"] if counts else []
    return replace(graph, ops=tuple(shrunk(op, shrinking) for op in graph), notes=(*graph.notes, *notes))


def kept_channels(graph: Graph) -> dict[Tensor, Mask]:
    """For every tensor, which channels must stay: those that a kept one downstream feels and that can change."""
    keep = {op.output: np.zeros(op.output.shape[0], dtype=bool) for op in graph}
    for tensor in (*graph.outputs, *(op.output for op in graph.inputs)):
        keep[tensor][...] = True
    count = -1
    while count != (count := sum(int(mask.sum()) for mask in keep.values())):
        for op in reversed(graph.ops):
            own = keep[op.output]
            if not own.any():
                own[0] = True
            for x, needed in zip(op.inputs, felt(op, own, [graph.bounds[x] for x in op.inputs]), strict=True):
                keep[x] |= needed
        for op in graph:  # a channel that one reader needs may bring others with it
            keep[op.output] |= brought(op, [keep[x] for x in op.inputs])
    return keep


def movable(op: Dense | SparseDense, reach: Bounds) -> Mask:
    """Inputs that are constants and may be part of the bias: an exact sum absorbs them, a cast partial sum does not."""
    return reach.constant if op.modes is None else np.zeros(op.x.shape, dtype=bool)


#: Those whose channels depend on the same channel of each input.
_BY_CHANNEL = (Affine, Cast, ChannelCast, Clip, Elementwise, Pool, ReLU, Requantize, Table, Threshold)


# -- which channels of its inputs an op needs


@singledispatch
def felt(op: Op, own: Mask, reach: Sequence[Bounds]) -> list[Mask]:
    """For each input, the channels without which the ``own`` channels of the output cannot be made."""
    return [np.ones(x.shape[0], dtype=bool) for x in op.inputs]


@felt.register(Dense)
@felt.register(SparseDense)
def _(op: Dense | SparseDense, own: Mask, reach: Sequence[Bounds]) -> list[Mask]:
    """Inputs with a weight into a kept output that no bias can stand for."""
    return [np.asarray((op.matrix[own] != 0).any(axis=0), dtype=bool) & ~movable(op, reach[0])]


@felt.register
def _(op: Convolution, own: Mask, reach: Sequence[Bounds]) -> list[Mask]:
    """Channels with a weight into a kept one that are not always zero, as the padding is; of groups, whole ones."""
    if op.groups > 1:
        return [_of_groups(_groups_of(own, op.groups), op.x)]
    zero = (reach[0].constant & (reach[0].low == 0)).reshape(len(reach[0].low), -1).all(axis=1)
    weighted = (op.matrix[own] != 0).reshape(-1, len(zero), op.window.taps).any(axis=(0, 2))
    return [np.asarray(weighted & ~zero, dtype=bool)]


@felt.register(Concat)
def _(op: Concat, own: Mask, reach: Sequence[Bounds]) -> list[Mask]:
    return [own[place] if op.axis == 0 else own for place in op.places]


@felt.register(Reshape)
def _(op: Reshape, own: Mask, reach: Sequence[Bounds]) -> list[Mask]:
    return [_channels_of(_elements_of(own, op.output), op.x)]


@felt.register(Rearrange)
def _(op: Rearrange, own: Mask, reach: Sequence[Bounds]) -> list[Mask]:
    needed = np.zeros(op.x.size, dtype=bool)
    source = op.sources[own]
    needed[source[source != NOWHERE]] = True
    return [_channels_of(needed, op.x)]


def _felt_by_channel(op: Op, own: Mask, reach: Sequence[Bounds]) -> list[Mask]:
    return [own] * len(op.inputs)


# -- which channels of its output an op makes, wanted or not


@singledispatch
def brought(op: Op, inputs: Sequence[Mask]) -> Mask:
    """The channels of the output that there must be if the ``inputs`` keep these."""
    return np.ones(op.output.shape[0], dtype=bool)


@brought.register(Dense)
@brought.register(SparseDense)
@brought.register(Rearrange)
def _(op: Op, inputs: Sequence[Mask]) -> Mask:
    """Any channel may be left out."""
    return np.zeros(op.output.shape[0], dtype=bool)


@brought.register
def _(op: Convolution, inputs: Sequence[Mask]) -> Mask:
    if op.groups > 1:
        return _of_groups(_groups_of(inputs[0], op.groups), op.output)
    return np.zeros(op.output.shape[0], dtype=bool)


@brought.register(Concat)
def _(op: Concat, inputs: Sequence[Mask]) -> Mask:
    return np.asarray(np.concatenate(inputs) if op.axis == 0 else np.logical_or.reduce(inputs), dtype=bool)


@brought.register(Reshape)
def _(op: Reshape, inputs: Sequence[Mask]) -> Mask:
    return _channels_of(_elements_of(inputs[0], op.x), op.output)


def _brought_by_channel(op: Op, inputs: Sequence[Mask]) -> Mask:
    return np.asarray(np.logical_or.reduce(inputs), dtype=bool)


for _op in _BY_CHANNEL:
    felt.register(_op)(_felt_by_channel)
    brought.register(_op)(_brought_by_channel)


# -- the op on what is left


@singledispatch
def shrunk(op: Op, to: Shrinking) -> Op:
    """The op on the channels that stay."""
    return op.moved(to.smaller)


@shrunk.register(Dense)
@shrunk.register(SparseDense)
def _(op: Dense | SparseDense, to: Shrinking) -> Op:
    """The layer on the kept inputs and outputs, constant inputs being part of its bias.

    Where the reuse factor is not legal for the smaller layer, the next smaller one is: no multiplier is shared by more.
    """
    own, inputs, reach = to.keep[op.output], to.keep[op.x], to.reach[op.x]
    matrix, bias = op.matrix[own], Const(op.bias.codes[own], op.bias.format)
    moved = movable(op, reach)
    constants = np.where(moved, reach.low, 0)
    if np.any(constants != 0):
        frac = op.exact_frac
        constant = shifted(exact_matmul(constants[None, :], matrix)[0], frac - op.product_frac)
        codes = shifted(bias.codes, frac - bias.format.frac).astype(object) + constant
        bias = Const.fitting(codes, frac)
    weight = Const(np.where(moved, 0, matrix)[:, inputs], op.weight.format)
    output, x = (to.smaller.get(t, t) for t in (op.output, op.x))
    if isinstance(op, Dense):
        reuse = _legal_reuse(op, *weight.shape[::-1])
        return replace(op, x=x, output=output, weight=weight, bias=bias, reuse_factor=reuse)
    dense = Dense(output, x, weight, bias, op.modes)
    nonzero = int(np.count_nonzero(weight.codes))
    return SparseDense.of(dense, min(op.reuse_factor, nonzero)) if nonzero else dense


@shrunk.register
def _(op: Convolution, to: Shrinking) -> Op:
    own, inputs = to.keep[op.output], to.keep[op.x]
    codes = op.matrix[own].reshape(-1, op.read, *op.window.kernel)
    weight = Const(codes if op.groups > 1 else codes[:, inputs], op.weight.format)
    bias = Const(op.bias.codes[own], op.bias.format)
    if isinstance(op, Conv):
        reuse = _legal_reuse(op, weight.shape[1] * op.window.taps, len(codes))
        return op.moved(to.smaller, weight=weight, bias=bias, reuse_factor=reuse)
    output, x = (to.smaller.get(t, t) for t in (op.output, op.x))
    conv = Conv(output, x, weight, bias, op.modes, window=op.window)
    nonzero = int(np.count_nonzero(weight.codes))
    return SparseConv.of(conv, min(op.reuse_factor, nonzero)) if nonzero else conv


@shrunk.register(ChannelCast)
def _(op: ChannelCast, to: Shrinking) -> Op:
    return op.moved(to.smaller, formats=_chosen(op.formats, to.keep[op.output]))


@shrunk.register(Requantize)
def _(op: Requantize, to: Shrinking) -> Op:
    own = to.keep[op.output]
    formats = None if op.formats is None else _chosen(op.formats, own)
    return op.moved(to.smaller, scale=_chosen(op.scale, own), offset=_chosen(op.offset, own), formats=formats)


@shrunk.register(Affine)
@shrunk.register(Clip)
@shrunk.register(Threshold)
def _(op: Op, to: Shrinking) -> Op:
    own = to.keep[op.output]
    return op.moved(to.smaller, **{name: Const(c.codes[own], c.format) for name, c in op.constants.items()})


@shrunk.register(Table)
def _(op: Table, to: Shrinking) -> Op:
    codes = op.entries.codes[to.keep[op.output]] if op.entries.shape[0] > 1 else op.entries.codes
    return op.moved(to.smaller, entries=Const(codes, op.entries.format))


@shrunk.register(Rearrange)
def _(op: Rearrange, to: Shrinking) -> Op:
    left = _elements_of(to.keep[op.x], op.x)
    place = np.append(np.cumsum(left) - 1, NOWHERE)  # behind the last: where "nowhere" looks
    return op.moved(to.smaller, source=tuple(place[op.sources[to.keep[op.output]]].ravel().tolist()))


def _legal_reuse(op: Dense | Conv, inputs: int, outputs: int) -> int:
    return max(r for r in legal_reuse_factors(inputs, outputs) if r <= op.reuse_factor)


def _groups_of(channels: Mask, groups: int) -> Mask:
    """Which of the groups have any of these channels."""
    return np.asarray(channels.reshape(groups, -1).any(axis=1), dtype=bool)


def _of_groups(groups: Mask, tensor: Tensor) -> Mask:
    """The channels of these groups."""
    return np.repeat(groups, tensor.shape[0] // len(groups))


def _chosen(values: tuple[_Entry, ...], mask: Mask) -> tuple[_Entry, ...]:
    return tuple(value for value, chosen in zip(values, mask, strict=True) if chosen)


def _elements_of(channels: Mask, tensor: Tensor) -> Mask:
    """Row-major, the elements of these channels."""
    return np.repeat(channels, tensor.size // tensor.shape[0])


def _channels_of(elements: Mask, tensor: Tensor) -> Mask:
    """The channels that any of these elements lies in."""
    return np.asarray(elements.reshape(tensor.shape[0], -1).any(axis=1), dtype=bool)
