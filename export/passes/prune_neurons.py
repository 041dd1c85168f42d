"""Drop the neurons that no output can feel, and those that never change.

A neuron whose outgoing weights are all zero changes nothing. A neuron that can only be one code (all its weights are
zero, or its activation never leaves zero) is a constant: it moves into the biases of the layers that read it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from export.arithmetic import exact_matmul, shifted
from export.intervals import Bounds
from export.ir import Const, Graph, Op, Tensor
from export.ops import Affine, Cast, Dense, Flatten, Linear, ReLU, Requantize, SparseDense, Threshold
from export.reuse import legal_reuse_factors

Mask = NDArray[np.bool_]


def prune_neurons(graph: Graph) -> Graph:
    """Inputs and outputs of the graph keep their shape; every layer keeps at least one neuron."""
    keep = kept_elements(graph)
    if all(mask.all() for mask in keep.values()):
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
    layers = [op.name for op in graph if isinstance(op, Linear) and op.name in dropped]
    notes = [f"dropped neurons: {', '.join(f'{dropped[name]} of {name}' for name in layers)}"] if layers else []
    return Graph(graph.name, tuple(ops), tuple(smaller[t] for t in graph.outputs), (*graph.notes, *notes))


def kept_elements(graph: Graph) -> dict[Tensor, Mask]:
    """For every tensor, which elements must stay: those that a kept element downstream feels and that can change."""
    keep = {op.output: np.zeros(op.output.shape, dtype=bool) for op in graph}
    for tensor in graph.outputs:
        keep[tensor][...] = True
    for op in graph.inputs:
        keep[op.output][...] = True
    for op in reversed(graph.ops):
        own = keep[op.output]
        if not own.any():
            own.flat[0] = True
        for x in op.inputs:
            keep[x] |= _felt(op, own, graph.bounds[x]) if isinstance(op, Linear) else _elementwise(own, x)
    for op in graph:  # what passes its input through element by element keeps what another reader made it keep
        if not isinstance(op, Linear):
            for x in op.inputs:
                keep[op.output] = keep[x].reshape(op.output.shape)
    return keep


def _felt(op: Linear, own: Mask, reach: Bounds) -> Mask:
    """Inputs with a weight into a kept output. An exact sum absorbs constants; a cast partial sum must see them."""
    felt = np.asarray((op.matrix[own] != 0).any(axis=0), dtype=bool)
    return felt & ~reach.constant if op.modes is None else felt


def _elementwise(own: Mask, x: Tensor) -> Mask:
    return own if own.shape == x.shape and len(x.shape) == 1 else np.ones(x.shape, dtype=bool)


def _without(op: Linear, own: Mask, inputs: Mask, reach: Bounds, smaller: dict[Tensor, Tensor]) -> Linear:
    """The layer on the kept inputs and outputs, the constants of dropped inputs added to its bias.

    Where the reuse factor is not legal for the smaller layer, the next smaller one is: no multiplier is shared by more.
    """
    matrix, bias = op.matrix[own], Const(op.bias.codes[own], op.bias.format)
    dropped = np.where(reach.constant & ~inputs, reach.low, 0)
    if op.modes is None and np.any(dropped != 0):
        frac = op.exact_frac
        constant = shifted(exact_matmul(dropped[None, :], matrix)[0], frac - op.product_frac)
        codes = shifted(bias.codes, frac - bias.format.frac).astype(object) + constant
        bias = Const.fitting(codes, frac)
    weight = Const(matrix[:, inputs], op.weight.format)
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
@take.register(ReLU)
def _(op: Cast | Flatten | ReLU, channels: NDArray[np.int64], smaller: dict[Tensor, Tensor]) -> Op:
    return replace(op, x=smaller[op.x], output=smaller[op.output])


@take.register
def _(op: Requantize, channels: NDArray[np.int64], smaller: dict[Tensor, Tensor]) -> Op:
    return replace(
        op,
        x=smaller[op.x],
        output=smaller[op.output],
        scale=tuple(op.scale[c] for c in channels),
        offset=tuple(op.offset[c] for c in channels),
    )


@take.register
def _(op: Affine, channels: NDArray[np.int64], smaller: dict[Tensor, Tensor]) -> Op:
    scale, offset = (Const(c.codes[channels], c.format) for c in (op.scale, op.offset))
    return replace(op, x=smaller[op.x], output=smaller[op.output], scale=scale, offset=offset)


@take.register
def _(op: Threshold, channels: NDArray[np.int64], smaller: dict[Tensor, Tensor]) -> Op:
    level, start, step = (Const(c.codes[channels], c.format) for c in (op.level, op.start, op.step))
    return replace(op, x=smaller[op.x], output=smaller[op.output], level=level, start=start, step=step)
