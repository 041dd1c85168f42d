"""A graph as the C++ that computes it: identifiers, types, tables of constants and calls, ready to be arranged as text.

Everything here is the same for every backend. What a vendor spells in its own way, the number types, is listed as
:class:`SignalType`, :class:`ConstantType` and :class:`IndexType` and spelled by the backend.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, singledispatch

import numpy as np
from numpy.typing import NDArray

from compress.fixed import Codes, FixedPoint
from export.casts import channels_by_format
from export.identifiers import Identifiers, quoted
from export.ir import Const, Graph, GraphError, Op, Tensor
from export.ops import Affine, ChannelCast, Clip, Dense, Input, Modes, SparseDense, Threshold, along_channels


@dataclass(frozen=True)
class SignalType:
    """The type of a tensor; ``modes`` is what happens to a value assigned to it, None where every value fits."""

    name: str
    format: FixedPoint
    modes: Modes | None


@dataclass(frozen=True)
class ConstantType:
    """The type of the entries of a table."""

    name: str
    format: FixedPoint


@dataclass(frozen=True)
class IndexType:
    """An unsigned integer type for indices below ``count``."""

    name: str
    count: int

    @property
    def bits(self) -> int:
        return max(1, (self.count - 1).bit_length())


TypeName = SignalType | ConstantType | IndexType


@dataclass(frozen=True)
class Signal:
    """A tensor's array in the C++: one row-major axis."""

    name: str
    tensor: Tensor

    @property
    def type(self) -> str:
        return f"{self.name}_t"

    @property
    def entry(self) -> str:
        """The port through which an input comes in."""
        return f"{self.name}_in"

    @property
    def exit(self) -> str:
        """The port through which an output leaves."""
        return f"{self.name}_out"

    @property
    def size(self) -> int:
        return self.tensor.size

    @property
    def label(self) -> str:
        """The name in the user's model, as a C++ string."""
        return quoted(self.tensor.name)


@dataclass(frozen=True)
class Port:
    """An argument of the top-level function."""

    name: str
    signal: Signal


@dataclass(frozen=True)
class Table:
    """A constant array: its C++ declarator and one row of literals per line."""

    name: str
    type: str
    shape: tuple[int, ...]
    rows: tuple[str, ...]

    @property
    def declarator(self) -> str:
        return self.name + "".join(f"[{n}]" for n in self.shape)

    @property
    def nested(self) -> bool:
        return len(self.shape) > 1


@dataclass(frozen=True)
class Step:
    """One op: the kernel it calls, on which arrays."""

    op: Op
    x: tuple[Signal, ...]
    y: Signal
    tables: Mapping[str, Table]
    types: tuple[TypeName, ...]

    @property
    def kernel(self) -> str:
        return kernel_name(type(self.op))


@dataclass(frozen=True)
class Parts:
    """The constants of an op as its kernel wants them: arrays of literals by name, and the types of their entries."""

    entries: Mapping[str, tuple[str, NDArray[np.str_]]]
    types: tuple[TypeName, ...]


class Firmware:
    """``graph`` with everything that the templates arrange. Raises GraphError for what C++ cannot hold."""

    def __init__(self, graph: Graph) -> None:
        if not graph.inputs or not graph.outputs:
            raise GraphError(f"{graph.name}: a design needs an input and an output")
        self.graph = graph
        names = Identifiers()
        self.name = names.claim(graph.name)
        signals: dict[Tensor, Signal] = {}
        steps: list[Step] = []
        for op in graph:
            if not op.has_kernel:
                raise op.fail(f"{type(op).__name__} has no kernel; run the passes of export.passes before a backend")
            if op.output.size == 0:
                raise op.fail(f"the tensor {op.output} has no elements; drop it")
            y = signals[op.output] = Signal(names.claim(op.name, *_derived(op)), op.output)
            parts = constants(op, y.name)
            # The types of a cast by channel carry its modes; what they make fits the type that covers them.
            modes = None if isinstance(op, ChannelCast) else getattr(op, "modes", None)
            steps.append(
                Step(
                    op=op,
                    x=tuple(signals[t] for t in op.inputs),
                    y=y,
                    tables={f: _table(f"{y.name}_{f}", *entry) for f, entry in parts.entries.items()},
                    types=(SignalType(y.type, op.output.format, modes), *parts.types),
                )
            )
        self.steps = tuple(steps)
        self.entries = tuple(op for op in graph if isinstance(op, Input))
        self.inputs = tuple(Port(signals[op.output].entry, signals[op.output]) for op in self.entries)
        self.outputs = tuple(Port(signals[t].exit, signals[t]) for t in dict.fromkeys(graph.outputs))

    @property
    def guard(self) -> str:
        return f"DESIGN_{self.name.upper()}"

    @property
    def ports(self) -> tuple[Port, ...]:
        return self.inputs + self.outputs

    @cached_property
    def kernels(self) -> tuple[str, ...]:
        return tuple(sorted({step.kernel for step in self.steps}))

    @property
    def layers(self) -> tuple[Step, ...]:
        """The steps with tables, each of which has its own file."""
        return tuple(step for step in self.steps if step.tables)

    @property
    def pipelined(self) -> bool:
        """Whether a new sample enters every cycle: no multiplier is shared."""
        return all(getattr(step.op, "reuse_factor", 1) == 1 for step in self.steps)

    @property
    def streams(self) -> bool:
        """Whether each tensor has one reader, so that the layers may run concurrently on consecutive samples."""
        readers = [t for op in self.graph for t in op.inputs] + list(self.graph.outputs)
        return len(readers) == len(set(readers))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


def _derived(op: Op) -> Iterator[str]:
    """What is appended to the identifier of an op anywhere in a project."""
    yield from ("_t", "_in", "_in_file", "_out", "_out_file", "_out_expected", "_entries", "_row_t", "_col_t")
    for field in dataclasses.fields(op):
        yield from (f"_{field.name}", f"_{field.name}_t")
    if isinstance(op, ChannelCast):
        yield from ("_channels", "_index_t", "_zero")
        for number in range(len(op.formats)):
            yield from (f"_format{number}", f"_format{number}_t")


def kernel_name(op: type[Op]) -> str:
    """``SparseDense`` -> ``sparse_dense``: the kernel, its header and its template."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", op.__name__).lower()


@singledispatch
def constants(op: Op, name: str) -> Parts:
    """The constants of ``op``, whose identifier is ``name``, as its kernel wants them."""
    return _parts(op, name, {f: c.codes for f, c in op.constants.items()})


@constants.register
def _(op: Dense, name: str) -> Parts:
    weight = op.weight.codes
    if op.reuse_factor > 1:  # one row per step, in input-major order
        weight = weight.T.reshape(op.reuse_factor, -1)
    return _parts(op, name, {"weight": weight, "bias": op.bias.codes})


@constants.register
def _(op: SparseDense, name: str) -> Parts:
    # An array of C++ has an entry; that of a layer without weights adds nothing.
    places = list(zip(op.rows, op.cols, strict=True)) or [(0, 0)]
    codes = op.weight.codes if op.rows else np.zeros(1, dtype=np.int64)
    weights = literals(f"{name}: weight", Const(codes, op.weight.format))
    packed = np.array([f"{{{i}, {j}, {w}}}" for (i, j), w in zip(places, weights, strict=True)])
    bias = _parts(op, name, {"bias": op.bias.codes})
    return Parts(
        {"entries": (f"qapsule::coo<{name}_weight_t, {name}_row_t, {name}_col_t>", packed), **bias.entries},
        (
            ConstantType(f"{name}_weight_t", op.weight.format),
            IndexType(f"{name}_row_t", op.x.size),
            IndexType(f"{name}_col_t", op.output.size),
            *bias.types,
        ),
    )


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
            level, step = np.zeros((len(level), 1), dtype=np.int64), np.zeros_like(step)
        return _parts(op, name, {
            "level": np.stack([spread(column) for column in level.T], axis=1),
            "start": spread(op.start.codes),
            "step": spread(step),
        })  # fmt: skip
    return _parts(op, name, {f: spread(codes) for f, codes in tables.items()})


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


def _parts(op: Op, name: str, arranged: Mapping[str, Codes]) -> Parts:
    consts = op.constants
    return Parts(
        {
            field: (f"{name}_{field}_t", literals(f"{op.name}: {field}", Const(codes, consts[field].format)))
            for field, codes in arranged.items()
        },
        tuple(ConstantType(f"{name}_{field}_t", consts[field].format) for field in arranged),
    )


def _table(name: str, entry_type: str, entries: NDArray[np.str_]) -> Table:
    rows = entries.reshape(-1, entries.shape[-1]) if entries.ndim > 1 else entries.reshape(1, -1)
    return Table(name, entry_type, entries.shape, tuple(", ".join(row) for row in rows.tolist()))
