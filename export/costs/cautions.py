"""Where a design asks an HLS tool for more at a time than such tools come to an end with: what, and the cure.

Loops that are to be one circuit are unrolled, and arrays that are read all at once are registers. What is beyond the
limits here is emulated and written all the same: whether a tool gives up on it ("Stop unrolling loop") depends on the
tool and on patience.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from export.ir import Graph, Op, Tensor
from export.ops import BinaryDense, Linear, Sparse, SumOfProducts
from export.ops.reuse import legal_reuse_factors
from export.streams.access import Absorbed, Access, Io, Whole, channels, packets
from export.streams.plan import accesses
from export.streams.rules import MOST_REGISTERS

#: Products of a layer that are computed at once. Of 148 layers whose synthesis at R = 1 is known (estimate.py) two had
#: more that are not zero, 5,876 and 6,839; the next largest had 2,648.
MOST_PRODUCTS = 4096


def cautions(graph: Graph, io: Io | str = Io.PARALLEL) -> tuple[str, ...]:
    """A sentence for each layer beyond a limit, by its name; none for a design of ordinary size."""
    ways = accesses(graph) if Io.of(io) is Io.STREAM else None
    found = [sentence for op in graph for sentence in _of_products(op, (ways or {}).get(op.output))]
    return (*found, *(_of_arrays(graph) if ways is None else _of_processes(graph, ways)))


def _of_products(op: Op, how: Access | None) -> Iterator[str]:
    if isinstance(op, BinaryDense) and op.weight.codes.size > MOST_PRODUCTS:
        yield (
            f"{op.name}: {op.weight.codes.size:,} signs are compared at once, more than {MOST_PRODUCTS:,}; "
            "with weights of two bits the layer takes a reuse factor"
        )
    if not isinstance(op, SumOfProducts):
        return
    nonzero = int(np.count_nonzero(op.matrix))
    at_once = nonzero if op.reuse_factor == 1 else -(-op.weight.codes.size // op.reuse_factor)
    if at_once > MOST_PRODUCTS:
        what = "weights that are no constants" if op.reuse_factor > 1 else "weights that are not zero"
        yield (
            f"{op.name}: {at_once:,} products at once, by {what}, more than {MOST_PRODUCTS:,}; "
            f"use a reuse factor of {_enough(op, how)} or more"
        )


def _enough(op: SumOfProducts, how: Access | None) -> int:
    """The smallest reuse factor within the limit, among those that let a layer take packets as they come."""
    (outputs, inputs), least = op.matrix.shape, -(-op.weight.codes.size // MOST_PRODUCTS)
    at_once = packets(*how.shaped.values()) if isinstance(how, Whole) and how.shaped else 1
    if isinstance(op, Sparse):
        return -(-least // at_once) * at_once
    legal = [r for r in legal_reuse_factors(inputs, outputs) if r >= least]
    return next((r for r in legal if r % at_once == 0), legal[0])


def _of_arrays(graph: Graph) -> Iterator[str]:
    large = [op for op in graph if op.output.size > MOST_REGISTERS]
    if large:
        listed = ", ".join(f"{op.name} ({op.output.size:,})" for op in large)
        yield (
            f"more than {MOST_REGISTERS:,} numbers side by side in registers: {listed}; "
            "with io='stream' layers hand on one position at a time, and keep the lines of a window in memories"
        )


def _of_processes(graph: Graph, ways: Mapping[Tensor, Access]) -> Iterator[str]:
    for op in graph:
        how = ways.get(op.output)
        wide = [t for t in (*op.inputs, op.output) if channels(t) > MOST_REGISTERS and packets(t) == 1]
        if isinstance(how, Whole) and (kept := max(t.size for t in (*op.inputs, op.output))) > MOST_REGISTERS:
            most = f"{kept:,} numbers side by side in registers, more than {MOST_REGISTERS:,}"
            yield f"{op.name}: {most}; {_cure(op, how)}"
        elif wide and not isinstance(how, Absorbed) and (how or not op.inputs):
            yield (
                f"{op.name}: a packet of {channels(wide[0]):,} numbers, more than {MOST_REGISTERS:,}; "
                f"give {wide[0].name} spatial axes"
            )


def _cure(op: Op, how: Whole) -> str:
    """Other ways to have it."""
    if isinstance(op, Linear) and how.shaped:
        (packed,) = how.shaped.values()
        exact = "" if op.modes is None or channels(packed) == 1 else "exact sums and "
        return f"with {exact}a reuse factor that {packets(packed):,} divides nothing is kept but its sums"
    return "a smaller tensor, or other axes, where that is possible"
