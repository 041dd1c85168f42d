"""What a process reads and writes when the layers of a graph hand packets on through streams.

The packet of a tensor (channels, \\*spatial) is its channels at one position; positions go row-major, and a tensor of
one axis is one packet. What a kernel computes does not change: it is called on the arrays that a process has at hand,
and an :class:`Access` says which those are. :mod:`export.streams.rules` has that of every op.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compress.fixed import Codes, FixedPoint
from export.ir import Op, Tensor
from export.ops import Concat, Dense, SparseDense
from export.ops.movement import NOWHERE, Rearrange
from export.ops.windows import Sliding, Window
from export.streams.absorption import Entries, by_step, entries_by_step

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
    #: Arranges what takes the place of the kernel of the op that reads.
    call: ClassVar[str | None] = None

    @abstractmethod
    def local(self, op: Op) -> Op:
        """``op`` on the arrays that its kernel is called with."""

    def at_hand(self, op: Op) -> tuple[Tensor, ...]:
        """The array for each input."""
        return self.local(op).inputs

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
class Absorbed(Access):
    """A layer that flattens: every packet of ``packed``, which has the codes of ``x`` in the same order, is multiplied
    as it comes, and only the sums are kept. Each takes an equal part of the steps that share multipliers.
    :mod:`export.streams.absorption` arranges the weights.
    """

    x: Tensor
    packed: Tensor

    template: ClassVar[str] = "firmware/absorbed.j2"
    header: ClassVar[str] = "stream/absorb.h"
    call: ClassVar[str] = "firmware/absorb.j2"

    def steps(self, op: Op) -> int:
        """Cycles for each packet."""
        return op.interval // packets(self.packed)

    def by_step(self, op: Dense) -> Codes:
        """The weights, a row for each step."""
        return by_step(op, packets(self.packed))

    def entries(self, op: SparseDense) -> Entries:
        """Those of a sparse layer, a row for each step."""
        return entries_by_step(op, packets(self.packed))

    def local(self, op: Op) -> Op:
        return op

    def order(self, op: Op) -> Iterator[Tensor]:
        yield from [self.packed] * packets(self.packed)
        yield op.output


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
    call: ClassVar[str] = "firmware/recall.j2"

    def local(self, op: Op) -> Op:
        return ByPacket(changes={"source": self.source}).local(op)

    def order(self, op: Op) -> Iterator[Tensor]:
        return Whole().order(op)


@dataclass(frozen=True)
class Picked(Access):
    """Numbers in another order: the packets are kept in a memory, of which one number is taken per cycle.

    ``source`` says for every number that is made, packet by packet, which one of ``x`` it was, or none (-1); that is
    ``fill``, a number in C++.
    """

    x: Tensor
    source: tuple[int, ...]
    fill: str

    template: ClassVar[str] = "firmware/picked.j2"
    header: ClassVar[str] = "stream/pick.h"
    call: ClassVar[str] = "firmware/made.j2"

    @cached_property
    def places(self) -> Mapping[str, NDArray[np.int64]]:
        """The packet and the channel of every number; the packet behind the last one where there is none."""
        source, count = np.array(self.source), packets(self.x)
        nowhere = source == NOWHERE
        return {
            "place": np.where(nowhere, count, source % count),
            "channel": np.where(nowhere, 0, source // count),
        }

    def local(self, op: Op) -> Op:
        x = Tensor(self.x.name, self.x.shape[:1], self.x.format)
        y = Tensor(op.name, op.output.shape[:1], op.output.format)
        return Rearrange(y, x, (0,) * y.size)

    def order(self, op: Op) -> Iterator[Tensor]:
        return Whole().order(op)


@dataclass(frozen=True)
class InTurn(Access):
    """So many packets (``turns``) of each input after those of the one before, again and again: nothing is kept."""

    turns: tuple[int, ...]

    template: ClassVar[str] = "firmware/in_turn.j2"
    call: ClassVar[str] = "firmware/take_turn.j2"

    def local(self, op: Op) -> Op:
        first, y = (Tensor(t.name, t.shape[:1], t.format) for t in (op.inputs[0], op.output))
        return Concat(y, (first,))

    def at_hand(self, op: Op) -> tuple[Tensor, ...]:
        return tuple(Tensor(t.name, t.shape[:1], t.format) for t in op.inputs)

    def order(self, op: Op) -> Iterator[Tensor]:
        for _ in range(packets(op.output) // sum(self.turns)):
            for tensor, count in zip(op.inputs, self.turns, strict=True):
                yield from (tensor, op.output) * count


def _passing(axis: Sliding) -> list[tuple[bool, bool]]:
    """For each cycle along an axis, whether an element passes in it, and whether a window ends with it."""
    first = axis.span - 1 - axis.before
    ends = range(first, first + axis.positions * axis.stride, axis.stride)
    return [(place < axis.size, place in ends) for place in range(max(axis.size, ends[-1] + 1))]
