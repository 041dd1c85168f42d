"""Windows over the spatial axes of a tensor: which element every tap reads at every position.

A tensor is (channels, \\*spatial) with one or two spatial axes, and each axis has windows of its own: at every position
there are as many taps as the kernel has, and each of them reads one element of the axis or padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from compress.fixed import Codes

#: In place of the index of an element: the tap reads padding.
PADDING = -1


@dataclass(frozen=True)
class Sliding:
    """A window of ``kernel`` taps, ``dilation`` elements apart; its next position is ``stride`` elements further.

    ``size`` elements of the axis stand between ``before`` and ``after`` elements of padding. Elements behind the last
    window are not read.
    """

    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        if min(self.size, self.kernel, self.stride, self.dilation) < 1 or min(self.before, self.after) < 0:
            raise ValueError(f"sizes, kernels, strides and dilations begin at 1, paddings at 0; got {self}")
        if self.span > self.padded:
            raise ValueError(f"a window spans {self.span} elements, the axis has {self.padded} with its padding")

    @property
    def span(self) -> int:
        """Elements from the first to the last tap."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def padded(self) -> int:
        return self.before + self.size + self.after

    @property
    def positions(self) -> int:
        return (self.padded - self.span) // self.stride + 1

    @cached_property
    def reads(self) -> NDArray[np.int64]:
        """The element that each tap reads, or ``PADDING``: (positions, kernel)."""
        first = np.arange(self.positions)[:, None] * self.stride - self.before
        places = first + np.arange(self.kernel) * self.dilation
        return np.where((places >= 0) & (places < self.size), places, PADDING)


@dataclass(frozen=True)
class Adaptive:
    """Windows that divide an axis of ``size`` elements among ``positions``, as evenly as whole elements can.

    Position p reads from floor(p size / positions) up to ceil((p + 1) size / positions), as torch's adaptive pooling.
    """

    size: int
    positions: int

    def __post_init__(self) -> None:
        if min(self.size, self.positions) < 1:
            raise ValueError(f"an axis has at least one element and one position, got {self}")

    @property
    def kernel(self) -> int:
        """Taps of the longest window."""
        return self.reads.shape[1]

    @cached_property
    def reads(self) -> NDArray[np.int64]:
        """The element that each tap reads, or ``PADDING`` behind the end of a shorter window: (positions, kernel)."""
        place = np.arange(self.positions)
        first, last = place * self.size // self.positions, -(-(place + 1) * self.size // self.positions)
        taps = first[:, None] + np.arange(int((last - first).max()))
        return np.where(taps < last[:, None], taps, PADDING)


def adaptive(size: int, positions: int) -> Sliding | Adaptive:
    """Adaptive windows, as windows that slide where all are alike."""
    if size % positions == 0:
        return Sliding(size, size // positions, size // positions)
    return Adaptive(size, positions)


@dataclass(frozen=True)
class Window:
    """Windows over all spatial axes, one or two. Taps and positions are counted row-major."""

    axes: tuple[Sliding | Adaptive, ...]

    def __post_init__(self) -> None:
        if len(self.axes) not in (1, 2):
            raise ValueError(f"windows have one or two axes, got {len(self.axes)}")

    @property
    def size(self) -> tuple[int, ...]:
        """Elements along each axis of what is read."""
        return tuple(axis.size for axis in self.axes)

    @property
    def kernel(self) -> tuple[int, ...]:
        return tuple(axis.kernel for axis in self.axes)

    @property
    def positions(self) -> tuple[int, ...]:
        """The spatial shape of what is made."""
        return tuple(axis.positions for axis in self.axes)

    @property
    def taps(self) -> int:
        return prod(self.kernel)

    @cached_property
    def reads(self) -> NDArray[np.int64]:
        """The element of a channel that each tap reads, row-major, or ``PADDING``: (all positions, all taps)."""
        reads = self.axes[0].reads
        for axis in self.axes[1:]:
            outer, inner = reads[:, None, :, None], axis.reads[None, :, None, :]
            both = np.where((outer == PADDING) | (inner == PADDING), PADDING, outer * axis.size + inner)
            reads = both.reshape(len(reads) * axis.positions, -1)
        return reads

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many elements each window reads, padding left out: (\\*positions,)."""
        return np.asarray((self.reads != PADDING).sum(axis=1)).reshape(self.positions)

    def taken(self, codes: Codes, padding: int = 0) -> Codes:
        """What every tap reads of (..., channels, \\*size): (..., channels, all positions, all taps)."""
        flat = codes.reshape(*codes.shape[: -len(self.axes)], prod(self.size))
        end = np.full((*flat.shape[:-1], 1), padding, dtype=flat.dtype)
        return np.concatenate([flat, end], axis=-1)[..., self.reads]  # PADDING counts from the end
