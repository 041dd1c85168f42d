"""How long the processes of a streamed design take for a sample, in packets that pass.

A process reads and writes a packet per cycle. The first that it writes comes ``fill`` cycles after the first that it
reads, the last ``drain`` cycles after the last that it reads, and it begins with the next sample ``interval`` cycles
after it began with this one. What passes through registers on the way (``stages``) comes on top of the first two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import singledispatch
from math import prod

from export.costs import OpEstimate, Target, estimate_op
from export.costs.basis import block_rams, levels
from export.costs.layers import Step, from_memory
from export.ir import Graph, Op, Tensor
from export.ops import Linear, SparseDense
from export.ops.windows import Sliding, Window
from export.passes.choose_sparse import index_bits
from export.streams.access import (
    SHORT_LINE,
    Absorbed,
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


@dataclass(frozen=True)
class Flow:
    """Cycles of one process."""

    fill: int
    interval: int
    drain: int
    stages: int = 0


@singledispatch
def flow(how: Access, op: Op) -> Flow:
    """Of the process of ``op``, which takes in its inputs as ``how`` says."""
    raise TypeError(f"{type(how).__name__} has no rule for how packets pass")


@flow.register
def _(how: ByPacket, op: Op) -> Flow:
    return Flow(0, packets(op.output) * how.local(op).interval, how.local(op).interval - 1)


@flow.register
def _(how: Windowed, op: Op) -> Flow:
    """An element of the plane passes in each cycle, and padding behind it; where a window ends, the kernel runs."""
    axes = [axis for axis in how.window.axes if isinstance(axis, Sliding)]
    first = [axis.span - 1 - axis.before for axis in axes]
    steps = [max(a.size, end + (a.positions - 1) * a.stride + 1) for a, end in zip(axes, first, strict=True)]
    kernel = how.local(op).interval
    last_read = _place([axis.size - 1 for axis in axes], steps)
    last_end = _place([e + (a.positions - 1) * a.stride for a, e in zip(axes, first, strict=True)], steps)
    return Flow(
        fill=_place(first, steps) + kernel - 1,
        interval=prod(steps) + packets(op.output) * (kernel - 1),
        drain=max(0, last_end - last_read) + kernel - 1,
    )


def _place(indices: list[int], steps: list[int]) -> int:
    """Row-major."""
    place = 0
    for index, count in zip(indices, steps, strict=True):
        place = place * count + index
    return place


@flow.register
def _(how: Absorbed, op: Op) -> Flow:
    """A packet comes in as soon as the products of the one before are added."""
    return Flow(op.interval - 1, op.interval, how.steps(op) - 1)


@flow.register
def _(how: Folded, op: Op) -> Flow:
    count = packets(how.x)
    return Flow(count - 1, count, 0)


@flow.register
def _(how: Whole, op: Op) -> Flow:
    return _one_after_another(max(packets(how.shaped.get(t, t)) for t in op.inputs), op)


@flow.register
def _(how: Gathered, op: Op) -> Flow:
    return _one_after_another(packets(op.inputs[0]), op)


@flow.register
def _(how: Picked, op: Op) -> Flow:
    """Everything is read, then made number by number."""
    read, made = packets(op.inputs[0]), op.output.size
    return Flow(read + channels(op.output) - 1, read + made, made)


@flow.register
def _(how: InTurn, op: Op) -> Flow:
    """What comes last may hold up all that has its turn later."""
    return Flow(0, packets(op.output), sum(how.turns[1:]))


def _one_after_another(read: int, op: Op) -> Flow:
    """Everything is read, then computed, then written; a single packet that takes a cycle is not held up."""
    written = packets(op.output)
    if read == written == op.interval == 1:
        return Flow(0, 1, 0)
    return Flow(read - 1 + op.interval, read + op.interval + written, op.interval + written - 1)


def latency(graph: Graph, flows: Mapping[Tensor, Flow]) -> int:
    """Cycles from the first packet that enters to the last that leaves, one entering per cycle.

    ``flows`` are those of all tensors that a process makes; any other comes as its input does. A process is never ahead
    of its slowest input, and waits for no reader: FIFOs are as deep as they need be.
    """
    first: dict[Tensor, int] = {}
    last: dict[Tensor, int] = {}
    for op in graph:
        if not op.inputs:
            first[op.output], last[op.output] = 0, packets(op.output) - 1
            continue
        own = flows.get(op.output, Flow(0, 1, 0))
        begin, end = (max(times[t] for t in op.inputs) for times in (first, last))
        first[op.output] = begin + own.fill + own.stages
        last[op.output] = max(begin + own.interval - 1, end + own.drain) + own.stages
    return 1 + max(last[t] for t in graph.outputs)


def estimate_process(op: Op, how: Access | None, target: Target) -> OpEstimate | None:
    """``op`` as a process; None where no rule knows it. Its kernel works on what is at hand, and a window keeps lines.

    FIFOs are left out. ``latency`` is that of a sample whose packets come without a pause.
    """
    if how is None:  # data enters, or is no process: its reader takes in what it is shaped from
        own = estimate_op(op, target)
        return own and replace(own, interval=1 if op.inputs else packets(op.output))
    local = how.local(op)
    if isinstance(how, Absorbed) and isinstance(local, Linear):
        kernel: OpEstimate | None = from_memory(local, target, _step(local, how))
    else:
        kernel = estimate_op(local, target)
    if kernel is None:
        return None
    interval = flow(how, op).interval
    registers = 1 + max(0, kernel.latency - kernel.interval)  # one for the FIFO behind it
    lines, elements, word = _kept(how, op)
    kept = lines * elements * word
    return replace(
        kernel,
        kind=type(op).__name__,
        products=kernel.products * (op.output.size // local.output.size),
        memory_bits=kernel.memory_bits + kept,
        ff=kernel.ff + (kept if elements < SHORT_LINE else 0),
        bram18=kernel.bram18 + (0 if elements < SHORT_LINE else lines * block_rams(word, elements)),
        interval=interval,
        latency=interval + registers,
    )


def _step(op: Linear, how: Absorbed) -> Step:
    """Of a layer that has a packet at a time to choose from."""
    outputs, inputs = len(op.matrix), channels(how.packed)
    if isinstance(op, SparseDense):
        dealt = how.entries(op)
        count = dealt.multipliers
        entry = op.weight_bits + index_bits(inputs) + index_bits(outputs)
        return Step(count, entry, count, inputs, outputs, count // dealt.side_by_side, outputs)
    count, bits = inputs * outputs // how.steps(op), op.weight_bits
    whole = max(1, inputs // how.steps(op))
    return Step(count, bits, whole, inputs // whole, max(1, how.steps(op) // inputs), levels(whole + 1), outputs)


def _kept(how: Access, op: Op) -> tuple[int, int, int]:
    """How many lines a process keeps, of how many packets, of how many bits."""
    match how:
        case Windowed(x, Window((Sliding() as rows, columns))):
            return rows.span - 1, columns.size, channels(x) * x.format.width
        case Gathered():
            return 1, packets(op.inputs[0]), channels(op.output) * op.output.format.width
        case Picked(x):
            return 1, packets(x), channels(x) * x.format.width
        case _:
            return 0, 0, 0
