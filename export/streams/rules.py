"""How each kind of op takes in its inputs; one that is not here has its tensors collected whole."""

from __future__ import annotations

from functools import singledispatch
from math import ldexp, prod

import numpy as np
from numpy.typing import NDArray

from compress.fixed import FixedPoint
from export.ir import Op, Tensor
from export.ops import Affine, ArgMax, Cast, ChannelCast, Clip, Concat, ReLU, Reshape, Table, Threshold
from export.ops.conv import Convolution
from export.ops.elementwise import Elementwise
from export.ops.movement import NOWHERE, Rearrange
from export.ops.pooling import MaxPool, Pool, SumPool
from export.ops.windows import Sliding, Window
from export.streams.access import (
    Access,
    ByPacket,
    Folded,
    Gathered,
    InTurn,
    Picked,
    Whole,
    Windowed,
    channels,
    packets,
)

#: Numbers beyond which a tensor that is moved about stands in a memory, and is taken from it one by one: registers in
#: such a number, each of which may have been any other's, are what HLS tools do not come to an end with.
MOST_REGISTERS = 4096


def _literal(code: int, fmt: FixedPoint) -> str | None:
    """A number as C++ writes it; None where a double does not hold it."""
    try:
        value = ldexp(code, -fmt.frac)
    except OverflowError:
        return None
    return repr(value) if value == code * fmt.lsb else None


def _windowed(op: Convolution | Pool, padding: int) -> Access:
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
def _(op: Reshape) -> Access:
    if channels(op.x) == channels(op.output):
        return ByPacket()
    return _anywhere(op.x, np.arange(op.x.size).reshape(op.output.shape), "0")


def _anywhere(x: Tensor, sources: NDArray[np.int64], fill: str) -> Access:
    """What moves numbers between packets: all at once while they are few, or are a single packet on one side."""
    if x.size + sources.size <= MOST_REGISTERS or packets(x) == 1 or sources.size == len(sources):
        return Whole()
    return Picked(x, tuple(sources.reshape(len(sources), -1).T.ravel().tolist()), fill)


@access.register
def _(op: Concat) -> Access:
    """A stream can be read once: a part that comes twice is collected."""
    if op.axis == 0:
        return ByPacket()
    return InTurn(tuple(prod(p.shape[op.axis :]) for p in op.parts)) if len({*op.parts}) == len(op.parts) else Whole()


@access.register
def _(op: Rearrange) -> Access:
    """Whole packets that are moved, whose channels are the same ones at every position; else the whole."""
    source, before = op.sources.reshape(channels(op.output), -1), packets(op.x)
    after = source.shape[1]
    if before == after == 1:
        return ByPacket()
    if (fill := _literal(op.fill, op.output.format)) is None:
        return Whole()
    filled = (source == NOWHERE).all(axis=0)
    taken = source[:, ~filled]
    channel = np.where(taken == NOWHERE, NOWHERE, taken // before)[:, :1]
    if not taken.size or np.any(np.where(taken == NOWHERE, NOWHERE, taken // before) != channel):
        return _anywhere(op.x, op.sources, fill)
    place = (taken % before)[channel[:, 0] != NOWHERE]
    if np.any(place != place[:1]):
        return _anywhere(op.x, op.sources, fill)
    places = np.full(after, NOWHERE)
    places[~filled] = place[0]
    moved = tuple(channel[:, 0].tolist())
    if before == 1 and not filled.any():
        return ByPacket((op.x,), {"source": moved})
    if before == after and np.array_equal(places, np.arange(after)):
        return ByPacket(changes={"source": moved})
    return Gathered(moved, tuple(places.tolist()), fill)


@access.register
def _(op: Convolution) -> Access:
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
