"""Rewrites of the graph. A pass is a function Graph -> Graph that leaves every output bit as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

from export.ir import Graph
from export.passes.binarize import binarize
from export.passes.choose_sparse import Strategies, Strategy, choose, choose_sparse
from export.passes.choose_table import choose_table
from export.passes.fit_accumulators import fit_accumulators
from export.passes.fold_affine import fold_affine
from export.passes.fuse_casts import fuse_casts
from export.passes.lower_requantize import lower_requantize
from export.passes.merge_movements import merge_movements
from export.passes.prune_neurons import prune_neurons
from export.passes.set_reuse import set_reuse

Pass = Callable[[Graph], Graph]

#: The order, and why.
PIPELINE: tuple[Pass, ...] = (
    merge_movements,  # before anything looks for readers: two movements in a row hide who reads whom
    fuse_casts,  # then: a relu merged into its quantizer leaves one op per activation for the others to read
    prune_neurons,  # before any search: a dropped neuron needs no multiplier
    fit_accumulators,  # the reach of an accumulator decides how many steps its requantization has
    lower_requantize,  # rational constants end here
    fold_affine,  # a multiplier of one is a bias
    fit_accumulators,  # folded biases moved the ranges
    binarize,  # folded biases are part of its offsets
    choose_table,  # the range of a number decides how long its table is
    choose_sparse,  # last: it counts the zeros that are left
)


__all__ = ["PIPELINE", "Pass", "choose", "lay_out", "run", "set_reuse", "steps"]


def lay_out(reuse_factor: int | Mapping[str, int] = 1, strategy: Strategies = Strategy.AUTO) -> Pass:
    """A pass that does what the user asks for: :func:`choose`, then :func:`set_reuse`, which see."""
    layouts, factors = choose(strategy, reuse_factor), set_reuse(reuse_factor, strategy)
    return lambda graph: factors(layouts(graph))


def run(graph: Graph, passes: Iterable[Pass] = PIPELINE) -> Graph:
    """What ``passes`` make of ``graph``, in order; every op's law is verified before the first and after each."""
    return steps(graph, passes)[-1]


def steps(graph: Graph, passes: Iterable[Pass] = PIPELINE) -> list[Graph]:
    """``graph`` and what it is after each of ``passes``, all verified."""
    return list(accumulate(passes, lambda before, apply: apply(before).verify(), initial=graph.verify()))
