"""The constants of each op as its kernel wants them: arrays of literals, and the types of their entries.

An op whose constants are not simply its fields registers its arrangement with :func:`constants`. What a vendor spells
in its own way, the number types, is listed as :class:`SignalType`, :class:`ConstantType` and :class:`IndexType` and
spelled by the backend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from compress.fixed import Codes, FixedPoint
from export.ir import Const, GraphError, Op
from export.ops import (
    Affine,
    BinaryDense,
    ChannelCast,
    Clip,
    Conv,
    Dense,
    Modes,
    Rearrange,
    Softmax,
    SparseConv,
    SparseDense,
    SumOfProducts,
    SumPool,
    Threshold,
)
from export.ops.casts import along_channels, channels_by_format
from export.ops.digits import OneDigit
from export.ops.movement import NOWHERE
from export.ops.reuse import by_step, spread
from export.ops.softmax import TO_INDEX, TO_MANTISSA


@dataclass(frozen=True)
class SignalType:
    """The type of a tensor; ``modes`` is what happens to a value assigned to it, None where every value fits."""

    name: str
    format: FixedPoint
    modes: Modes | None


@dataclass(frozen=True)
class ConstantType:
    """The type of the entries of a table; ``digit`` says that they are weights of no more than one."""

    name: str
    format: FixedPoint
    digit: OneDigit | None = None


@dataclass(frozen=True)
class IndexType:
    """An unsigned integer type for indices below ``count``."""

    name: str
    count: int

    @property
    def bits(self) -> int:
        return max(1, (self.count - 1).bit_length())


@dataclass(frozen=True)
class PacketType:
    """The type of what travels through a stream: so many ``channels`` of the type ``element``."""

    name: str
    element: str
    channels: int


@dataclass(frozen=True)
class StreamType:
    """The type of a stream of the type ``packet``; a sample is so many ``packets``."""

    name: str
    packet: str
    packets: int


TypeName = SignalType | ConstantType | IndexType


@dataclass(frozen=True)
class Table:
    """A constant array: its C++ declarator and one row of literals per line."""

    name: str
    type: str
    shape: tuple[int, ...]
    rows: tuple[str, ...]

    @property
    def suffix(self) -> str:
        return "".join(f"[{n}]" for n in self.shape)

    @property
    def declarator(self) -> str:
        return self.name + self.suffix

    @property
    def nested(self) -> bool:
        return len(self.shape) > 1


@dataclass(frozen=True)
class Parts:
    """The constants of an op as its kernel wants them: arrays of literals by name, and the types of their entries."""

    entries: Mapping[str, tuple[str, NDArray[np.str_]]]
    types: tuple[TypeName, ...]


@singledispatch
def constants(op: Op, name: str) -> Parts:
    """The constants of ``op``, whose identifier is ``name``, as its kernel wants them."""
    return parts_of(op, name, {f: c.codes for f, c in op.constants.items()})


@constants.register
def _(op: Dense, name: str) -> Parts:
    if op.reuse_factor > 1:
        return _shared(op, name, op.multipliers)
    return parts_of(op, name, {"weight": op.weight.codes, "bias": op.bias.codes})


def loadable(op: Op, name: str) -> Parts:
    """The same where any other weights may be loaded: no multiplier is left out."""
    if isinstance(op, Conv | Dense) and op.reuse_factor > 1:
        return _shared(op, name, range(op.matrix.size // op.reuse_factor))
    return constants(op, name)


def _shared(op: Conv | Dense, name: str, multipliers: Sequence[int]) -> Parts:
    """A memory word of weights for each step, and one of biases for the outputs that begin together, if not all do."""
    weight, bias = by_step(op.matrix, op.reuse_factor), op.bias.codes
    at_once = weight.shape[1]
    arranged = {"weight": weight[:, list(multipliers)], "bias": bias.reshape(-1, at_once) if op.is_serial else bias}
    return parts_of(op, name, arranged)


@constants.register
def _(op: SparseDense, name: str) -> Parts:
    return entries_of(op, name, op.rows, op.x.size)


def entries_of(
    op: SparseConv | SparseDense,
    name: str,
    rows: Sequence[int],
    inputs: int,
    dealt: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> Parts:
    """Entries in their order, or a memory word of them for each step; ``rows`` are among so many ``inputs``.

    How they are ``dealt`` to the steps is what :func:`export.ops.reuse.spread` says, unless it is given.
    """
    # An array of C++ has an entry; that of a layer without weights adds nothing.
    places = list(zip(rows, op.cols, strict=True)) or [(0, 0)]
    codes = op.weight.codes if op.rows else np.zeros(1, dtype=np.int64)
    weights = literals(f"{name}: weight", Const(codes, op.weight.format))
    packed = np.array([f"{{{i}, {j}, {w}}}" for (i, j), w in zip(places, weights, strict=True)])
    outputs = op.places[1]
    if op.reuse_factor > 1:
        numbers, cols = dealt or spread(op.cols, outputs, op.reuse_factor)
        nothing = [f"{{0, {j}, 0.0}}" for j in cols.flat]
        packed = np.where(numbers < 0, np.reshape(nothing, cols.shape), packed[numbers])
    else:  # by output: of no interest to hardware, but software counts on it
        packed = packed[np.argsort([j for _, j in places], kind="stable")]
    bias = parts_of(op, name, {"bias": op.bias.codes})
    return Parts(
        {"entries": (f"qapsule::coo<{name}_weight_t, {name}_row_t, {name}_col_t>", packed), **bias.entries},
        (
            ConstantType(f"{name}_weight_t", op.weight.format),
            IndexType(f"{name}_row_t", inputs),
            IndexType(f"{name}_col_t", outputs),
            *bias.types,
        ),
    )


@constants.register
def _(op: Conv, name: str) -> Parts:
    return _taps(op, name) if op.reuse_factor == 1 else _shared(op, name, op.multipliers)


@constants.register
def _(op: SparseConv, name: str) -> Parts:
    """As a convolution where it is fully parallel; else entries whose rows are among the inputs of all groups."""
    if op.reuse_factor == 1:
        return _taps(op, name)
    inputs, channels = op.places
    rows = [col * op.groups // channels * inputs + row for row, col in zip(op.rows, op.cols, strict=True)]
    return entries_of(op, name, rows, op.groups * inputs)


def _taps(op: Conv | SparseConv, name: str) -> Parts:
    """The weights of each output channel that are not zero, by ascending input, and how many there are."""
    bias = parts_of(op, name, {"bias": op.bias.codes})
    channels, inputs = op.matrix.shape
    # An array of C++ has an entry, and each row as many as the longest.
    used = np.count_nonzero(op.matrix, axis=1)
    longest = max(1, int(used.max()))
    order = np.argsort(op.matrix == 0, axis=1, kind="stable")[:, :longest]
    weights = literals(f"{op.name}: weight", Const(np.take_along_axis(op.matrix, order, axis=1), op.weight.format))
    packed = [f"{{{i}, {w}}}" for i, w in zip(order.flat, weights.flat, strict=True)]
    return Parts(
        {
            "taps": (f"qapsule::tap<{name}_weight_t, {name}_input_t>", np.array(packed).reshape(channels, longest)),
            "used": (f"{name}_used_t", used.astype(str)),
            **bias.entries,
        },
        (
            ConstantType(f"{name}_weight_t", op.weight.format),
            IndexType(f"{name}_input_t", inputs),
            IndexType(f"{name}_used_t", longest + 1),
            *bias.types,
        ),
    )


@constants.register
def _(op: SumPool, name: str) -> Parts:
    weight = parts_of(op, name, {"weight": op.weight.codes})
    return Parts(weight.entries, (SignalType(f"{name}_sum_t", op.sum_format, None), *weight.types))


@constants.register
def _(op: ChannelCast, name: str) -> Parts:
    """The elements of each format, and those of none."""
    index = IndexType(f"{name}_index_t", op.output.size)
    elements = np.arange(op.output.size).reshape(op.output.shape)
    entries: dict[str, tuple[str, NDArray[np.str_]]] = {}
    types: list[TypeName] = [index]
    for fmt, channels in channels_by_format(op.formats).items():
        field = "zero" if fmt is None else f"format{len(types) - 1}"
        entries[field] = (index.name, elements[channels].ravel().astype(str))
        if fmt is not None:
            types.append(SignalType(f"{name}_{field}_t", fmt, op.modes))
    return Parts(entries, tuple(types))


@constants.register
def _(op: BinaryDense, name: str) -> Parts:
    """32 weights in a word, the first in its lowest bit."""
    outputs, inputs = op.weight.shape
    padded = np.zeros((outputs, -(-inputs // 32) * 32), dtype=np.int64)
    padded[:, :inputs] = op.weight.codes
    words = (padded.reshape(outputs, -1, 32) << np.arange(32)).sum(axis=2)
    spelled = np.array([f"0x{word:08x}u" for word in words.ravel().tolist()]).reshape(words.shape)
    unit = literals(f"{op.name}: unit", Const(np.array([1]), op.count))
    offset = parts_of(op, name, {"offset": op.offset.codes})
    return Parts(
        {"weight": ("unsigned", spelled), **offset.entries, "unit": (f"{name}_unit_t", unit)},
        (*offset.types, ConstantType(f"{name}_unit_t", op.count), SignalType(f"{name}_count_t", op.count, None)),
    )


@constants.register
def _(op: Softmax, name: str) -> Parts:
    parts = parts_of(op, name, {field: const.codes for field, const in op.constants.items()})
    signals = (
        SignalType(f"{name}_index_t", op.index, TO_INDEX),
        SignalType(f"{name}_mantissa_t", op.mantissa, TO_MANTISSA),
        SignalType(f"{name}_sum_t", op.sums, None),
        SignalType(f"{name}_term_t", op.exponentials.format, None),
        SignalType(f"{name}_inverse_t", op.reciprocals.format, None),
    )
    return Parts(parts.entries, (*parts.types, *signals))


@constants.register(Affine)
@constants.register(Clip)
@constants.register(Threshold)
def _(op: Affine | Clip | Threshold, name: str) -> Parts:
    """Per channel becomes per element, the shape of the kernels."""
    shape = op.output.shape

    def spread(codes: Codes) -> Codes:
        return np.broadcast_to(along_channels(codes, shape), shape).ravel()

    tables = {f: c.codes for f, c in op.constants.items()}
    if isinstance(op, Threshold):
        level, step = op.level.codes, op.step.codes
        if level.shape[1] == 0:  # a constant: an array of C++ has an entry, and its step changes nothing
            level, step = np.zeros((len(level), 1), dtype=np.int64), np.zeros(len(level), dtype=np.int64)
        return parts_of(op, name, {
            "level": np.stack([spread(column) for column in level.T], axis=1),
            "start": spread(op.start.codes),
            "step": spread(step) if step.ndim == 1 else np.stack([spread(column) for column in step.T], axis=1),
        })  # fmt: skip
    return parts_of(op, name, {f: spread(codes) for f, codes in tables.items()})


@constants.register
def _(op: Rearrange, name: str) -> Parts:
    """The sources, and what stands where there is none: one element beyond the last."""
    index = IndexType(f"{name}_source_t", op.x.size + op.is_filled)
    source = np.where(op.sources == NOWHERE, op.x.size, op.sources).ravel()
    entries, types = {"source": (index.name, source.astype(str))}, [index]
    if not op.is_filled:
        return Parts(entries, tuple(types))
    fill = Const(np.array([op.fill], dtype=object), op.output.format)
    return Parts(
        entries | {"fill": (f"{name}_fill_t", literals(f"{op.name}: fill", fill))},
        (*types, ConstantType(f"{name}_fill_t", fill.format)),
    )


def literals(where: str, const: Const) -> NDArray[np.str_]:
    """Shortest decimals that parse to exactly the codes. Raises GraphError where a double cannot hold one."""
    frac = const.format.frac
    flat = [int(c) for c in const.codes.ravel()]
    try:
        values = [math.ldexp(code, -frac) for code in flat]
        wrong = next((c for c, v in zip(flat, values, strict=True) if math.ldexp(v, frac) != c), None)
    except OverflowError:
        wrong = max(flat, key=abs)
    if wrong is not None:
        raise GraphError(
            f"{where}: the code {wrong} of {const.format} needs more than the 53 significant bits, or the range, of a "
            "C++ literal; use a narrower format"
        )
    return np.array([repr(v) for v in values], dtype=str).reshape(const.shape)


def parts_of(op: Op, name: str, arranged: Mapping[str, Codes]) -> Parts:
    consts = op.constants
    return Parts(
        {
            field: (f"{name}_{field}_t", literals(f"{op.name}: {field}", Const(codes, consts[field].format)))
            for field, codes in arranged.items()
        },
        tuple(ConstantType(f"{name}_{field}_t", consts[field].format) for field in arranged),
    )


def in_digits(op: Op, name: str, parts: Parts) -> Parts:
    """The same where weights that share their hardware and have one digit are digits, not factors of a multiplier."""
    if not isinstance(op, SumOfProducts) or op.reuse_factor == 1 or (digit := op.digit) is None:
        return parts
    weight = ConstantType(f"{name}_weight_t", digit.format, digit)
    return replace(parts, types=tuple(weight if kind.name == weight.name else kind for kind in parts.types))


def table_of(name: str, entry_type: str, entries: NDArray[np.str_]) -> Table:
    rows = entries.reshape(-1, entries.shape[-1]) if entries.ndim > 1 else entries.reshape(1, -1)
    return Table(name, entry_type, entries.shape, tuple(", ".join(row) for row in rows.tolist()))
