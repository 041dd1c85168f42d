"""What a process reads and writes when the layers of a graph hand packets on through streams.

The packet of a tensor (channels, \\*spatial) is its channels at one position; positions go row-major, and a tensor of
one axis is one packet. What a kernel computes does not change: it is called on the arrays that a process has at hand,
and :func:`access` says which those are. An op that says nothing has its tensors collected whole, which is always right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import singledispatch
from math import ldexp, prod
from typing import Any, ClassVar

import numpy as np

from compress.fixed import FixedPoint
from export.ir import Op, Tensor
from export.ops import Affine, ArgMax, Cast, ChannelCast, Clip, Concat, ReLU, Table, Threshold
from export.ops.conv import Conv
from export.ops.elementwise import Elementwise
from export.ops.movement import NOWHERE, Rearrange
from export.ops.pooling import MaxPool, Pool, SumPool
from export.ops.windows import Sliding, Window

#: Packets of a line below which it stands in registers: what is written to a memory can be read some cycles later.
SHORT_LINE = 16


class Io(Enum):
    """How a design takes its inputs and its layers their tensors: whole, or packet by packet."""

    PARALLEL = "parallel"
    STREAM = "stream"

    @classmethod
    def of(cls, given: Io | str) -> Io:
        """The member, from itself or from its value. Raises ValueError for anything else, listing those there are."""
        try:
            return cls(given)
        except ValueError:
            raise ValueError(f"there is no io {given!r}; choose {' or '.join(repr(io.value) for io in cls)}") from None


def channels(tensor: Tensor) -> int:
    """How many numbers a packet of a tensor has."""
    return tensor.shape[0]


def packets(tensor: Tensor) -> int:
    """How many packets a tensor is."""
    return prod(tensor.shape[1:])


class Access(ABC):
    """How a process takes in what its kernel reads, and hands on what that makes."""

    #: Arranges the body of the process.
    template: ClassVar[str]
    #: What that calls.
    header: ClassVar[str] = "stream/transfer.h"

    @abstractmethod
    def local(self, op: Op) -> Op:
        """``op`` on the arrays that its kernel is called with."""

    @abstractmethod
    def order(self, op: Op) -> Iterator[Tensor]:
        """The tensor of each packet in the order in which they pass: read, or written where it is the output."""


@dataclass(frozen=True)
class Whole(Access):
    """The kernel needs the whole tensors: they are collected, side by side, and what it makes is sent off.

    A tensor among ``shaped`` comes as the packets of another that has the same codes in the same order.
    """

    shaped: Mapping[Tensor, Tensor] = field(default_factory=dict)

    template: ClassVar[str] = "firmware/whole.j2"

    def local(self, op: Op) -> Op:
        return op

    def order(self, op: Op) -> Iterator[Tensor]:
        inputs = tuple(self.shaped.get(tensor, tensor) for tensor in dict.fromkeys(op.inputs))
        for number in range(max(map(packets, inputs))):
            yield from (tensor for tensor in inputs if number < packets(tensor))
        yield from [op.output] * packets(op.output)


@dataclass(frozen=True)
class ByPacket(Access):
    """Every packet is made of one packet of each input, by an op that takes ``changes`` to work on single packets.

    A ``held`` input is a single packet, read once and kept for all of them.
    """

    held: tuple[Tensor, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)

    template: ClassVar[str] = "firmware/by_packet.j2"

    def local(self, op: Op) -> Op:
        single = {t: Tensor(t.name, t.shape[:1], t.format) for t in (*op.inputs, op.output)}
        return op.moved(single, **self.changes)

    def order(self, op: Op) -> Iterator[Tensor]:
        yield from self.held
        for _ in range(packets(op.output)):
            yield from (t for t in dict.fromkeys(op.inputs) if t not in self.held)
            yield op.output


@dataclass(frozen=True)
class Windowed(Access):
    """A packet for each position of windows that slide, of which only the lines that a window spans are kept.

    ``padding`` is what is read outside of the tensor, a number in C++.
    """

    x: Tensor
    window: Window
    padding: str

    template: ClassVar[str] = "firmware/windowed.j2"
    header: ClassVar[str] = "stream/window.h"

    @property
    def spans(self) -> tuple[int, int]:
        """Lines, and elements of a line, from the first tap to the last."""
        *rows, columns = (axis.span for axis in self.window.axes if isinstance(axis, Sliding))
        return (rows[0] if rows else 1), columns

    @property
    def line(self) -> int:
        """Packets in a line."""
        return self.window.size[-1]

    @property
    def in_memory(self) -> bool:
        """Whether lines stand in memories rather than registers."""
        return self.line >= SHORT_LINE

    def local(self, op: Op) -> Op:
        at_hand = Window(tuple(Sliding(kernel, kernel) for kernel in self.window.kernel))
        x = Tensor(self.x.name, (channels(self.x), *at_hand.size), self.x.format)
        y = Tensor(op.name, (channels(op.output), *at_hand.positions), op.output.format)
        return op.moved({self.x: x, op.output: y}, window=at_hand)

    def order(self, op: Op) -> Iterator[Tensor]:
        *rows, columns = (_passing(axis) for axis in self.window.axes if isinstance(axis, Sliding))
        for row_inside, row_ends in rows[0] if rows else [(True, True)]:
            for column_inside, column_ends in columns:
                if row_inside and column_inside:
                    yield self.x
                if row_ends and column_ends:
                    yield op.output


@dataclass(frozen=True)
class Folded(Access):
    """One window over everything: the packets are combined as they come, and the kernel is called on what they make.

    ``fold`` is "max" or "sum", whose partial sums have a ``format`` of their own.
    """

    x: Tensor
    fold: str
    format: FixedPoint

    template: ClassVar[str] = "firmware/folded.j2"
    header: ClassVar[str] = "stream/fold.h"

    def local(self, op: Op) -> Op:
        axes = (1,) * (len(self.x.shape) - 1)
        x = Tensor(self.x.name, (channels(self.x), *axes), self.format)
        y = Tensor(op.name, (channels(op.output), *axes), op.output.format)
        return op.moved({self.x: x, op.output: y}, window=Window((Sliding(1, 1),) * len(axes)))

    def order(self, op: Op) -> Iterator[Tensor]:
        yield from [self.x] * packets(self.x)
        yield op.output


@dataclass(frozen=True)
class Gathered(Access):
    """Packets in another order, some left out, repeated or ``fill``, a number in C++: all are kept in a memory.

    ``source`` says what becomes of the channels of every packet, ``places`` which packet, or none (-1), each one that
    is made has been.
    """

    source: tuple[int, ...]
    places: tuple[int, ...]
    fill: str

    template: ClassVar[str] = "firmware/gathered.j2"
    header: ClassVar[str] = "stream/gather.h"

    def local(self, op: Op) -> Op:
        return ByPacket(changes={"source": self.source}).local(op)

    def order(self, op: Op) -> Iterator[Tensor]:
        return Whole().order(op)


def _passing(axis: Sliding) -> list[tuple[bool, bool]]:
    """For each cycle along an axis, whether an element passes in it, and whether a window ends with it."""
    first = axis.span - 1 - axis.before
    ends = range(first, first + axis.positions * axis.stride, axis.stride)
    return [(place < axis.size, place in ends) for place in range(max(axis.size, ends[-1] + 1))]


def _literal(code: int, fmt: FixedPoint) -> str | None:
    """A number as C++ writes it; None where a double does not hold it."""
    try:
        value = ldexp(code, -fmt.frac)
    except OverflowError:
        return None
    return repr(value) if value == code * fmt.lsb else None


def _windowed(op: Conv | Pool, padding: int) -> Access:
    """Windows that divide an axis unevenly, or of which some lie in the padding altogether, take the whole tensor."""
    slide = all(isinstance(axis, Sliding) and axis.before < axis.span for axis in op.window.axes)
    number = _literal(padding, op.x.format)
    return Windowed(op.x, op.window, number) if slide and number is not None else Whole()


def _takes_everything(window: Window) -> bool:
    """Whether there is one window, every element is read once, and no padding is."""
    return window.reads.shape[0] == 1 and window.reads[0].tolist() == list(range(prod(window.size)))


@singledispatch
def access(op: Op) -> Access:
    """What ``op`` needs at hand. An op that works position by position, or on windows, registers here."""
    return Whole()


@access.register(Affine)
@access.register(ArgMax)
@access.register(Cast)
@access.register(ChannelCast)
@access.register(Clip)
@access.register(Elementwise)
@access.register(ReLU)
@access.register(Table)
@access.register(Threshold)
def _(op: Op) -> Access:
    return ByPacket()


@access.register
def _(op: Concat) -> Access:
    return ByPacket() if op.axis == 0 else Whole()


@access.register
def _(op: Rearrange) -> Access:
    """Whole packets that are moved, whose channels are the same ones at every position; else the whole."""
    source, before = op.sources.reshape(channels(op.output), -1), packets(op.x)
    after = source.shape[1]
    if before == after == 1:
        return ByPacket()
    filled = (source == NOWHERE).all(axis=0)
    taken = source[:, ~filled]
    channel = np.where(taken == NOWHERE, NOWHERE, taken // before)[:, :1]
    if not taken.size or np.any(np.where(taken == NOWHERE, NOWHERE, taken // before) != channel):
        return Whole()
    place = (taken % before)[channel[:, 0] != NOWHERE]
    fill = _literal(op.fill, op.output.format)
    if np.any(place != place[:1]) or fill is None:
        return Whole()
    places = np.full(after, NOWHERE)
    places[~filled] = place[0]
    moved = tuple(channel[:, 0].tolist())
    if before == 1 and not filled.any():
        return ByPacket((op.x,), {"source": moved})
    if before == after and np.array_equal(places, np.arange(after)):
        return ByPacket(changes={"source": moved})
    return Gathered(moved, tuple(places.tolist()), fill)


@access.register
def _(op: Conv) -> Access:
    return _windowed(op, 0)


@access.register
def _(op: MaxPool) -> Access:
    if _takes_everything(op.window):
        return Folded(op.x, "max", op.x.format)
    return _windowed(op, op.x.format.min_code)


@access.register
def _(op: SumPool) -> Access:
    """Weights that differ from position to position belong to the whole."""
    if _takes_everything(op.window):
        return Folded(op.x, "sum", op.sum_format)
    return _windowed(op, 0) if op.weight.shape == (1,) else Whole()
