"""Store a layer as COO where that takes fewer bits than storing its zeros."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from export.ir import Graph, Op
from export.ops import Dense, SparseDense


def index_bits(n: int) -> int:
    """Bits that tell n places apart."""
    return max(0, (n - 1).bit_length())


def saves_bits(dense: Dense) -> bool:
    """The rule: ``nnz * (b_w + ceil(log2 n_in) + ceil(log2 n_out)) < n_in * n_out * b_w``."""
    n_out, n_in = dense.weight.shape
    nonzero = int(np.count_nonzero(dense.weight.codes))
    width = dense.weight.format.width
    return nonzero * (width + index_bits(n_in) + index_bits(n_out)) < n_in * n_out * width


def choose_sparse(graph: Graph) -> Graph:
    """A layer without any weight left stays dense: it is a constant, and there is no entry to store."""
    ops: list[Op] = []
    stored: list[str] = []
    for op in graph:
        if isinstance(op, Dense) and saves_bits(op) and (nonzero := int(np.count_nonzero(op.weight.codes))):
            stored.append(f"{nonzero} of {op.weight.codes.size} weights of {op.name}")
            op = SparseDense.of(replace(op, reuse_factor=1), reuse_factor=min(op.reuse_factor, nonzero))
        ops.append(op)
    return graph.rebuilt(ops, {}, note=f"stored sparse: {', '.join(stored)}" if stored else None)
