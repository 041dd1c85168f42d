"""Numbers that move several times in a row move once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.ir import Graph, Op, Tensor
from export.ops.movement import NOWHERE, Rearrange, Reshape


def merge_movements(graph: Graph) -> Graph:
    """Two movements are one where their constants agree; one that leaves all numbers in place is none.

    A movement that somebody else reads too stays for that reader.
    """
    replacement: dict[Tensor, Tensor] = {}
    made: dict[Tensor, Op] = {}
    for op in graph:
        op = op.rewired(replacement)
        if isinstance(op, Reshape | Rearrange):
            op = _merged(op, made)
            if op.output not in graph.outputs and _changes_nothing(op):
                replacement[op.output] = op.x
        made[op.output] = op
    return graph.rebuilt(_read([op for t, op in made.items() if t not in replacement], set(graph.outputs)), replacement)


def _read(ops: list[Op], outputs: set[Tensor]) -> list[Op]:
    """``ops`` without the movements that nobody reads any more."""
    read, kept = set(outputs), []
    for op in reversed(ops):
        if op.output in read or not isinstance(op, Rearrange | Reshape):
            read.update(op.inputs)
            kept.append(op)
    return kept[::-1]


def _merged(op: Reshape | Rearrange, made: dict[Tensor, Op]) -> Reshape | Rearrange:
    """``op`` on what is read by the movements before it."""
    while isinstance(before := made[op.x], Reshape | Rearrange):
        source, fill = _sources(before), _fill(before) << (op.output.format.frac - before.output.format.frac)
        filled = isinstance(op, Rearrange) and op.is_filled
        if filled and NOWHERE in source and fill != _fill(op):
            break
        places = np.append(source, NOWHERE)[_sources(op)]  # "nowhere" looks behind the last
        constant = _fill(op) if filled or NOWHERE not in source else fill
        if NOWHERE not in places:
            constant = 0
        op = Rearrange(op.output, before.x, tuple(places.tolist()), constant)
    in_order = op.x.size == op.output.size and bool((_sources(op) == np.arange(op.x.size)).all())
    return Reshape(op.output, op.x) if in_order and op.output.format == op.x.format else op


def _sources(op: Reshape | Rearrange) -> NDArray[np.int64]:
    return np.arange(op.x.size) if isinstance(op, Reshape) else op.sources.ravel()


def _fill(op: Reshape | Rearrange) -> int:
    return 0 if isinstance(op, Reshape) else op.fill


def _changes_nothing(op: Reshape | Rearrange) -> bool:
    return isinstance(op, Reshape) and op.output.shape == op.x.shape
