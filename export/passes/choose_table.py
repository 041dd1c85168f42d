"""Read a function from a table where that takes less hardware than comparing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from export.ir import Const, Graph, Op
from export.ops import Table, Threshold
from export.ops.lookup import MAX_INDEX_WIDTH

#: Bits in one look-up table of an FPGA: six inputs.
_LUT_BITS, _LUT_INPUTS = 64, 6


def table_luts(codes: int, width: int) -> int:
    """Look-up tables that ``codes`` entries of ``width`` bits fill."""
    return -(-codes // _LUT_BITS) * width


def comparison_luts(levels: int, width: int) -> int:
    """Look-up tables for comparing a number of ``width`` bits with so many constants and counting who is passed.

    A comparison with a constant is a tree with one new input less in every table; its place in the count is one more.
    """
    return levels * (-(-(width - 1) // (_LUT_INPUTS - 1)) + 1)


def choose_table(graph: Graph) -> Graph:
    """The rule: a table if it fills fewer look-up tables than the comparisons of an average channel.

    As many elements share a table of entries as there are; each reads its own copy, as each has its own comparisons.
    """
    ops: list[Op] = []
    stored: list[str] = []
    for op in graph:
        if isinstance(op, Threshold):
            low, high = graph.bounds[op.x].range
            levels = int(np.count_nonzero(_met(op, low, high))) / len(op.level.codes)
            codes = high - low + 1
            luts = table_luts(codes, op.output.format.width)
            if codes <= 1 << MAX_INDEX_WIDTH and luts < comparison_luts(1, op.x.format.width) * levels:
                op = _tabulated(op, low, high)
                stored.append(f"{op.name}, {op.entries.shape[1]} entries")
        ops.append(op)
    note = f"stored as tables: {'; '.join(stored)}"
    return replace(graph, ops=tuple(ops), notes=(*graph.notes, note)) if stored else graph


def _met(op: Threshold, low: int, high: int) -> np.ndarray:
    """Which levels something between ``low`` and ``high`` passes, and something does not."""
    return np.asarray((op.level.codes > low) & (op.level.codes <= high), dtype=bool)


def _tabulated(op: Threshold, low: int, high: int) -> Table:
    channels = op.output.shape[0]
    every = np.arange(low, high + 1)
    x = np.broadcast_to(every.reshape((-1,) + (1,) * len(op.output.shape)), (len(every), *op.output.shape))
    rows = op.eval(x).reshape(len(every), channels, -1)[:, :, 0].T
    alike = rows[:1] if (rows == rows[0]).all() else rows
    return Table(op.output, op.x, low, Const(alike, op.output.format))
