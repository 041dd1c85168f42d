"""The comparators that a design consists of, and on which side each of them can come out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compress.fixed import Codes
from export.intervals import Bounds
from export.ir import Graph, Op
from export.verification.margins import Chosen, UnlistedError, extremes, margins


def unlisted(graph: Graph) -> dict[Op, str]:
    """The ops whose comparisons are not known, and why."""
    reasons = {}
    for op in graph:
        try:
            list(margins(op, *(graph.bounds[t].low[None] for t in op.inputs)))
        except UnlistedError as missing:
            reasons[op] = str(missing)
    return reasons


@dataclass(frozen=True, eq=False)
class Comparison:
    """One condition of one op, decided at every site. ``never`` and ``always`` are proved, by interval arithmetic."""

    op: Op
    condition: str
    chosen: tuple[Chosen, ...]
    never: np.ndarray
    always: np.ndarray

    @property
    def sites(self) -> int:
        return len(self.never)


class Comparisons:
    """Those of a whole graph, whose margins stand side by side. Ops that are not listed have none."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.unlisted = unlisted(graph)
        self._ops = tuple(op for op in graph if op not in self.unlisted)
        self.all = tuple(c for op in self._ops for c in _decided(graph, op))

    @property
    def sites(self) -> int:
        return sum(c.sites for c in self.all)

    def margins(self, *entering: Codes) -> np.ndarray:
        """(batch, sites), positive where a condition holds; only the sign is exact."""
        traced = self.graph.trace(*entering)
        kept = {(c.op.name, c.condition) for c in self.all}
        columns = [
            margin.values.astype(np.float64)
            for op in self._ops
            for margin in margins(op, *(traced[t.name] for t in op.inputs))
            if (op.name, margin.condition) in kept
        ]
        return np.concatenate([np.zeros((len(entering[0]), 0)), *columns], axis=1)


def _decided(graph: Graph, op: Op) -> Iterator[Comparison]:
    """The comparisons of ``op``, without those that its formats alone decide: they are no comparators."""
    reach = [graph.bounds[t] for t in op.inputs]
    formats = [Bounds.everywhere(t.shape, t.format.min_code, t.format.max_code) for t in op.inputs]
    by_reach, by_format = (list(zip(*extremes(op, *ends), strict=True)) for ends in (reach, formats))
    for here, anywhere in zip(by_reach, by_format, strict=True):
        values = np.concatenate([m.values for m in here])
        never, always = (np.asarray(side.all(axis=0)) for side in (values <= 0, values > 0))
        if not here[0].chosen and max(int(m.values.max()) for m in anywhere) <= 0:
            continue
        yield Comparison(op, here[0].condition, here[0].chosen, never, always)
