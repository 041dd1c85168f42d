"""Leave out casts and relus that the next cast does anyway."""

from __future__ import annotations

from compress.fixed import Overflow
from export.ir import Graph, Op, Tensor
from export.ops import Cast, Modes, ReLU, Requantize


def fuse_casts(graph: Graph) -> Graph:
    """Three facts:

    - saturating into an unsigned format clips negatives to zero, so a relu before it is idle;
    - a cast that changes no reachable code is idle where the formats agree;
    - a lossless cast before another cast is idle.
    """
    replacement: dict[Tensor, Tensor] = {}
    dropped: set[Op] = set()
    for op in graph:
        if isinstance(op, Cast | Requantize) and isinstance(before := graph.producer(op.x), ReLU):
            if graph.sole_consumer(before.output) is op and clips_at_zero(op) and rises(op):
                dropped.add(before)
                replacement[before.output] = before.x
        elif isinstance(op, Cast):
            before_op = graph.producer(op.x)
            if op.output.format == op.x.format and op.output not in graph.outputs and changes_nothing(graph, op):
                dropped.add(op)
                replacement[op.output] = op.x
            elif (
                isinstance(before_op, Cast)
                and graph.sole_consumer(before_op.output) is op
                and changes_nothing(graph, before_op)
            ):
                dropped.add(before_op)
                replacement[before_op.output] = before_op.x
    return graph.rebuilt((op for op in graph if op not in dropped), replacement)


def clips_at_zero(op: Cast | Requantize) -> bool:
    return not op.output.format.signed and op.modes.overflow in (Overflow.SAT, Overflow.SAT_SYM)


def rises(op: Cast | Requantize) -> bool:
    """Whether the op sends negative numbers to results that are at most its result for zero, which must be zero."""
    return isinstance(op, Cast) or (all(s >= 0 for s in op.scale) and all(o <= 0 for o in op.offset))


def changes_nothing(graph: Graph, op: Cast) -> bool:
    """Whether every reachable value survives the cast."""
    if not op.output.format.holds(op.x.format):
        return False
    reach = graph.bounds[op.x]
    exact = Modes(op.modes.rounding, Overflow.SAT).bounds(reach, op.x.format.frac, op.output.format)
    return bool((exact.low == graph.bounds[op.output].low).all() and (exact.high == graph.bounds[op.output].high).all())
