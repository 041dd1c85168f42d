"""The ops that move codes and compute none: wires in hardware."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from compress.fixed import Codes, as_codes
from export.arithmetic import shifted
from export.intervals import Bounds
from export.ir import Op, Tensor

#: In the place of a source: the constant, not a number of ``x``.
NOWHERE = -1


@dataclass(frozen=True)
class Reshape(Op):
    """The same codes, row-major, along other axes."""

    x: Tensor

    def __post_init__(self) -> None:
        if self.output.size != self.x.size or self.output.format != self.x.format:
            raise self.fail(f"must be {self.x.format} of {self.x.size} elements, got {self.output}")

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        return x.reshape(len(x), *self.output.shape)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        return reach.reshaped(self.output.shape)


@dataclass(frozen=True)
class Concat(Op):
    """``parts`` side by side along ``axis`` of a sample, in a format that holds every one of them without a cast."""

    parts: tuple[Tensor, ...]
    axis: int = 0

    def __post_init__(self) -> None:
        if not self.parts:
            raise self.fail("needs a part at least")
        shapes = [part.shape for part in self.parts]
        if not 0 <= self.axis < len(shapes[0]):
            raise self.fail(f"axis {self.axis} of parts with {len(shapes[0])} axes; count from 0, without the batch")
        rests = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in shapes}
        lengths = {len(shape) for shape in shapes}
        if len(rests) > 1 or len(lengths) > 1:
            raise self.fail(f"parts of shapes {', '.join(map(str, shapes))} differ along other axes than {self.axis}")
        total = sum(shape[self.axis] for shape in shapes)
        expected = (*shapes[0][: self.axis], total, *shapes[0][self.axis + 1 :])
        if self.output.shape != expected:
            raise self.fail(f"the parts make {expected}, the output is {self.output.shape}")
        for part in self.parts:
            if not self.output.format.holds(part.format):
                raise self.fail(f"{self.output.format} does not hold {part}; widen it, or cast before")

    @property
    def blocks(self) -> int:
        """How often every part takes its turn in row-major order."""
        return int(np.prod(self.output.shape[: self.axis], dtype=np.int64))

    @property
    def places(self) -> tuple[slice, ...]:
        """What each part fills along the axis."""
        ends = list(accumulate(part.shape[self.axis] for part in self.parts))
        return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))

    def eval(self, *codes: Codes) -> Codes:
        return self._joined(codes, self.axis + 1)

    def bounds(self, *bounds: Bounds) -> Bounds:
        lows, highs = [b.low for b in bounds], [b.high for b in bounds]
        return Bounds(self._joined(lows, self.axis), self._joined(highs, self.axis))

    def _joined(self, arrays: tuple[Codes, ...] | list[Codes], axis: int) -> Codes:
        frac = self.output.format.frac
        aligned = [shifted(x, frac - part.format.frac) for x, part in zip(arrays, self.parts, strict=True)]
        return as_codes(np.concatenate(aligned, axis=axis))


@dataclass(frozen=True)
class Rearrange(Op):
    """``y[i] = x[source[i]]``, both row-major, and ``fill`` where the source is -1: whatever moves numbers.

    The output's format holds x's; ``fill`` is a code of it.
    """

    x: Tensor
    source: tuple[int, ...]
    fill: int = 0

    def __post_init__(self) -> None:
        if len(self.source) != self.output.size:
            raise self.fail(f"{len(self.source)} sources for {self.output.size} elements")
        if min(self.source) < NOWHERE or max(self.source) >= self.x.size:
            raise self.fail(f"a source lies outside the {self.x.size} elements of {self.x.name}; -1 is the constant")
        if not self.output.format.holds(self.x.format):
            raise self.fail(f"{self.output.format} does not hold {self.x}; widen it, or cast before")
        if not self.output.format.min_code <= self.fill <= self.output.format.max_code:
            raise self.fail(f"the constant {self.fill} is no code of {self.output.format}; widen it")

    @cached_property
    def is_filled(self) -> bool:
        """Whether the constant appears at all."""
        return NOWHERE in self.source

    @cached_property
    def sources(self) -> NDArray[np.int64]:
        """``source`` in the shape of the output."""
        return np.array(self.source, dtype=np.int64).reshape(self.output.shape)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        return self._moved(x.reshape(len(x), self.x.size)).reshape(len(x), *self.output.shape)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        low, high = self._moved(np.stack([reach.low.ravel(), reach.high.ravel()]))
        return Bounds(low.reshape(self.output.shape), high.reshape(self.output.shape))

    def _moved(self, rows: Codes) -> Codes:
        source = self.sources.ravel()
        moved = shifted(rows, self.output.format.frac - self.x.format.frac)[:, source]
        return as_codes(np.where(source == NOWHERE, self.fill, moved)) if self.is_filled else moved
