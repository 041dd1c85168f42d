"""Write the user's reuse factors onto the layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from export.ir import Graph, Op
from export.ops import Linear, SparseDense


def set_reuse(reuse_factor: int | Mapping[str, int]) -> Callable[[Graph], Graph]:
    """A pass that gives every layer, or each layer named, its reuse factor; the others stay fully parallel.

    A sparse layer shares a multiplier among at most all of its non-zero weights, whatever more is asked for.
    Raises ValueError for an illegal factor, naming the nearest legal ones, and for a name that is no layer.
    """

    def apply(graph: Graph) -> Graph:
        layers = [op.name for op in graph if isinstance(op, Linear)]
        wanted = reuse_factor if isinstance(reuse_factor, Mapping) else dict.fromkeys(layers, reuse_factor)
        for name in wanted:
            if name not in layers:
                raise ValueError(f"reuse factor for {name!r}, which is no layer; the layers are {', '.join(layers)}")
        ops: list[Op] = []
        for op in graph:
            if isinstance(op, Linear) and op.name in wanted:
                factor = wanted[op.name]
                if factor < 1:
                    raise ValueError(f"{op.name}: reuse factor {factor}; use 1 (fully parallel) or more")
                most = max(1, len(op.rows)) if isinstance(op, SparseDense) else factor
                op = replace(op, reuse_factor=min(factor, most))
            ops.append(op)
        return graph.rebuilt(ops, {})

    return apply
