"""A layer whose inputs and weights are all plus or minus one compares bits instead of multiplying."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from export.arithmetic import shifted
from export.ir import Const, Graph, Op, Tensor
from export.ops import Dense, Reshape, Threshold
from export.ops.binary import SIGN, BinaryDense


def binarize(graph: Graph) -> Graph:
    """Where nobody else reads the signs: the comparisons that make them give bits, and the layers count agreements."""
    replacement: dict[Tensor, Tensor] = {}
    rewritten: dict[Op, Op] = {}
    layers: list[str] = []
    for source in graph:
        if not (isinstance(source, Threshold) and makes_signs(source)):
            continue
        between, readers = _followed(graph, source.output)
        if not readers or not all(isinstance(r, Dense) and multiplies_signs(r) for r in readers):
            continue
        for op in (source, *between):
            replacement[op.output] = replace(op.output, format=SIGN)
        rewritten[source] = _bits(source)
        rewritten |= {op: op.moved(replacement) for op in between}
        for reader in readers:
            assert isinstance(reader, Dense)
            rewritten[reader] = _counted(reader, replacement[reader.x])
            layers.append(reader.name)
    note = f"signs times signs, without a multiplier: {', '.join(layers)}" if layers else None
    return graph.rebuilt((rewritten.get(op, op) for op in graph), replacement, note)


def makes_signs(op: Threshold) -> bool:
    """Whether every result is the code -1 or +1, from one comparison or none."""
    if op.level.shape[1] != 1:
        return False
    start = op.start.codes
    return {*start.tolist(), *(start + op.step.codes.reshape(-1)).tolist()} <= {-1, 1}


def multiplies_signs(op: Dense) -> bool:
    """Whether every weight is plus or minus one power of two, and the sum is exact."""
    return op.modes is None and op.digit is not None and not op.digit.has_zeros


def _followed(graph: Graph, tensor: Tensor) -> tuple[list[Op], list[Op]]:
    """Who reads a tensor: those that only reshape it, and behind them the others. Nobody if it leaves the graph."""
    if tensor in graph.outputs:
        return [], []
    between, readers = [], []
    for op in graph.consumers(tensor):
        if isinstance(op, Reshape):
            further, behind = _followed(graph, op.output)
            if not behind:  # some sign leaves the graph
                return [], []
            between += [op, *further]
            readers += behind
        else:
            readers.append(op)
    return between, readers


def _bits(op: Threshold) -> Threshold:
    """0 for -1 and 1 for +1."""
    start = (op.start.codes + 1) // 2
    step = op.step.codes.reshape(-1) // 2
    return Threshold(replace(op.output, format=SIGN), op.x, op.level, Const(start, SIGN), Const.fitting(step, 0))


def _counted(op: Dense, x: Tensor) -> BinaryDense:
    """The same sum: an agreement takes a product from -1 to +1, which is two."""
    assert op.digit is not None
    frac = op.x.format.frac + op.digit.frac - 1
    none_agree = x.size  # products of -1, in units of half an agreement
    exact = max(frac + 1, op.bias.format.frac)
    offset = shifted(op.bias.codes, exact - op.bias.format.frac) - (none_agree << (exact - frac - 1))
    bits = Const((op.weight.codes > 0).astype(np.int64), SIGN)
    return BinaryDense(op.output, x, bits, Const.fitting(offset, exact), frac)
