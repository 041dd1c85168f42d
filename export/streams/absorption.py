"""The weights of a layer that multiplies packets as they come: those of a packet, in as many steps as it takes.

The packets of a tensor (channels, \\*spatial) follow each other position by position, the weights of its flattened form
channel by channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.fixed import Codes
from export.ops import Dense, SparseDense


def by_step(op: Dense, packets: int) -> Codes:
    """(steps, multipliers): packet by packet, within a packet input by input, then output by output."""
    by_place = op.weight.codes.reshape(len(op.weight.codes), -1, packets)
    return by_place.transpose(2, 1, 0).reshape(op.reuse_factor, -1)


@dataclass(frozen=True)
class Entries:
    """(steps, multipliers) of the ``numbers`` of non-zero weights, -1 for none, with the outputs that they add to.

    Each run of ``side_by_side`` entries of a step, counted from its first, is of different outputs, those that add
    nothing too, so that their sums need not wait for each other.
    """

    numbers: NDArray[np.int64]
    cols: NDArray[np.int64]
    side_by_side: int

    @property
    def multipliers(self) -> int:
        return self.numbers.shape[1]


def entries_by_step(op: SparseDense, packets: int) -> Entries:
    """As few multipliers as the packet with the most weights allows.

    A step is some rounds side by side. Entries sorted by output are dealt to the rounds of their packet in turn, of
    which there are as many as any output has entries in a packet.
    """
    steps, outputs = op.reuse_factor // packets, op.output.size
    packet, col = np.array(op.rows) % packets, np.array(op.cols)
    of_output = np.zeros((packets, outputs), dtype=np.int64)
    np.add.at(of_output, (packet, col), 1)
    in_step = -(-int(of_output.max()) // steps)
    rounds = steps * in_step
    together = -(-int(of_output.sum(axis=1).max()) // rounds)
    numbers = np.full((packets, rounds, together), -1)
    for each in range(packets):
        mine = np.flatnonzero(packet == each)
        dealt = mine[np.argsort(col[mine], kind="stable")]
        order = np.arange(len(dealt))
        numbers[each, order % rounds, order // rounds] = dealt
    cols = np.where(numbers < 0, -1, col[numbers]).reshape(-1, together)
    for row in cols:
        none = row < 0
        row[none] = np.setdiff1d(np.arange(outputs), row)[: none.sum()]
    shape = (op.reuse_factor, in_step * together)
    return Entries(numbers.reshape(shape), cols.reshape(shape), together)
