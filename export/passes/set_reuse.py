"""Write the user's reuse factors onto the layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from export.ir import Graph, Op
from export.ops import BinaryDense, Sparse, SumOfProducts
from export.passes.choose_sparse import Strategies, Strategy, by_layer


def set_reuse(reuse_factor: int | Mapping[str, int], strategy: Strategies = Strategy.AUTO) -> Callable[[Graph], Graph]:
    """A pass that gives every layer, or each layer named, its reuse factor; the others stay as they are.

    A sparse layer shares a multiplier among at most all of its non-zero weights, whatever more is asked for. One that
    ``strategy`` unrolls shares none: a factor for all layers leaves it out.
    Raises ValueError for an illegal factor, naming the nearest legal ones, for a name that is no layer, and for a
    factor of an unrolled layer by its name.
    """

    def apply(graph: Graph) -> Graph:
        layers = [op.name for op in graph if isinstance(op, SumOfProducts)]
        unrolled = [name for name, chosen in by_layer(strategy, graph).items() if chosen is Strategy.UNROLLED]
        if isinstance(reuse_factor, Mapping):
            wanted = dict(reuse_factor)
        else:
            wanted = {name: reuse_factor for name in layers if name not in unrolled}
        binary = {op.name for op in graph if isinstance(op, BinaryDense)}
        for name, factor in wanted.items():
            if name in binary:
                raise ValueError(f"{name}: multiplies signs, so that there is no multiplier to share; name no factor")
            if name not in layers:
                known = f"the layers are {', '.join(layers)}" if layers else "there is none"
                raise ValueError(f"reuse factor for {name!r}, which is no layer; {known}")
            if factor < 1:
                raise ValueError(f"{name}: reuse factor {factor}; use 1 (fully parallel) or more")
            if name in unrolled and factor > 1:
                raise ValueError(f"{name}: reuse factor {factor} of an unrolled layer; use 1, or the strategy 'coo'")
        ops: list[Op] = []
        for op in graph:
            if isinstance(op, SumOfProducts) and op.name in wanted:
                factor = wanted[op.name]
                most = max(1, len(op.rows)) if isinstance(op, Sparse) else factor
                op = replace(op, reuse_factor=min(factor, most))
            ops.append(op)
        return graph.rebuilt(ops, {})

    return apply
