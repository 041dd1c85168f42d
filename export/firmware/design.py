"""A graph as the C++ that computes it: identifiers, types, tables of constants and calls, ready to be arranged as text.

Everything here is the same for every backend; what a vendor spells in its own way is in :mod:`export.firmware.tables`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from export.firmware.identifiers import Identifiers, quoted
from export.firmware.network import Network
from export.firmware.storage import LOAD, Argument, Delivery, Load, Stored, derived, in_order, loads, protected, stored
from export.firmware.tables import (
    IndexType,
    PacketType,
    Parts,
    SignalType,
    StreamType,
    Table,
    TypeName,
    constants,
    entries_of,
    in_digits,
    loadable,
    parts_of,
    table_of,
)
from export.ir import Graph, GraphError, Op, Tensor
from export.ops import BinaryDense, ChannelCast, Conv, Dense, Input, Softmax, SparseConv, SparseDense
from export.streams.access import Absorbed, Access, Io, Picked, channels, packets
from export.streams.plan import accesses


@dataclass(frozen=True)
class Signal:
    """A tensor in the C++: an array of one row-major axis, or a stream of packets."""

    name: str
    tensor: Tensor

    @property
    def type(self) -> str:
        return f"{self.name}_t"

    @property
    def packet(self) -> str:
        """The type of a packet."""
        return f"{self.name}_packet"

    @property
    def stream(self) -> str:
        """The type of a stream."""
        return f"{self.name}_stream"

    @property
    def entry(self) -> str:
        """The port through which an input comes in."""
        return f"{self.name}_in"

    @property
    def exit(self) -> str:
        """The port through which an output leaves."""
        return f"{self.name}_out"

    def branch(self, number: int) -> str:
        """The stream to one of several readers."""
        return f"{self.name}_fifo{number}"

    @property
    def size(self) -> int:
        return self.tensor.size

    @property
    def channels(self) -> int:
        """Numbers in a packet."""
        return channels(self.tensor)

    @property
    def packets(self) -> int:
        return packets(self.tensor)

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
class Step:
    """One op: the kernel it calls, on which arrays. ``op`` is that of the graph, or the same on the packets at hand."""

    op: Op
    x: tuple[Signal, ...]
    y: Signal
    tables: Mapping[str, Table]
    types: tuple[TypeName, ...]
    #: The tables again where they are stored three times, or loaded.
    stored: tuple[Stored, ...] = ()

    @property
    def kernel(self) -> str:
        return kernel_name(type(self.op))

    @property
    def redundant(self) -> bool:
        """Whether its constants are stored three times."""
        return any(each.redundant for each in self.stored)

    @cached_property
    def loads(self) -> tuple[Load, ...]:
        """What the words on its bus are written to; nothing where the constants do not come over one."""
        return tuple(loads(self.stored))

    @property
    def words(self) -> Argument:
        """Those words."""
        name = f"{self.y.name}_words"
        return Argument(f"const unsigned int {name}[{self.loads[-1].end}]", name)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """What a function that computes the step is given besides tensors."""
        if self.loads:
            return (self.words, LOAD)
        return tuple(argument for each in self.stored for argument in each.arguments)

    @property
    def read_by_word(self) -> tuple[Table, ...]:
        """The tables of a layer with shared multipliers of which every step reads a row; those of others are wires."""
        reuse = getattr(self.op, "reuse_factor", 1)
        if reuse == 1 or any(each.is_assembled for each in self.stored):
            return ()
        return tuple(table for table in self.tables.values() if len(table.shape) == 2 and table.shape[0] == reuse)


class Firmware:
    """``graph`` with everything that the templates arrange. Raises GraphError for what C++ cannot hold.

    The constants of the layers that ``tmr`` names, or of all where it is True, are stored three times. With a
    ``delivery`` those of all layers are loaded while it runs.
    """

    def __init__(
        self,
        graph: Graph,
        io: Io = Io.PARALLEL,
        tmr: bool | Collection[str] = False,
        delivery: Delivery | None = None,
    ) -> None:
        if not graph.inputs or not graph.outputs:
            raise GraphError(f"{graph.name}: a design needs an input and an output")
        if delivery and not any(op.constants for op in graph):
            raise GraphError(f"{graph.name}: no layer has constants, there is nothing to reload; use constant weights")
        self.graph = graph
        self.io = io
        #: What the processes of a streamed design have at hand.
        self.accesses = accesses(graph) if io is Io.STREAM else {}
        names = Identifiers()
        self.name = names.claim(graph.name)
        self.signals: dict[Tensor, Signal] = {}
        steps: list[Step] = []
        redundant = protected(graph, tmr)
        self.delivery = delivery
        for op in graph:
            if not op.has_kernel:
                raise op.fail(f"{type(op).__name__} has no kernel; run the passes of export.passes before a backend")
            if op.output.size == 0:
                raise op.fail(f"the tensor {op.output} has no elements; drop it")
            taken = _derived(op) if io is Io.PARALLEL else (*_derived(op), *_streamed(len(graph.consumers(op.output))))
            if op.constants:
                taken = (*taken, *derived(op, op.name in redundant, delivery))
            y = self.signals[op.output] = Signal(names.claim(op.name, *taken), op.output)
            how = self.accesses.get(op.output)
            local, at_hand = (how.local(op), how.at_hand(op)) if how else (op, op.inputs)
            parts = _parts(how, local, y.name, delivery)
            if delivery is None:  # other weights may be any numbers
                parts = in_digits(local, y.name, parts)
            # The types of a cast by channel carry its modes; what they make fits the type that covers them.
            modes = None if isinstance(op, ChannelCast) else getattr(op, "modes", None)
            steps.append(
                Step(
                    op=local,
                    x=tuple(Signal(self.signals[t].name, at) for t, at in zip(op.inputs, at_hand, strict=True)),
                    y=Signal(y.name, local.output),
                    tables={f: table_of(f"{y.name}_{f}", *entry) for f, entry in parts.entries.items()},
                    types=(SignalType(y.type, op.output.format, modes), *parts.types),
                    stored=tuple(stored(local, y.name, parts, op.name in redundant, delivery, io is Io.STREAM)),
                )
            )
        self.steps = tuple(steps)
        self.entries = tuple(op for op in graph if isinstance(op, Input))
        self.inputs = tuple(Port(self.signals[op.output].entry, self.signals[op.output]) for op in self.entries)
        self.outputs = tuple(Port(self.signals[t].exit, self.signals[t]) for t in dict.fromkeys(graph.outputs))

    @cached_property
    def network(self) -> Network | None:
        """The processes of a streamed design, None of one whose layers hand on arrays."""
        return Network(self) if self.io is Io.STREAM else None

    @property
    def carriers(self) -> Iterator[PacketType | StreamType]:
        """The types of what takes the place of arrays in a streamed design."""
        for signal in self.network.carried if self.network else ():
            yield PacketType(signal.packet, signal.type, signal.channels)
            yield StreamType(signal.stream, signal.packet, signal.packets)

    @property
    def guard(self) -> str:
        return f"DESIGN_{self.name.upper()}"

    @property
    def ports(self) -> tuple[Port, ...]:
        return self.inputs + self.outputs

    @cached_property
    def headers(self) -> tuple[str, ...]:
        """Those of ``hls_lib/qapsule`` that the design includes."""
        voter = ("voter.h",) if any(step.stored for step in self.steps) else ()
        if self.network:  # where data enters by itself
            kernels = {step.kernel for step in self.steps if not isinstance(step.op, Input)}
            return (*sorted(f"{kernel}.h" for kernel in kernels), *self.network.headers, *voter, "trace.h")
        return (*sorted({f"{step.kernel}.h" for step in self.steps}), *voter, "trace.h")

    @property
    def layers(self) -> tuple[Step, ...]:
        """The steps with tables in the source, each of which has its own file."""
        return tuple(s for s in self.steps if s.tables and not any(each.is_outside for each in s.stored))

    @property
    def is_given_weights(self) -> bool:
        """Whether the constants are an argument, from registers outside."""
        return self.delivery is Delivery.WIRES

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Of the top-level function, behind its ports."""
        if self.is_given_weights:
            return (Argument(f"const {self.name}_weights& weights", "weights"),)
        return in_order(argument for step in self.steps for argument in step.arguments)

    @property
    def loading(self) -> tuple[Step, ...]:
        """The steps with tables that are written over a bus."""
        return tuple(step for step in self.steps if step.loads)

    @property
    def pipelined(self) -> bool:
        """Whether a new sample enters every cycle: nothing is shared, there are no positions to go through, and no
        layer may have to load first."""
        return all(step.op.interval == 1 for step in self.steps) and not self.loading

    @property
    def is_chain(self) -> bool:
        """Whether each tensor has one reader, so that the layers may run concurrently on consecutive samples."""
        readers = [t for op in self.graph for t in op.inputs] + list(self.graph.outputs)
        return len(readers) == len(set(readers))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


def _parts(how: Access | None, op: Op, name: str, delivery: Delivery | None) -> Parts:
    """The constants of ``op``, as its kernel wants them or whatever takes the place of it."""
    if delivery and isinstance(op, SparseConv) and op.reuse_factor == 1:
        raise op.fail(
            "is wired for the weights that it has now, reloadable ones may be others; use the strategy 'dense', or "
            "'coo' with a reuse factor"
        )
    if delivery and isinstance(op, Conv) and op.reuse_factor == 1:  # the others begin without their zeros
        return parts_of(op, name, {"weight": op.matrix.T.reshape(1, -1), "bias": op.bias.codes})
    if isinstance(how, Absorbed) and isinstance(op, Dense):
        return parts_of(op, name, {"weight": how.by_step(op), "bias": op.bias.codes})
    if isinstance(how, Absorbed) and isinstance(op, SparseDense):
        dealt, rows = how.entries(op), [row // packets(how.packed) for row in op.rows]
        return entries_of(op, name, rows, channels(how.packed), (dealt.numbers, dealt.cols))
    if isinstance(how, Picked):
        numbers = {each: IndexType(f"{name}_{each}_t", int(found.max()) + 1) for each, found in how.places.items()}
        entries = {each: (kind.name, how.places[each].astype(str)) for each, kind in numbers.items()}
        return Parts(entries, tuple(numbers.values()))
    return loadable(op, name) if delivery else constants(op, name)


def _derived(op: Op) -> Iterator[str]:
    """What is appended to the identifier of an op anywhere in a project."""
    yield from ("_t", "_in", "_in_file", "_out", "_out_file", "_out_expected", "_entries", "_row_t", "_col_t")
    yield from ("_taps", "_input_t", "_used", "_used_t", "_sum_t")
    for field in dataclasses.fields(op):
        yield from (f"_{field.name}", f"_{field.name}_t")
    if isinstance(op, Softmax):
        yield from ("_mantissa_t", "_term_t", "_inverse_t")
    if isinstance(op, BinaryDense):
        yield from ("_unit", "_unit_t", "_count_t")
    if isinstance(op, ChannelCast):
        yield from ("_channels", "_index_t", "_zero")
        for number in range(len(op.formats)):
            yield from (f"_format{number}", f"_format{number}_t")


def _streamed(readers: int) -> Iterator[str]:
    """What is appended besides in a project with streams."""
    yield from ("_packet", "_stream", "_process", "_samples", "_from", "_to")
    yield from ("_place", "_place_t", "_channel", "_channel_t")
    yield from (f"_fifo{number}" for number in range(readers))


def kernel_name(op: type[Op]) -> str:
    """``SparseDense`` -> ``sparse_dense``: the kernel, its header and its template."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", op.__name__).lower()
