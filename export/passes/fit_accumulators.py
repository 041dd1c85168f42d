"""Give every exact accumulator the narrowest format that holds all its partial sums."""

from __future__ import annotations

from dataclasses import replace

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Graph, Op, Tensor
from export.ops import Clip, Flatten, Linear, Maximum, ReLU, Threshold


def fit_accumulators(graph: Graph) -> Graph:
    """Interval arithmetic over the actual weights decides; accumulators with stated modes are the user's and stay."""
    replacement: dict[Tensor, Tensor] = {}
    reach: dict[Tensor, Bounds] = {}
    ops: list[Op] = []
    for op in graph:
        readers, op = graph.consumers(op.output), op.rewired(replacement)
        if isinstance(op, Linear) and op.modes is None and op.output not in graph.outputs:
            need = op.accumulator(reach[op.x])
            if need != op.output.format and all(can_read(reader, need) for reader in readers):
                fitted = replace(op.output, format=need)
                replacement[op.output] = fitted
                op = replace(op, output=fitted)
        reach[op.output] = op.bounds(*(reach[t] for t in op.inputs))
        ops.append(op)
    return graph.rebuilt(ops, replacement)


def can_read(reader: Op, fmt: FixedPoint) -> bool:
    """Whether the reader's own fields still match: most ops read numbers, wherever the binary point is."""
    match reader:
        case Clip() | Flatten():
            return False
        case Maximum():
            return reader.output.format.holds(fmt)
        case ReLU():
            return fmt.frac == reader.x.format.frac
        case Threshold():
            return (fmt.frac, fmt.signed) == (reader.x.format.frac, reader.x.format.signed)
    return True
