"""The processes of a streamed design and the FIFOs between them, ready to be arranged as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from export.firmware.storage import Argument, in_order
from export.ir import Op, Tensor
from export.ops import Input, SumOfProducts
from export.ops.pooling import Pool
from export.streams.access import Access, ByPacket, Whole, packets
from export.streams.fifos import Actor, depths

if TYPE_CHECKING:
    from export.firmware.design import Firmware, Signal, Step

# Reading and writing take a stage each, and so does every level of logic. An estimate, which only says how much deeper
# than it must be a FIFO beside a pipeline is made.
_STAGES = 2


@dataclass(frozen=True)
class Source:
    """A tensor that a process reads: from which stream, into which array. A ``held`` one is read once and kept.

    ``shaped`` are tensors with the same codes in the same order, which the array is as well.
    """

    signal: Signal
    array: Signal
    stream: str
    held: bool
    shaped: tuple[Signal, ...]


@dataclass(frozen=True)
class Process:
    """An op and those behind it that turn single packets into single packets, up to ``signal``.

    ``order`` has a stream for each packet that is read or written.
    """

    steps: tuple[Step, ...]
    access: Access
    sources: tuple[Source, ...]
    signal: Signal
    target: str
    order: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.signal.name}_process"

    @property
    def body(self) -> str:
        """The function that takes the packets: the process itself, unless that has constants to load first."""
        return f"{self.signal.name}_samples" if any(step.loads for step in self.steps) else self.name

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """What it is given besides streams."""
        return in_order(argument for step in self.steps for argument in step.arguments)

    @property
    def step(self) -> Step:
        """The op that reads streams."""
        return self.steps[0]

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(source.stream for source in self.sources)

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.target,)

    @property
    def most_packets(self) -> int:
        """Of the tensors that are read."""
        return max(source.signal.packets for source in self.sources)

    @property
    def makes_all(self) -> bool:
        """Whether a kernel makes a whole tensor at a time, be it a single packet."""
        return isinstance(self.access, Whole) or self.signal.packets == 1

    @property
    def takes_no_loop(self) -> bool:
        """Whether a sample is one packet on either side, and multipliers are not shared."""
        return self.most_packets == self.signal.packets == self.step.op.interval == 1

    @property
    def stages(self) -> int:
        """About how many cycles a packet is on its way."""
        return _STAGES + sum(_levels(step.op) for step in self.steps)


def _levels(op: Op) -> int:
    """Of logic, a multiplier counted as three: a sum or a comparison of many is a tree."""
    match op:
        case SumOfProducts():
            return 3 + (max(1, op.weight.codes.size // op.output.shape[0]) - 1).bit_length()
        case Pool():
            return (op.window.taps - 1).bit_length()
        case _:
            return 1


@dataclass(frozen=True)
class Fork:
    """Gives every packet of a stream to each of ``writes``, or drops it where there are none."""

    signal: Signal
    source: str
    writes: tuple[str, ...]
    stages: int = 1

    @property
    def name(self) -> str:
        return f"{self.signal.name}_fork"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.source,)

    @property
    def order(self) -> tuple[str, ...]:
        return (self.source, *self.writes) * self.signal.packets


Part = Process | Fork


@dataclass(frozen=True)
class Fifo:
    """A stream within the design, and what passes through it.

    With room for fewer than ``needed`` packets processes would wait for each other for ever. ``depth`` adds as many as
    are meanwhile on their way through the pipelines beside it: else those would run empty again and again, and where
    they stop as soon as nothing comes in (Vivado HLS), what is in them would never come out.
    """

    name: str
    signal: Signal
    needed: int
    depth: int


@dataclass(frozen=True)
class _Route:
    """How a tensor comes to a reader: through a stream that carries ``signal``, the tensor itself or what it is shaped
    from."""

    stream: str
    signal: Signal
    shaped: tuple[Signal, ...] = ()


class Network:
    """The parts of a streamed design in the order of the graph, and the FIFOs between them.

    An op is a process, with a fork behind its tensor where that has several readers. Two kinds are part of another's:
    what turns each packet of a tensor that nobody else reads into another, as the cast behind a layer does, is done
    before anything is written; and what is flattened for a layer comes to the layer as it was
    (:mod:`export.streams.plan`).
    """

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware
        self._accesses = firmware.accesses
        self._steps = {op.name: step for step, op in zip(firmware.steps, firmware.graph, strict=True)}
        self._carried: dict[str, Signal] = {}
        self._routes: dict[tuple[str, Tensor], _Route] = {}  # by reader
        self.parts = tuple(part for chain in self._chains() for part in self._parts(chain))
        self.fifos = tuple(_fifos(self.parts, self._carried))

    @property
    def headers(self) -> tuple[str, ...]:
        """Those of ``hls_lib/qapsule`` that the processes need beside their kernels'."""
        return tuple(sorted({"stream/transfer.h", *(process.access.header for process in self.processes)}))

    @property
    def processes(self) -> tuple[Process, ...]:
        return tuple(part for part in self.parts if isinstance(part, Process))

    @property
    def carried(self) -> tuple[Signal, ...]:
        """Whatever passes through a stream."""
        ports = (port.signal for port in self._firmware.ports)
        return tuple(dict.fromkeys((*ports, *(fifo.signal for fifo in self.fifos))))

    def _chains(self) -> list[list[Op]]:
        """Ops that become one process, by the place of the first."""
        chains: dict[Tensor, list[Op]] = {}  # by what the last one makes
        found: list[list[Op]] = []
        for op in self._firmware.graph:
            chain = chains.pop(op.inputs[0], None) if self._continues(op) else None
            if chain is None:
                found.append(chain := [])
            chain.append(op)
            how = self._accesses.get(chain[0].output)
            if how and (packets(op.output) == 1 or not isinstance(how, Whole)):
                chains[op.output] = chain
        return found

    def _continues(self, op: Op) -> bool:
        """Whether ``op`` makes a packet of each packet of one tensor, which nobody else reads."""
        how = self._accesses.get(op.output)
        if not isinstance(how, ByPacket) or how.held or len(op.inputs) != 1:
            return False
        return self._firmware.graph.sole_consumer(op.inputs[0]) is op

    def _parts(self, chain: list[Op]) -> Iterator[Part]:
        graph, op = self._firmware.graph, chain[-1]
        signal = self._firmware.signals[op.output]
        readers = graph.consumers(op.output)
        if op.inputs and chain[0].output not in self._accesses:
            (reader,), route = readers, self._routes[op.name, op.inputs[0]]
            self._routes[reader.name, op.output] = replace(route, shaped=(*route.shaped, signal))
            return
        enters, leaves = isinstance(op, Input), op.output in graph.outputs
        alone = len(readers) + leaves == 1 and not (enters and leaves)
        stem = signal.entry if enters else signal.exit if leaves and alone else signal.name
        branches = [stem] if alone else [signal.branch(number) for number in range(len(readers))]
        for reader, branch in zip(readers, branches, strict=False):
            self._routes[reader.name, op.output] = _Route(branch, signal)
        self._carried |= {name: signal for name in (stem, *branches) if name not in (signal.entry, signal.exit)}
        if not enters:
            yield self._process(chain, stem)
        if not alone:
            yield Fork(signal, stem, (*branches, *((signal.exit,) if leaves else ())))

    def _process(self, chain: list[Op], target: str) -> Process:
        op, how = chain[0], self._accesses[chain[0].output]
        routes = {t: self._routes[op.name, t] for t in op.inputs}
        held = how.held if isinstance(how, ByPacket) else ()
        steps = tuple(self._steps[each.name] for each in chain)
        arrays = dict(zip(op.inputs, steps[0].x, strict=True))
        sources = tuple(
            Source(route.signal, arrays[t], route.stream, t in held, route.shaped) for t, route in routes.items()
        )
        streams = {source.signal.tensor: source.stream for source in sources} | {op.output: target}
        signal = self._firmware.signals[chain[-1].output]
        return Process(steps, how, sources, signal, target, tuple(streams[t] for t in how.order(op)))


def _fifos(parts: Sequence[Part], carried: dict[str, Signal]) -> Iterator[Fifo]:
    actors = actors_of(parts, list(carried))
    costs = [signal.channels * signal.tensor.format.width for signal in carried.values()]
    spare = _spare(parts)
    for (name, signal), needed in zip(carried.items(), depths(actors, costs), strict=True):
        yield Fifo(name, signal, needed, needed + spare[name])


def actors_of(parts: Sequence[Part], fifos: Sequence[str]) -> list[Actor]:
    """The parts as users of the FIFOs of these names; what passes through a port is always ready."""
    numbers = {name: number for number, name in enumerate(fifos)}
    actors = []
    for part in parts:
        sides = {name: numbers[name] for name in part.reads if name in numbers}
        sides |= {name: ~numbers[name] for name in part.writes if name in numbers}
        actors.append(Actor(part.name, [sides[name] for name in part.order if name in sides]))
    return actors


def _spare(parts: Sequence[Part]) -> dict[str, int]:
    """By how many cycles each stream is ahead of the slowest that its reader waits for."""
    arrival: dict[str, int] = {}
    spare: dict[str, int] = {}
    for part in parts:
        ready = max((arrival.get(name, 0) for name in part.reads), default=0)
        spare |= {name: ready - arrival.get(name, 0) for name in part.reads}
        arrival |= dict.fromkeys(part.writes, ready + part.stages)
    return spare
