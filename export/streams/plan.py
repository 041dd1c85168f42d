"""How the ops of a graph take in their inputs, in view of who makes them and who reads what they make.

A tensor that is flattened for one layer alone would be a packet of all channels at all positions, far wider than any
other. It is made by no process: its reader takes in the packets of what it is shaped from.
"""

from __future__ import annotations

from collections.abc import Mapping

from export.ir import Graph, Op, Tensor
from export.ops import Linear, Reshape
from export.streams.access import Absorbed, Access, ByPacket, Whole, channels, packets
from export.streams.rules import access


def accesses(graph: Graph) -> dict[Tensor, Access]:
    """By what is made. What enters is not there, nor is what has no process of its own."""
    found: dict[Tensor, Access] = {}
    comes_as: dict[Tensor, Tensor] = {}
    for op in graph:
        shaped = {t: comes_as[t] for t in op.inputs if t in comes_as}
        if isinstance(op, Reshape) and _is_collected(graph, op):
            comes_as[op.output] = shaped.get(op.x, op.x)
        elif op.inputs:
            found[op.output] = _reshaped(op, shaped) if shaped else access(op)
    return found


def _is_collected(graph: Graph, op: Reshape) -> bool:
    """Whether the packets become others, of which the only reader needs all."""
    reader = graph.sole_consumer(op.output)
    if reader is None or reader.inputs != (op.output,) or isinstance(access(op), ByPacket):
        return False
    return access(reader) == Whole()


def _reshaped(op: Op, shaped: Mapping[Tensor, Tensor]) -> Access:
    """Of an op whose inputs come as the packets of others that have the same codes in the same order."""
    if isinstance(op, Linear) and absorbs(op, shaped[op.x]):
        return Absorbed(op.x, shaped[op.x])
    return Whole(shaped)


def absorbs(op: Linear, packed: Tensor) -> bool:
    """Whether the products can be added packet by packet, each of which keeps the layer busy for as many cycles.

    The sums of a layer are taken channel by channel, so that only those which are exact, or of one channel, may be
    taken in the order of the packets.
    """
    if packets(packed) == 1 or op.reuse_factor % packets(packed) != 0:
        return False
    return op.modes is None or channels(packed) == 1
