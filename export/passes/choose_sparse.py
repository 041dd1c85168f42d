"""How the weights of a layer are laid out, a convolution's included: chosen by the user, or by a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from typing import TypeAlias

import numpy as np

from export.ir import Const, Graph, Op
from export.ops import Conv, Dense, Sparse, SparseConv, SparseDense
from export.ops.reuse import legal_reuse_factors, multipliers_used

#: What there is to lay out.
_Layer: TypeAlias = Conv | Dense | SparseConv | SparseDense


class Strategy(Enum):
    """What becomes of the zeros among the weights of a layer.

    ``DENSE`` keeps them: n_in n_out / R multipliers, but none that would have zeros alone; at R = 1 each weight is a
    constant, and a zero costs nothing. ``UNROLLED`` leaves them out and computes everything at once: one multiplier for
    each weight that is not zero, R is 1. ``COO`` stores each of the other weights with its place and takes any R:
    nnz / R multipliers. ``AUTO`` is COO where that takes fewer bits of memory, :func:`saves_bits`, else dense. Of a
    convolution n_in are the inputs of an output, and everything is so at each position.
    """

    AUTO = "auto"
    DENSE = "dense"
    UNROLLED = "unrolled"
    COO = "coo"

    @classmethod
    def of(cls, given: Strategy | str) -> Strategy:
        """The member, from itself or from its value. Raises ValueError for anything else, listing those there are."""
        try:
            return cls(given)
        except ValueError:
            known = ", ".join(repr(member.value) for member in cls)
            raise ValueError(f"there is no strategy {given!r}; choose from {known}") from None


_NOTE = "stored sparse: "

Strategies = Strategy | str | Mapping[str, Strategy | str]


def index_bits(n: int) -> int:
    """Bits that tell n places apart."""
    return max(0, (n - 1).bit_length())


def entry_bits(op: _Layer) -> int:
    """Bits of a weight with its place: ``b_w + ceil(log2 n_in) + ceil(log2 n_out)``.

    Of a convolution in groups n_in are the inputs of all of them: an entry says where it reads without arithmetic.
    """
    outputs, inputs = op.matrix.shape
    groups = op.groups if isinstance(op, Conv | SparseConv) else 1
    return op.weight_bits + index_bits(groups * inputs) + index_bits(outputs)


def saves_bits(op: _Layer, reuse_factor: int = 1) -> bool:
    """The rule: ``nnz * (b_w + ceil(log2 n_in) + ceil(log2 n_out)) < n_in * n_out * b_w``.

    Where R > 1 leaves multipliers without any weight, n_in n_out on the right is R times those that have one.
    """
    outputs, inputs = op.matrix.shape
    kept = op.matrix.size
    if 1 < reuse_factor in legal_reuse_factors(inputs, outputs):
        kept = reuse_factor * len(multipliers_used(op.matrix, reuse_factor))
    return int(np.count_nonzero(op.matrix)) * entry_bits(op) < kept * op.weight_bits


def by_layer(strategy: Strategies, graph: Graph) -> dict[str, Strategy]:
    """The strategy of every layer that can be sparse: one for all, or by name, where those not named are ``AUTO``.

    Raises ValueError for a name that is no such layer and for a strategy that there is not.
    """
    layers = [op.name for op in graph if isinstance(op, _Layer)]
    if not isinstance(strategy, Mapping):
        return dict.fromkeys(layers, Strategy.of(strategy))
    for name in strategy:
        if name not in layers:
            known = f"those are {', '.join(layers)}" if layers else "there is none"
            raise ValueError(f"strategy for {name!r}, which is neither fully connected nor a convolution; {known}")
    return {name: Strategy.of(strategy.get(name, Strategy.AUTO)) for name in layers}


def choose(strategy: Strategies = Strategy.AUTO, reuse_factor: int | Mapping[str, int] = 1) -> Callable[[Graph], Graph]:
    """A pass that lays out every fully connected layer and every convolution by its strategy.

    ``reuse_factor``, one for all or by name, is what the rule of ``AUTO`` counts with; no layer is given it here.
    """

    def apply(graph: Graph) -> Graph:
        chosen = by_layer(strategy, graph)
        ops: list[Op] = []
        stored: list[str] = []
        for op in graph:
            if isinstance(op, _Layer):
                wanted = reuse_factor.get(op.name, 1) if isinstance(reuse_factor, Mapping) else reuse_factor
                op = _laid_out(op, chosen[op.name], wanted)
                if isinstance(op, Sparse) and op.rows:
                    stored.append(f"{len(op.rows)} of {op.matrix.size} weights of {op.name}")
            ops.append(op)
        before = [note for note in graph.notes if not note.startswith(_NOTE)]
        note = f"{_NOTE}{', '.join(stored)}" if stored else None
        return replace(graph, notes=tuple(before)).rebuilt(ops, {}, note=note)

    return apply


def choose_sparse(graph: Graph) -> Graph:
    """The rule for all layers. One without any weight left stays dense: it is a constant, there is nothing to store."""
    return choose(Strategy.AUTO)(graph)


def _laid_out(op: _Layer, strategy: Strategy, reuse_factor: int) -> _Layer:
    nonzero = int(np.count_nonzero(op.matrix))
    match strategy:
        case Strategy.AUTO if not isinstance(op, Sparse) and nonzero and saves_bits(op, reuse_factor):
            return _stored(op, min(op.reuse_factor, nonzero))
        case Strategy.AUTO if isinstance(op, Sparse) and saves_bits(op) and not saves_bits(op, reuse_factor):
            return _with_zeros(op)  # the rule chose it before R was known
        case Strategy.DENSE if isinstance(op, Sparse):
            return _with_zeros(op)
        case Strategy.UNROLLED:
            return _stored(op, 1)
        case Strategy.COO:
            return _stored(op, min(op.reuse_factor, max(1, nonzero)))
    return op


def _with_zeros(op: SparseConv | SparseDense) -> Conv | Dense:
    """At R = 1: that of a sparse layer may be none of a dense one's."""
    if isinstance(op, SparseDense):
        return Dense(op.output, op.x, Const(op.matrix, op.weight.format), op.bias, op.modes)
    codes = op.matrix.reshape(len(op.matrix), op.read, *op.window.kernel)
    return Conv(op.output, op.x, Const(codes, op.weight.format), op.bias, op.modes, window=op.window)


def _stored(op: _Layer, reuse_factor: int) -> SparseConv | SparseDense:
    """Without its zeros."""
    if isinstance(op, Dense):
        return SparseDense.of(replace(op, reuse_factor=1), reuse_factor=reuse_factor)
    if isinstance(op, Conv):
        return SparseConv.of(replace(op, reuse_factor=1), reuse_factor=reuse_factor)
    return replace(op, reuse_factor=reuse_factor)
