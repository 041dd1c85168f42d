"""Leave out casts and relus that the next cast does anyway."""

from __future__ import annotations

from compress.fixed import Overflow
from export.ir import Graph, Op
from export.ops import Cast, ChannelCast, Modes, ReLU, Requantize


def fuse_casts(graph: Graph) -> Graph:
    """Three facts, applied one at a time until none applies, since each may rest on what another would leave out:

    - saturating into an unsigned format clips negatives to zero, so a relu before it is idle;
    - a cast that changes no reachable code is idle where the formats agree;
    - a lossless cast before another cast is idle.
    """
    while (idle := next((op for op in graph if is_idle(graph, op)), None)) is not None:
        graph = graph.rebuilt((op for op in graph if op is not idle), {idle.output: idle.inputs[0]})
    return graph


def is_idle(graph: Graph, op: Op) -> bool:
    """Whether the graph computes the same without ``op``."""
    if op.output in graph.outputs:
        return False
    reader = graph.sole_consumer(op.output)
    match op:
        case ReLU():
            return isinstance(reader, Cast | ChannelCast | Requantize) and clips_at_zero(reader) and rises(reader)
        case Cast():
            same = op.output.format == op.x.format
            return (same or isinstance(reader, Cast | ChannelCast)) and changes_nothing(graph, op)
    return False


def clips_at_zero(op: Cast | ChannelCast | Requantize) -> bool:
    """Whether every channel saturates at zero: an unsigned output holds unsigned channels only."""
    return not op.output.format.signed and op.modes.overflow in (Overflow.SAT, Overflow.SAT_SYM)


def rises(op: Cast | ChannelCast | Requantize) -> bool:
    """Whether the op sends negative numbers to results that are at most its result for zero, which must be zero."""
    return not isinstance(op, Requantize) or (all(s >= 0 for s in op.scale) and all(o <= 0 for o in op.offset))


def changes_nothing(graph: Graph, op: Cast) -> bool:
    """Whether every reachable value survives the cast."""
    if not op.output.format.holds(op.x.format):
        return False
    reach = graph.bounds[op.x]
    exact = Modes(op.modes.rounding, Overflow.SAT).bounds(reach, op.x.format.frac, op.output.format)
    return bool((exact.low == graph.bounds[op.output].low).all() and (exact.high == graph.bounds[op.output].high).all())
