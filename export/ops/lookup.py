"""The op that reads its results from a table: any function of a narrow number, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compress.fixed import Codes, FixedPoint, as_codes
from export.intervals import Bounds, spanned
from export.ir import Const, Op, Tensor
from export.ops.casts import same_shape

#: Bits of the widest number that a table is made for.
MAX_INDEX_WIDTH = 14


@dataclass(frozen=True)
class Table(Op):
    """``y = entries[channel, x - low]``. The law: every code that x can reach has an entry.

    ``entries`` is (1, codes), one table for all channels, or (channels, codes); codes of the output's own format.
    """

    x: Tensor
    low: int
    entries: Const

    def __post_init__(self) -> None:
        same_shape(self, self.x)
        shape = self.entries.shape
        if len(shape) != 2 or shape[0] not in (1, self.output.shape[0]) or shape[1] < 1:
            raise self.fail(
                f"entries have shape {shape}; give (1, codes), or ({self.output.shape[0]}, codes) for tables by channel"
            )
        if self.entries.format != self.output.format:
            raise self.fail(f"entries are {self.entries.format}, the output is {self.output.format}; make them alike")
        if shape[1] > 1 << MAX_INDEX_WIDTH:
            raise self.fail(f"{shape[1]} entries, the limit is {1 << MAX_INDEX_WIDTH}; use a narrower format before it")

    @property
    def high(self) -> int:
        """The last code that has an entry."""
        return self.low + self.entries.shape[1] - 1

    @property
    def index_format(self) -> FixedPoint:
        """Whole numbers from 0 to the place of the last entry."""
        return FixedPoint.covering(0, self.high - self.low, 0)

    @cached_property
    def _by_channel(self) -> Codes:
        return np.broadcast_to(self.entries.codes, (self.output.shape[0], self.entries.shape[1]))

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        place = (x - self.low).astype(np.int64)
        if place.size and (place.min() < 0 or place.max() >= self.entries.shape[1]):
            raise self.fail(f"codes outside {self.low} to {self.high}, which have entries")
        channel = np.arange(x.shape[1]).reshape((-1,) + (1,) * (x.ndim - 2))
        return as_codes(self._by_channel[channel, place])

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        ends = (np.clip(end.astype(object) - self.low, 0, self.entries.shape[1] - 1) for end in (reach.low, reach.high))
        return spanned(self._by_channel, *(end.astype(np.int64) for end in ends))

    def verify(self, *bounds: Bounds) -> None:
        low, high = bounds[0].range
        if low < self.low or high > self.high:
            raise self.fail(
                f"x reaches codes from {low} to {high}, the table has entries from {self.low} to {self.high}; extend it"
            )
