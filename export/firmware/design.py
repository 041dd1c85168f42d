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
from export.firmware.storage import Stored, Weights, derived, protected, stored
from export.firmware.tables import PacketType, SignalType, StreamType, Table, TypeName, constants, table_of
from export.ir import Graph, GraphError, Op, Tensor
from export.ops import BinaryDense, ChannelCast, Input, Softmax
from export.streams.access import Io, access, channels, packets


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


class Firmware:
    """``graph`` with everything that the templates arrange. Raises GraphError for what C++ cannot hold.

    The constants of the layers that ``tmr`` names, or of all where it is True, are stored three times. Where
    ``weights`` are reloadable, those of all layers are an argument of the top-level function.
    """

    def __init__(
        self,
        graph: Graph,
        io: Io = Io.PARALLEL,
        tmr: bool | Collection[str] = False,
        weights: Weights = Weights.CONSTANT,
    ) -> None:
        if not graph.inputs or not graph.outputs:
            raise GraphError(f"{graph.name}: a design needs an input and an output")
        self.graph = graph
        self.io = io
        names = Identifiers()
        self.name = names.claim(graph.name)
        self.signals: dict[Tensor, Signal] = {}
        steps: list[Step] = []
        redundant = protected(graph, tmr)
        #: Whether the constants of all layers are an argument.
        self.loaded = weights is Weights.RELOADABLE
        for op in graph:
            if not op.has_kernel:
                raise op.fail(f"{type(op).__name__} has no kernel; run the passes of export.passes before a backend")
            if op.output.size == 0:
                raise op.fail(f"the tensor {op.output} has no elements; drop it")
            taken = _derived(op) if io is Io.PARALLEL else (*_derived(op), *_streamed(len(graph.consumers(op.output))))
            if op.name in redundant:
                taken = (*taken, *derived(op))
            y = self.signals[op.output] = Signal(names.claim(op.name, *taken), op.output)
            local = op if io is Io.PARALLEL else access(op).local(op)
            parts = constants(local, y.name)
            # The types of a cast by channel carry its modes; what they make fits the type that covers them.
            modes = None if isinstance(op, ChannelCast) else getattr(op, "modes", None)
            steps.append(
                Step(
                    op=local,
                    x=tuple(Signal(self.signals[t].name, at) for t, at in zip(op.inputs, local.inputs, strict=True)),
                    y=Signal(y.name, local.output),
                    tables={f: table_of(f"{y.name}_{f}", *entry) for f, entry in parts.entries.items()},
                    types=(SignalType(y.type, op.output.format, modes), *parts.types),
                    stored=tuple(stored(local, y.name, parts, op.name in redundant, self.loaded)),
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
        return tuple(s for s in self.steps if s.tables and not any(each.loaded for each in s.stored))

    @property
    def pipelined(self) -> bool:
        """Whether a new sample enters every cycle: nothing is shared, and there are no positions to go through."""
        return all(step.op.interval == 1 for step in self.steps)

    @property
    def is_chain(self) -> bool:
        """Whether each tensor has one reader, so that the layers may run concurrently on consecutive samples."""
        readers = [t for op in self.graph for t in op.inputs] + list(self.graph.outputs)
        return len(readers) == len(set(readers))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


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
    yield from ("_packet", "_stream", "_process", "_from", "_to")
    yield from (f"_fifo{number}" for number in range(readers))


def kernel_name(op: type[Op]) -> str:
    """``SparseDense`` -> ``sparse_dense``: the kernel, its header and its template."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", op.__name__).lower()
