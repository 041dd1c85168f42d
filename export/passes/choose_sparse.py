"""How the weights of a fully connected layer are laid out: chosen by the user, or by a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum

import numpy as np

from export.ir import Const, Graph, Op
from export.ops import Dense, Linear, SparseDense


class Strategy(Enum):
    """What becomes of the zeros among the weights of a layer.

    ``DENSE`` keeps them: n_in n_out / R multipliers, zeros included; at R = 1 each weight is a constant, and a zero
    costs nothing. ``UNROLLED`` leaves them out and computes everything at once: one multiplier for each weight that is
    not zero, R is 1. ``COO`` stores each of the other weights with its place and takes any R: nnz / R multipliers.
    ``AUTO`` is COO where that takes fewer bits of memory, :func:`saves_bits`, else dense.
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


def saves_bits(dense: Dense) -> bool:
    """The rule: ``nnz * (b_w + ceil(log2 n_in) + ceil(log2 n_out)) < n_in * n_out * b_w``."""
    n_out, n_in = dense.weight.shape
    nonzero = int(np.count_nonzero(dense.weight.codes))
    width = dense.weight.format.width
    return nonzero * (width + index_bits(n_in) + index_bits(n_out)) < n_in * n_out * width


def by_layer(strategy: Strategies, graph: Graph) -> dict[str, Strategy]:
    """The strategy of every fully connected layer: one for all, or by name, where those not named are ``AUTO``.

    Raises ValueError for a name that is no such layer and for a strategy that there is not.
    """
    layers = [op.name for op in graph if isinstance(op, Linear)]
    if not isinstance(strategy, Mapping):
        return dict.fromkeys(layers, Strategy.of(strategy))
    for name in strategy:
        if name not in layers:
            known = f"they are {', '.join(layers)}" if layers else "there is none"
            raise ValueError(f"strategy for {name!r}, which is no fully connected layer; {known}")
    return {name: Strategy.of(strategy.get(name, Strategy.AUTO)) for name in layers}


def choose(strategy: Strategies = Strategy.AUTO) -> Callable[[Graph], Graph]:
    """A pass that lays out every fully connected layer by its strategy."""

    def apply(graph: Graph) -> Graph:
        chosen = by_layer(strategy, graph)
        ops: list[Op] = []
        stored: list[str] = []
        for op in graph:
            if isinstance(op, Linear):
                op = _laid_out(op, chosen[op.name])
                if isinstance(op, SparseDense) and op.rows:
                    stored.append(f"{len(op.rows)} of {op.matrix.size} weights of {op.name}")
            ops.append(op)
        before = [note for note in graph.notes if not note.startswith(_NOTE)]
        note = f"{_NOTE}{', '.join(stored)}" if stored else None
        return replace(graph, notes=tuple(before)).rebuilt(ops, {}, note=note)

    return apply


def choose_sparse(graph: Graph) -> Graph:
    """The rule for all layers. One without any weight left stays dense: it is a constant, there is nothing to store."""
    return choose(Strategy.AUTO)(graph)


def _laid_out(op: Linear, strategy: Strategy) -> Linear:
    nonzero = int(np.count_nonzero(op.matrix))
    match strategy:
        case Strategy.AUTO if isinstance(op, Dense) and nonzero and saves_bits(op):
            return _stored(op, min(op.reuse_factor, nonzero))
        case Strategy.DENSE if isinstance(op, SparseDense):
            weight = Const(op.matrix, op.weight.format)  # its R may be none of a dense layer's
            return Dense(output=op.output, x=op.x, weight=weight, bias=op.bias, modes=op.modes)
        case Strategy.UNROLLED:
            return _stored(op, 1)
        case Strategy.COO:
            return _stored(op, min(op.reuse_factor, max(1, nonzero)))
    return op


def _stored(op: Linear, reuse_factor: int) -> Linear:
    """Without its zeros."""
    if isinstance(op, Dense):
        return SparseDense.of(replace(op, reuse_factor=1), reuse_factor=reuse_factor)
    return replace(op, reuse_factor=reuse_factor)
