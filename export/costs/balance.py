"""Which reuse factor for which layer: the legal ones that reach a throughput, or that fit a budget.

    suggestion = suggest_reuse(graph, interval=8)        # or samples_per_s=25e6, multipliers=500, dsp=500
    to_hls(model, "build/jet", input_shape=(16,), reuse_factor=suggestion.reuse_factor)

A design takes a sample every ``interval`` cycles, that of its slowest layer; a layer that is faster wastes multipliers.

- Given an interval (or a throughput at a clock), every layer gets the factor with the fewest multipliers among those
  that are fast enough; among equals the fastest. Layers do not depend on each other here, so this is the minimum.
- Given a budget, the interval is the least that any choice within the budget has. It is found by trying all intervals
  that layers can have, ascending: the cheapest choice for an interval only gets cheaper as it grows. Among the choices
  with that interval and within the budget, the one with the least sum of the layers' intervals (what they add to the
  latency), and among those with the fewest multipliers, is found by adding layer after layer to the list of all sums
  of intervals and costs of which none is better in both: what is not in the list can be in no best choice.

A multiplier counts as in :mod:`export.costs.estimate`: at R = 1 constants of one or two digits need none and equal ones
share theirs, so that a layer may take more multipliers at R = 2 than at 1. Ops other than layers count as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from compress.columns import columns
from export.costs import OpEstimate, Target, estimate_op, multipliers_of
from export.costs.multipliers import Multipliers
from export.ir import Graph
from export.ops import Sparse, SumOfProducts
from export.ops.reuse import legal_reuse_factors


class Counted(Enum):
    """What a budget is of."""

    MULTIPLIERS = "multipliers"
    DSP = "dsp"

    def of(self, work: Multipliers) -> int:
        return work.count if self is Counted.MULTIPLIERS else work.dsp


@dataclass(frozen=True)
class Choice:
    """One factor of one layer, what it costs, and how many cycles the layer then takes for a sample."""

    reuse_factor: int
    interval: int
    cost: int


#: Choices from the last layer to the first.
_Chain: TypeAlias = "tuple[_Chain, Choice] | None"


@dataclass(frozen=True)
class Suggestion:
    """``choices`` by layer. ``cost`` is that of the whole design, ``interval`` the cycles from sample to sample."""

    counted: Counted
    choices: dict[str, Choice]
    cost: int
    interval: int

    @property
    def reuse_factor(self) -> dict[str, int]:
        """What ``to_hls`` takes."""
        return {name: choice.reuse_factor for name, choice in self.choices.items()}

    def __str__(self) -> str:
        rows = [
            (name, f"{choice.reuse_factor:,}", f"{choice.interval:,}", f"{choice.cost:,}")
            for name, choice in self.choices.items()
        ]
        what = "DSPs" if self.counted is Counted.DSP else "multipliers"
        head = ("layer", "reuse factor", "interval", what)
        return "\n".join(columns([head, *rows, ("design", "", f"{self.interval:,}", f"{self.cost:,}")]))


def suggest_reuse(
    graph: Graph,
    *,
    interval: int | None = None,
    samples_per_s: float | None = None,
    multipliers: int | None = None,
    dsp: int | None = None,
    clock_ns: float = 5.0,
) -> Suggestion:
    """The factors for exactly one of: the cycles from sample to sample, samples per second at ``clock_ns``,
    multipliers of the whole design, DSPs of it. ``graph`` is one after its passes (``to_graph``).

    Raises ValueError, with what is possible, for a target that no choice reaches.
    """
    given = {"interval": interval, "samples_per_s": samples_per_s, "multipliers": multipliers, "dsp": dsp}
    asked = {name: value for name, value in given.items() if value is not None}
    if len(asked) != 1:
        raise ValueError(f"give one of {', '.join(given)}, got {', '.join(asked) or 'none'}")
    counted = Counted.DSP if dsp is not None else Counted.MULTIPLIERS
    layers = {op.name: choices_of(op, counted) for op in graph if isinstance(op, SumOfProducts)}
    if not layers:
        raise ValueError(f"{graph.name} has no layer with weights; there is nothing to share")
    others = [op for op in graph if not isinstance(op, SumOfProducts)]
    fixed = sum(_fixed_cost(estimate_op(op, Target()), counted) for op in others)
    floor = max((op.interval for op in others), default=1)
    if samples_per_s is not None:
        if not samples_per_s > 0 or not clock_ns > 0:
            raise ValueError(f"samples_per_s and clock_ns must be positive, got {samples_per_s} and {clock_ns}")
        interval = math.floor(1e9 / (samples_per_s * clock_ns) + 1e-9)
    budget = dsp if dsp is not None else multipliers
    if budget is None:
        assert interval is not None
        chosen = within_interval(list(layers.values()), interval) if interval >= floor else None
    else:
        chosen = within_budget(list(layers.values()), budget - fixed, floor)
    if chosen is None:
        needs = {name: c[0].interval for name, c in layers.items()} | {op.name: op.interval for op in others}
        raise _impossible(layers, fixed, needs, counted, interval)
    return Suggestion(
        counted,
        dict(zip(layers, chosen, strict=True)),
        fixed + sum(choice.cost for choice in chosen),
        max(floor, *(choice.interval for choice in chosen)),
    )


def choices_of(op: SumOfProducts, counted: Counted = Counted.MULTIPLIERS) -> tuple[Choice, ...]:
    """Every legal factor of a layer, ascending; of a sparse one, those that save a multiplier."""
    positions = op.interval // op.reuse_factor
    if isinstance(op, Sparse):
        most = max(1, len(op.rows))
        counts = sorted({-(-most // r) for r in range(1, math.isqrt(most) + 1)} | set(range(1, math.isqrt(most) + 2)))
        factors = sorted({-(-most // count) for count in counts if count <= most})
    else:
        factors = list(legal_reuse_factors(*op.matrix.shape[::-1]))
    return tuple(Choice(r, positions * r, counted.of(multipliers_of(op, r))) for r in factors)


def within_interval(layers: Sequence[Sequence[Choice]], interval: int) -> list[Choice] | None:
    """For every layer the cheapest choice that takes at most ``interval`` cycles, and of those the fastest.

    None where a layer has no choice.
    """
    fast = [[choice for choice in choices if choice.interval <= interval] for choices in layers]
    if not all(fast):
        return None
    return [min(choices, key=lambda choice: (choice.cost, choice.interval)) for choices in fast]


def within_budget(layers: Sequence[Sequence[Choice]], budget: int, floor: int = 1) -> list[Choice] | None:
    """The choices with the least interval, then the least sum of intervals, then the least cost, within ``budget``.

    ``floor`` is the interval of the rest of the design, below which none is worth anything. None where none fits.
    """
    candidates = sorted({max(floor, choice.interval) for choices in layers for choice in choices})
    for interval in candidates:
        cheapest = within_interval(layers, interval)
        if cheapest is not None and sum(choice.cost for choice in cheapest) <= budget:
            return _fastest(layers, budget, interval)
    return None


def _fastest(layers: Sequence[Sequence[Choice]], budget: int, interval: int) -> list[Choice]:
    """Of the choices within both, those with the least sum of intervals, then the least cost. There must be one."""
    front: list[tuple[int, int, _Chain]] = [(0, 0, None)]  # sum of intervals, of costs, and how they came about
    for choices in layers:
        sums = [
            (cycles + choice.interval, cost + choice.cost, (chain, choice))
            for cycles, cost, chain in front
            for choice in choices
            if choice.interval <= interval and cost + choice.cost <= budget
        ]
        front = []
        for entry in sorted(sums, key=lambda entry: entry[:2]):
            if not front or entry[1] < front[-1][1]:
                front.append(entry)
    chosen: list[Choice] = []
    chain = front[0][2]
    while chain is not None:
        chain, choice = chain
        chosen.append(choice)
    return chosen[::-1]


def _impossible(
    layers: Mapping[str, Sequence[Choice]], fixed: int, needs: Mapping[str, int], counted: Counted, interval: int | None
) -> ValueError:
    if interval is None:
        least = fixed + sum(min(choice.cost for choice in choices) for choices in layers.values())
        what = "DSPs" if counted is Counted.DSP else "multipliers"
        return ValueError(f"no choice of reuse factors takes so few {what}; the least possible is {least:,}")
    slowest = max(needs, key=lambda name: needs[name])
    return ValueError(
        f"no choice of reuse factors takes {interval:,} cycles or less; {slowest} needs {needs[slowest]:,}"
    )


def _fixed_cost(made: OpEstimate | None, counted: Counted) -> int:
    """Of an op that shares nothing."""
    if made is None:
        return 0
    return made.dsp if counted is Counted.DSP else made.multipliers
