"""Drop the neurons that no output can feel, and those that never change.

A neuron whose outgoing weights are all zero changes nothing. A neuron that can only be one code (all its weights are
zero, or its activation never leaves zero) is a constant: it moves into the biases of the layers that read it, even
where the tensor cannot shrink.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import singledispatch
from typing import Any

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
    Dense,
    Flatten,
    Linear,
    Maximum,
    ReLU,
    Requantize,
    SparseDense,
    Threshold,
)
from export.reuse import legal_reuse_factors

Mask = NDArray[np.bool_]


def prune_neurons(graph: Graph) -> Graph:
    """Inputs and outputs of the graph keep their shape; every layer keeps at least one neuron."""
    keep = kept_elements(graph)
    layers = [op for op in graph if isinstance(op, Linear)]
    if all(mask.all() for mask in keep.values()) and not any(
        (op.matrix[:, movable(op, graph.bounds[op.x])] != 0).any() for op in layers
    ):
        return graph
    smaller = {
        tensor: replace(tensor, shape=(int(mask.sum()),)) if not mask.all() else tensor for tensor, mask in keep.items()
    }
    ops: list[Op] = []
    for op in graph:
        op_keep = keep[op.output]
        if isinstance(op, Linear):
            op = _without(op, op_keep, keep[op.x], graph.bounds[op.x], smaller)
        elif not op_keep.all():
            op = take(op, np.flatnonzero(op_keep), smaller)
        else:
            op = op.rewired(smaller)
        ops.append(op)
    dropped = {t.name: int((~mask).sum()) for t, mask in keep.items() if not mask.all()}
    counts = [f"{dropped[op.name]} of {op.name}" for op in layers if op.name in dropped]
    notes = [f"dropped neurons: {', '.join(counts)}"] if counts else []
    return Graph(graph.name, tuple(ops), tuple(smaller[t] for t in graph.outputs), (*graph.notes, *notes))


def kept_elements(graph: Graph) -> dict[Tensor, Mask]:
    """For every tensor, which elements must stay: those that a kept element downstream feels and that can change."""
    keep = {op.output: np.zeros(op.output.shape, dtype=bool) for op in graph}
    for tensor in graph.outputs:
        keep[tensor][...] = True
    for op in graph.inputs:
        keep[op.output][...] = True
    count = -1
    while count != (count := sum(int(mask.sum()) for mask in keep.values())):
        for op in reversed(graph.ops):
            own = keep[op.output]
            if not own.any():
                own.flat[0] = True
            for x in op.inputs:
                keep[x] |= _felt(op, own, graph.bounds[x]) if isinstance(op, Linear) else _elementwise(own, x)
        for op in graph:  # what passes its inputs through element by element keeps what another reader made them keep
            if not isinstance(op, Linear):
                for x in op.inputs:
                    keep[op.output] |= keep[x].reshape(op.output.shape)
    return keep


def movable(op: Linear, reach: Bounds) -> Mask:
    """Inputs that are constants and may be part of the bias: an exact sum absorbs them, a cast partial sum does not."""
    return reach.constant if op.modes is None else np.zeros(op.x.shape, dtype=bool)


def _felt(op: Linear, own: Mask, reach: Bounds) -> Mask:
    """Inputs with a weight into a kept output that no bias can stand for."""
    return np.asarray((op.matrix[own] != 0).any(axis=0), dtype=bool) & ~movable(op, reach)


def _elementwise(own: Mask, x: Tensor) -> Mask:
    return own if own.shape == x.shape and len(x.shape) == 1 else np.ones(x.shape, dtype=bool)


def _without(op: Linear, own: Mask, inputs: Mask, reach: Bounds, smaller: dict[Tensor, Tensor]) -> Linear:
    """The layer on the kept inputs and outputs, constant inputs being part of its bias.

    Where the reuse factor is not legal for the smaller layer, the next smaller one is: no multiplier is shared by more.
    """
    matrix, bias = op.matrix[own], Const(op.bias.codes[own], op.bias.format)
    moved = movable(op, reach)
    constants = np.where(moved, reach.low, 0)
    if np.any(constants != 0):
        frac = op.exact_frac
        constant = shifted(exact_matmul(constants[None, :], matrix)[0], frac - op.product_frac)
        codes = shifted(bias.codes, frac - bias.format.frac).astype(object) + constant
        bias = Const.fitting(codes, frac)
    weight = Const(np.where(moved, 0, matrix)[:, inputs], op.weight.format)
    if isinstance(op, Dense):
        reuse = max(r for r in legal_reuse_factors(*weight.shape[::-1]) if r <= op.reuse_factor)
        return replace(op, x=smaller[op.x], output=smaller[op.output], weight=weight, bias=bias, reuse_factor=reuse)
    dense = Dense(smaller[op.output], smaller[op.x], weight, bias, op.modes)
    nonzero = int(np.count_nonzero(weight.codes))
    return SparseDense.of(dense, min(op.reuse_factor, nonzero)) if nonzero else dense


@singledispatch
def take(op: Op, channels: NDArray[np.int64], smaller: dict[Tensor, Tensor]) -> Op:
    """The op on some of its channels."""
    raise op.fail(f"cannot drop channels of a {type(op).__name__}")


@take.register(Cast)
@take.register(Flatten)
@take.register(Maximum)
@take.register(ReLU)
def _(op: Op, channels: NDArray[np.int64], smaller: dict[Tensor, Tensor]) -> Op:
    return _on(op, smaller)


@take.register(ChannelCast)
def _(op: ChannelCast, channels: NDArray[np.int64], smaller: dict[Tensor, Tensor]) -> Op:
    return _on(op, smaller, formats=tuple(op.formats[c] for c in channels))


@take.register(Requantize)
def _(op: Requantize, channels: NDArray[np.int64], smaller: dict[Tensor, Tensor]) -> Op:
    scale, offset = (tuple(values[c] for c in channels) for values in (op.scale, op.offset))
    formats = None if op.formats is None else tuple(op.formats[c] for c in channels)
    return _on(op, smaller, scale=scale, offset=offset, formats=formats)


@take.register(Affine)
@take.register(Clip)
@take.register(Threshold)
def _(op: Op, channels: NDArray[np.int64], smaller: dict[Tensor, Tensor]) -> Op:
    return _on(op, smaller, **{name: Const(c.codes[channels], c.format) for name, c in op.constants.items()})


def _on(op: Op, smaller: dict[Tensor, Tensor], **changes: Any) -> Op:
    """The op on other tensors, its output among them; all at once, since each alone would break its law."""
    tensors = {f.name: smaller[t] for f in fields(op) if isinstance(t := getattr(op, f.name), Tensor)}
    return replace(op, **tensors, **changes)
