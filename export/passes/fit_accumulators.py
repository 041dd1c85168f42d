"""Give every exact accumulator the narrowest format that holds all its partial sums."""

from __future__ import annotations

from dataclasses import replace

from export.ir import Graph, Op, Tensor
from export.ops import Linear


def fit_accumulators(graph: Graph) -> Graph:
    """Interval arithmetic over the actual weights decides; accumulators with stated modes are the user's and stay."""
    replacement: dict[Tensor, Tensor] = {}
    ops: list[Op] = []
    for op in graph:
        if isinstance(op, Linear) and op.modes is None and op.output not in graph.outputs:
            need = op.partial_sums(graph.bounds[op.x]).format(op.exact_frac)
            if need != op.output.format:
                fitted = replace(op.output, format=need)
                replacement[op.output] = fitted
                op = replace(op, output=fitted)
        ops.append(op)
    return graph.rebuilt(ops, replacement)
