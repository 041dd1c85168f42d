"""Convolutions over one or two spatial axes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from math import prod

import numpy as np

from compress.fixed import Codes
from export.ir import Const
from export.ops.linear import Full, Sparse, SumOfProducts
from export.ops.windows import Sliding, Window


@dataclass(frozen=True)
class Convolution(SumOfProducts):
    """The channels of the output are divided among ``groups``, each of which reads as many channels of the input.

    Padding reads zero. The products of an output come channel by channel of the input, and tap by tap within a channel.
    There is one position per ``reuse_factor`` cycles, whose products share multipliers as those of a fully connected
    layer do: :attr:`read` * taps inputs for all channels of the output.
    """

    window: Window = field(kw_only=True)

    @property
    @abstractmethod
    def groups(self) -> int:
        """How many there are, 1 where every output reads every input."""

    @property
    def read(self) -> int:
        """Channels of the input that a channel of the output reads."""
        return self.x.shape[0] // self.groups

    @property
    def interval(self) -> int:
        return prod(self.window.positions) * self.reuse_factor

    def _check_window(self) -> None:
        if not all(isinstance(axis, Sliding) for axis in self.window.axes):
            raise self.fail("a convolution has windows that slide")
        size = self.x.shape[1:]
        if size != self.window.size:
            raise self.fail(f"the windows are over {self.window.size}, {self.x} has other spatial axes")

    def _check(self) -> None:
        super()._check()
        if self.output.shape[1:] != self.window.positions:
            raise self.fail(f"there are {self.window.positions} positions, the output is {self.output}")

    def operands(self, x: Codes) -> Codes:
        taken = self.window.taken(x)  # (batch, channels, positions, taps)
        batch, _, positions, taps = taken.shape
        grouped = taken.reshape(batch, self.groups, self.read, positions, taps)
        return np.moveaxis(grouped, 2, 3).reshape(batch, self.groups, positions, self.read * taps)


@dataclass(frozen=True)
class Conv(Full, Convolution):
    """A convolution; ``weight`` is (channels out, channels in / groups, \\*kernel), as in torch."""

    def __post_init__(self) -> None:
        self._check_window()
        if self.weight.shape[2:] != self.window.kernel:
            raise self.fail(f"the windows have {self.window.kernel} taps, the weights are {self.weight.shape}")
        channels, (made, read) = self.x.shape[0], self.weight.shape[:2]
        if channels % read or made % (channels // read):
            raise self.fail(
                f"{channels} channels do not divide into groups of {read} that make {made} together; check the weights"
            )
        self._check()

    @property
    def groups(self) -> int:
        return self.x.shape[0] // self.weight.shape[1]

    @property
    def matrix(self) -> Codes:
        return self.weight.codes.reshape(len(self.weight.codes), -1)


@dataclass(frozen=True)
class SparseConv(Sparse, Convolution):
    """A convolution in COO form; a row counts the taps, channel by channel of the group that the output reads."""

    groups: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        self._check_window()
        channels, made = self.x.shape[0], self.output.shape[0]
        if self.groups < 1 or channels % self.groups or made % self.groups:
            raise self.fail(
                f"{channels} channels that make {made} do not divide into {self.groups} groups; check the groups"
            )
        self._check()

    @property
    def places(self) -> tuple[int, int]:
        return self.read * self.window.taps, self.output.shape[0]

    @classmethod
    def of(cls, conv: Conv, reuse_factor: int | None = None) -> SparseConv:
        """The same computation without its zeros."""
        rows, cols = np.nonzero(conv.matrix.T)
        return cls(
            output=conv.output,
            x=conv.x,
            weight=Const(conv.matrix[cols, rows], conv.weight.format),
            rows=tuple(rows.tolist()),
            cols=tuple(cols.tolist()),
            bias=conv.bias,
            modes=conv.modes,
            reuse_factor=conv.reuse_factor if reuse_factor is None else reuse_factor,
            window=conv.window,
            groups=conv.groups,
        )
