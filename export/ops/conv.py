"""Convolutions over one or two spatial axes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from compress.fixed import Codes
from export.ops.linear import SumOfProducts
from export.ops.reuse import check_reuse
from export.ops.windows import Sliding, Window


@dataclass(frozen=True)
class Conv(SumOfProducts):
    """A convolution; ``weight`` is (channels out, channels in / groups, \\*kernel), as in torch.

    Padding reads zero. The products of an output come channel by channel of the input, and tap by tap within a channel.
    There is one position per ``reuse_factor`` cycles, whose products share multipliers as those of a fully connected
    layer do: ``channels in / groups * taps`` inputs for all channels of the output.
    """

    window: Window = field(kw_only=True)

    def __post_init__(self) -> None:
        if not all(isinstance(axis, Sliding) for axis in self.window.axes):
            raise self.fail("a convolution has windows that slide")
        channels, size = self.x.shape[0], self.x.shape[1:]
        if size != self.window.size:
            raise self.fail(f"the windows are over {self.window.size}, {self.x} has other spatial axes")
        if self.weight.shape[2:] != self.window.kernel:
            raise self.fail(f"the windows have {self.window.kernel} taps, the weights are {self.weight.shape}")
        made, read = self.weight.shape[:2]
        if channels % read or made % (channels // read):
            raise self.fail(
                f"{channels} channels do not divide into groups of {read} that make {made} together; check the weights"
            )
        self._check()
        if self.output.shape[1:] != self.window.positions:
            raise self.fail(f"there are {self.window.positions} positions, the output is {self.output}")
        check_reuse(self.name, read * self.window.taps, made, self.reuse_factor)

    @property
    def interval(self) -> int:
        return prod(self.window.positions) * self.reuse_factor

    @property
    def groups(self) -> int:
        return self.x.shape[0] // self.weight.shape[1]

    @property
    def matrix(self) -> Codes:
        return self.weight.codes.reshape(len(self.weight.codes), -1)

    def operands(self, x: Codes) -> Codes:
        taken = self.window.taken(x)  # (batch, channels, positions, taps)
        batch, _, positions, taps = taken.shape
        read = self.weight.shape[1]
        grouped = taken.reshape(batch, self.groups, read, positions, taps)
        return np.moveaxis(grouped, 2, 3).reshape(batch, self.groups, positions, read * taps)
