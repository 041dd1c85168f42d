"""How products share multipliers: the legal reuse factors, and which multiplier does which product in which step.

A fully connected layer of ``n_in * n_out`` products with reuse factor R has ``M = n_in * n_out / R`` multipliers and
starts a new sample every R cycles, a step each. Every accumulator is fed by fixed multipliers where

- R divides ``n_in``: a step is ``n_in / R`` whole inputs, for all outputs, each of which has its accumulator;
- R = n_in * d, d dividing ``n_out``: a step is one input for ``n_out / d`` outputs, which take all inputs, one per
  step, before the next ones begin. There are M accumulators, x is read one element after the other, the weights are
  one memory read in order, and M results are written every ``n_in`` cycles: few multipliers, a long latency.

Either way an output sums its inputs in ascending order. A multiplier all of whose weights are zero is left out.

A layer that stores its non-zero weights alone takes any R; :func:`spread` puts them into steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compress.fixed import Codes


def legal_reuse_factors(n_in: int, n_out: int) -> tuple[int, ...]:
    """All of them, ascending."""
    within_inputs = {r for r in range(1, n_in + 1) if n_in % r == 0}
    across_outputs = {n_in * d for d in range(1, n_out + 1) if n_out % d == 0}
    return tuple(sorted(within_inputs | across_outputs))


def check_reuse(name: str, n_in: int, n_out: int, reuse_factor: int) -> None:
    """Raise ValueError for an illegal reuse factor, naming the nearest legal ones."""
    legal = legal_reuse_factors(n_in, n_out)
    if reuse_factor not in legal:
        below = [r for r in legal if r < reuse_factor][-1:]
        above = [r for r in legal if r > reuse_factor][:1]
        nearest = " or ".join(map(str, below + above))
        raise ValueError(
            f"{name}: reuse factor {reuse_factor} is not legal for {n_in} inputs and {n_out} outputs; use {nearest}"
        )


def by_step(matrix: Codes, reuse_factor: int) -> Codes:
    """The weights (outputs, inputs) as (steps, multipliers); what a multiplier uses is a column."""
    outputs, inputs = matrix.shape
    parts = max(1, reuse_factor // inputs)  # of the outputs, one after the other
    return matrix.reshape(parts, outputs // parts, inputs).swapaxes(1, 2).reshape(reuse_factor, -1)


def multipliers_used(matrix: Codes, reuse_factor: int) -> tuple[int, ...]:
    """The numbers of the multipliers with a weight that is not zero; the first where there is none."""
    return tuple(np.flatnonzero(by_step(matrix, reuse_factor).any(axis=0)).tolist()) or (0,)


def side_by_side(cols: Sequence[int], reuse_factor: int) -> int:
    """How many entries of a step, counted from its first, can always be of different outputs (:func:`spread`).

    ``cols`` are the outputs of all entries. One that has more than R entries has several in a step in any order.
    """
    shared = -(-len(cols) // reuse_factor)
    return max(1, shared // -(-int(np.bincount(cols, minlength=1).max()) // reuse_factor)) if len(cols) else 1


def spread(cols: Sequence[int], outputs: int, reuse_factor: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Entries by ascending input, of the outputs ``cols``, as R steps: (steps, multipliers) of their numbers.

    Where nothing is left to do the number is -1, and the output of the second array one to which nothing may be added
    at that time. The entries of an output stay in order; :func:`side_by_side` of them, counted from the first
    of a step, are of different outputs, so that their sums need not wait for each other.
    """
    of = np.asarray(cols, dtype=np.int64)
    multipliers, together = -(-len(of) // reuse_factor), side_by_side(cols, reuse_factor)
    number = np.full(reuse_factor * multipliers, -1)
    if together == 1:
        number[: len(of)] = np.arange(len(of))
    else:
        # A round is as many places as there are entries side by side, the last one of a step perhaps fewer. Output by
        # output, the entries are dealt to the first place of each round, then to the second, and so on: no output has
        # more entries than there are whole rounds, so that none comes back to a round; nor does one where the short
        # rounds are full, since those had come first.
        rounds, rest = divmod(multipliers, together)
        first = np.arange(reuse_factor) * multipliers
        whole = (np.arange(rounds)[:, None] * together + first).ravel()
        short = first + rounds * together
        layers = [(np.concatenate([short, whole]) if layer < rest else whole) + layer for layer in range(together)]
        places = np.concatenate(layers)[: len(of)]
        by_output = np.argsort(of, kind="stable")
        number[places[np.lexsort((places, of[by_output]))]] = by_output
    col = np.where(number < 0, -1, of[number])
    for place in np.flatnonzero(number < 0).tolist():
        step = place - place % multipliers
        begin = step + (place - step) // together * together
        taken = set(col[begin : min(begin + together, step + multipliers)].tolist())
        col[place] = next(output for output in range(outputs) if output not in taken)
    return number.reshape(reuse_factor, -1), col.reshape(reuse_factor, -1)
