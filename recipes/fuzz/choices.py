"""What a user may ask of layers: how their weights are laid out, and how many products share a multiplier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from export.ir import Graph, Op
from export.ops import Conv, Dense, Sparse, SumOfProducts
from export.ops.reuse import legal_reuse_factors
from export.passes import choose
from export.passes.choose_sparse import Strategy


def chosen(rng: np.random.Generator, graph: Graph) -> Graph:
    """Some layers with a strategy of their own, some with any legal reuse factor; others as the passes left them."""
    layers = [op.name for op in graph if isinstance(op, Conv | Dense | Sparse)]
    strategies = {name: list(Strategy)[rng.integers(len(Strategy))] for name in layers if rng.random() < 0.5}
    laid_out = choose(strategies)(graph)
    unrolled = {name for name, strategy in strategies.items() if strategy is Strategy.UNROLLED}
    ops: list[Op] = []
    for op in laid_out:
        if isinstance(op, SumOfProducts) and op.name not in unrolled and rng.random() < 0.4:
            inputs, outputs = op.matrix.shape[1], op.output.shape[0]
            most = max(1, len(op.rows)) if isinstance(op, Sparse) else 0
            legal = range(1, most + 1) if most else legal_reuse_factors(inputs, outputs)
            op = replace(op, reuse_factor=int(rng.choice(legal)))
        ops.append(op)
    return laid_out.rebuilt(ops, {})
