"""Interval arithmetic on codes: which integers a tensor can reach, element by element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.fixed import Codes, FixedPoint, as_codes


@dataclass(frozen=True, eq=False)
class Bounds:
    """``low[i] <= code[i] <= high[i]`` for every reachable code; arrays of one sample's shape."""

    low: Codes
    high: Codes

    @classmethod
    def everywhere(cls, shape: tuple[int, ...], low: int, high: int) -> Bounds:
        return cls(as_codes(np.full(shape, low, dtype=object)), as_codes(np.full(shape, high, dtype=object)))

    @property
    def range(self) -> tuple[int, int]:
        """The hull over all elements."""
        return int(self.low.min()), int(self.high.max())

    def inside(self, fmt: FixedPoint) -> bool:
        """Whether ``fmt`` holds every code."""
        low, high = self.range
        return fmt.min_code <= low and high <= fmt.max_code

    @property
    def constant(self) -> np.ndarray:
        """Where an element can only be one code."""
        return np.asarray(self.low == self.high, dtype=bool)

    def format(self, frac: int) -> FixedPoint:
        """The narrowest format that holds everything reachable."""
        return FixedPoint.covering(*self.range, frac)

    def reshaped(self, shape: tuple[int, ...]) -> Bounds:
        return Bounds(self.low.reshape(shape), self.high.reshape(shape))


def spanned(results: Codes, first: Codes, last: Codes) -> Bounds:
    """The least and the greatest of ``results[channel, first : last + 1]``, for ends of shape (channels, ...)."""
    low, high = (np.empty(first.shape, dtype=results.dtype) for _ in range(2))
    for channel, row in enumerate(results):
        spans = np.stack([first[channel].ravel(), last[channel].ravel()], axis=1)
        distinct, where = np.unique(spans, axis=0, return_inverse=True)
        for end, extreme in ((low, min), (high, max)):
            found = np.array([extreme(row[a : b + 1].tolist()) for a, b in distinct.tolist()], dtype=results.dtype)
            end[channel] = found[where.ravel()].reshape(first.shape[1:])
    return Bounds(low, high)
