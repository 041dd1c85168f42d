"""Vectors that take every comparison of a design to both of its sides, as far as they can be found.

Each side of each comparator is a goal. What interval arithmetic excludes is no goal; the rest is searched for on the
graph, where a comparison's margin says how far a sample is from its other side. What is neither reached nor excluded
stays open, and is reported as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.fixed import Codes, as_codes
from export.ir import Graph, Op
from export.ops import Input
from export.verification.comparisons import Comparison, Comparisons

#: Elements of which both ends are tried in one step of a search.
_TRIED = 64
#: Scores that are held in memory at a time.
_SCORES = 1 << 23
#: Batches, and products and other results computed, that one unit of effort may cost: seconds.
_BATCHES, _RESULTS = 400, 1e9


@dataclass(frozen=True, eq=False)
class Outcome:
    """At which sites of a comparison some vector made it hold, and at which fail: booleans (sites,)."""

    comparison: Comparison
    held: np.ndarray
    failed: np.ndarray

    @property
    def open_sites(self) -> int:
        """Sides that no vector reached and no proof excludes."""
        c = self.comparison
        return int(np.count_nonzero(~self.held & ~c.never) + np.count_nonzero(~self.failed & ~c.always))


@dataclass(frozen=True, eq=False)
class Coverage:
    """``vectors``: codes for every input, (samples, \\*shape). ``outcomes``: what they reach together."""

    vectors: tuple[Codes, ...]
    outcomes: tuple[Outcome, ...]
    unlisted: tuple[str, ...]

    @property
    def open_sites(self) -> int:
        return sum(outcome.open_sites for outcome in self.outcomes)


def cover(graph: Graph, start: Sequence[Codes], effort: float = 1.0, seed: int = 0) -> Coverage:
    """``start`` and as few further vectors as reach what it leaves open.

    ``start`` holds codes (samples, \\*shape) for every input. ``effort`` scales how long is searched; 0 is not at all.
    The same arguments give the same vectors.
    """
    search = _Search(graph, start, seed)
    search.run(effort)
    vectors, reached = search.result()
    outcomes, first = [], 0
    half = len(reached) // 2
    for comparison in search.comparisons.all:
        here = slice(first, first + comparison.sites)
        outcomes.append(Outcome(comparison, reached[:half][here], reached[half:][here]))
        first += comparison.sites
    return Coverage(tuple(vectors), tuple(outcomes), tuple(search.comparisons.unlisted.values()))


class _Search:
    """Goals side by side: every comparison held, then every comparison failed. Samples are rows of one flat array."""

    def __init__(self, graph: Graph, start: Sequence[Codes], seed: int) -> None:
        self.entries = [op for op in graph if isinstance(op, Input)]
        self.comparisons = Comparisons(graph)
        self.rng = np.random.default_rng(seed)
        self.low, self.high = (
            np.concatenate([getattr(op.bounds(), end).ravel().astype(object) for op in self.entries])
            for end in ("low", "high")
        )
        self.work = sum(_work(op) for op in graph)
        self.start = self._flat(start)
        self.found = self.start[:0]
        excluded = [getattr(c, name) for name in ("never", "always") for c in self.comparisons.all]
        self.open = ~np.concatenate([np.zeros(0, dtype=bool), *excluded])
        self.best = np.full(self.open.size, -np.inf)
        self.nearest: dict[int, np.ndarray] = {}
        self.tried = max(4, min(_TRIED, _SCORES // (2 * max(1, self.open.size))))
        self.spent = 0.0
        self.batches = 0
        self.reached = np.asarray((self._judge(self.start) > 0).any(axis=0))
        self.found = self.found[:0]  # what the start reaches needs no further vector

    def run(self, effort: float) -> None:
        waiting = np.flatnonzero(self.open).tolist()
        while waiting and self.batches < effort * _BATCHES and self.spent < effort * _RESULTS:
            goal = waiting.pop(0)
            while self.open[goal] and self._step(goal):
                pass
            if self.open[goal]:
                waiting.append(goal)

    def result(self) -> tuple[list[Codes], np.ndarray]:
        """The start, and of what was found as little as reaches the same; and which goals that is."""
        reached = (self._scores(self.found) > 0) & ~self.reached
        chosen: list[int] = []
        left = reached.any(axis=0)
        while left.any():
            chosen.append(int(np.argmax((reached & left).sum(axis=1))))
            left &= ~reached[chosen[-1]]
        for sample in chosen.copy():  # what came first may be covered by those that came after
            rest = [other for other in chosen if other != sample]
            if np.array_equal(reached[rest].any(axis=0), reached.any(axis=0)):
                chosen = rest
        vectors = self._split(np.concatenate([self.start, self.found[sorted(chosen)]]))
        return vectors, np.asarray(self.reached | reached.any(axis=0))

    def _step(self, goal: int) -> bool:
        """Try to bring a goal nearer; whether it came."""
        before, origin = self.best[goal], self.nearest[goal]
        some = self.rng.permutation(self.low.size)[: self.tried]
        single = np.repeat(origin[None], 2 * len(some), axis=0)
        rows = np.arange(len(some))
        single[rows, some], single[len(some) + rows, some] = self.low[some], self.high[some]
        gains = (self._judge(single)[:, goal] - before).reshape(2, -1)
        upwards = gains[1] > gains[0]
        gain = np.where(upwards, gains[1], gains[0])
        towards = np.where(upwards, self.high[some], self.low[some])
        useful = np.argsort(-gain, kind="stable")[: np.count_nonzero(gain > 0)]
        if len(useful) > 1:  # together they may do more, or too much
            counts = sorted({2**k for k in range(1, len(useful).bit_length())} | {len(useful)})
            together = np.repeat(origin[None], len(counts), axis=0)
            for row, count in zip(together, counts, strict=True):
                row[some[useful[:count]]] = towards[useful[:count]]
            self._judge(together)
        if self.open[goal] and self.best[goal] <= before:
            self._judge(self._elsewhere(origin))
        return bool(self.best[goal] > before)

    def _elsewhere(self, origin: np.ndarray) -> np.ndarray:
        """Samples that differ from ``origin`` in more and more elements, at the ends of their ranges or between."""
        count = self.tried
        share = np.linspace(0.05, 1.0, count)[:, None]
        width = self.high - self.low + 1
        anywhere = self.low + self.rng.integers(0, 1 << 62, size=(count, self.low.size)).astype(object) % width
        ends = np.where(self.rng.random(anywhere.shape) < 0.5, self.low, self.high)
        other = np.where(self.rng.random(anywhere.shape) < 0.5, ends, anywhere)
        return np.asarray(np.where(self.rng.random(anywhere.shape) < share, other, origin))

    def _judge(self, samples: np.ndarray) -> np.ndarray:
        """Scores (samples, goals); remembers what comes nearest to each open goal and what reaches any."""
        samples = self._flat(self._split(samples))
        scores = self._scores(samples)
        rows = scores.argmax(axis=0)
        top = scores[rows, np.arange(self.open.size)]
        news = self.open & (top > 0)
        self.open &= ~news
        self.found = np.concatenate([self.found, samples[np.unique(rows[news])]])
        better = self.open & (top >= self.best)  # what is as near is a new place to look from
        self.best[better] = top[better]
        kept = {row: samples[row].copy() for row in np.unique(rows[better]).tolist()}
        self.nearest.update((goal, kept[int(rows[goal])]) for goal in np.flatnonzero(better).tolist())
        return scores

    def _scores(self, samples: np.ndarray) -> np.ndarray:
        self.batches += 1
        self.spent += len(samples) * self.work
        most = max(1, _SCORES // max(1, self.open.size))
        parts = [
            self.comparisons.margins(*self._split(samples[first : first + most]))
            for first in range(0, len(samples), most)
        ]
        held = np.concatenate(parts) if parts else np.zeros((0, self.open.size // 2))
        return np.concatenate([held, 1 - held], axis=1)

    def _flat(self, codes: Sequence[Codes]) -> np.ndarray:
        return np.concatenate([np.asarray(c).reshape(len(c), -1).astype(object) for c in codes], axis=1)

    def _split(self, samples: np.ndarray) -> list[Codes]:
        """Codes for each input, moved to ones that can enter."""
        ends = np.cumsum([op.output.size for op in self.entries])[:-1]
        parts = np.split(samples, ends, axis=1)
        return [
            op.settled(as_codes(part.reshape(len(part), *op.output.shape)))
            for op, part in zip(self.entries, parts, strict=True)
        ]


def _work(op: Op) -> int:
    """About how many numbers one sample takes to compute."""
    weight = op.constants.get("weight")
    return op.output.size if weight is None else weight.codes.size * max(1, op.output.size // max(1, weight.shape[0]))
