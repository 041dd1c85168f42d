"""Convolutions of which only the non-zero weights exist, in C++ at every reuse factor: the graph's tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cxx import OWN, try_build
from designs import QUANTIZER, assert_equal_traces, exact_conv, samples
from galleries import assert_every_tensor_is_the_graphs, every_number_type, run_sanitized

from compress.fixed import FixedPoint, Overflow, Rounding
from export.backend import Backend
from export.emulation.emulator import Emulator
from export.firmware.design import Firmware
from export.ir import Const, Graph, Op, Tensor
from export.ops import Input, Modes, SparseConv
from export.ops.windows import Sliding, Window
from export.verification.check import control

#: Windows, groups and channels made; four channels are read.
SHAPES = {
    "row": (Window((Sliding(5, 3),)), 1, 2),
    "padded": (Window((Sliding(5, 3, before=2, after=2),)), 2, 2),
    "far": (Window((Sliding(5, 2, stride=2, dilation=2, before=1),)), 1, 3),
    "plane": (Window((Sliding(4, 2), Sliding(5, 3, before=1, after=1))), 1, 2),
    "grouped": (Window((Sliding(4, 2, stride=2, dilation=2, before=1, after=1), Sliding(5, 1, stride=3))), 2, 4),
    "depthwise": (Window((Sliding(4, 3, after=1), Sliding(5, 2, stride=2))), 4, 8),
}
#: Prime, so that but for two factors the last step is not full.
NONZERO = 7
CASTS = {
    "clipped": (FixedPoint(7, 3), Modes(Rounding.RND, Overflow.SAT)),
    "wrapped": (FixedPoint(6, 3), Modes(Rounding.TRN, Overflow.WRAP)),
    "symmetric": (FixedPoint(6, 3), Modes(Rounding.RND_CONV, Overflow.SAT_SYM)),
}


def gallery(axes: int) -> Graph:
    """Every shape of so many axes, at every reuse factor, with exact sums and with casts."""
    rng = np.random.default_rng(3)
    x = Tensor("x", (4, *((5,), (4, 5))[axes - 1]), FixedPoint(6, 3))
    ops: list[Op] = [Input(x, QUANTIZER)]
    for name, (window, groups, made) in SHAPES.items():
        if len(window.axes) != axes:
            continue
        codes = np.zeros((made, 4 // groups, *window.kernel), dtype=int)
        places = rng.permutation(codes.size)[:NONZERO]
        codes.flat[places] = rng.choice([-15, -9, -6, -1, 1, 3, 7, 12], size=NONZERO)
        bias = Const(rng.integers(-64, 64, size=made), FixedPoint(7, 5))
        sparse = SparseConv.of(exact_conv(name, x, Const(codes, FixedPoint(5, 4)), bias, window, (ops[0],)))
        for reuse in range(1, NONZERO + 1):
            exact = replace(sparse.output, name=f"{name}_{reuse}")
            ops.append(replace(sparse, output=exact, reuse_factor=reuse))
            for cast, (fmt, modes) in CASTS.items() if reuse in (1, 3, NONZERO) else ():
                tensor = replace(exact, name=f"{name}_{cast}_{reuse}", format=fmt)
                ops.append(replace(sparse, output=tensor, modes=modes, reuse_factor=reuse))
    return Graph(f"sparse_{axes}d", tuple(ops), tuple(op.output for op in ops[1:])).verify()


@pytest.fixture(scope="module")
def galleries() -> list[Graph]:
    return [gallery(1), gallery(2)]


@every_number_type
def test_every_tensor_is_the_graphs(
    galleries: list[Graph], backend: Backend, include: Callable[[], Path | None] | None, tmp_path: Path
) -> None:
    assert_every_tensor_is_the_graphs(galleries, backend, include, tmp_path)


def test_modes_make_a_difference(galleries: list[Graph]) -> None:
    for graph in galleries:
        traced = graph.trace(graph.inputs[0].encode(samples(graph, 200)[0]))
        for op in graph:
            if isinstance(op, SparseConv) and op.modes is not None:
                exact = traced[f"{op.name.split('_')[0]}_1"] >> op.exact_frac - op.output.format.frac
                assert (traced[op.name] != exact).mean() > 0.05, op.name


@pytest.mark.parametrize("axes", [1, 2])
def test_in_streams(axes: int, tmp_path: Path) -> None:
    """One window at a time."""
    whole = gallery(axes)
    ops = [op for op in whole if isinstance(op, Input) or op.reuse_factor in (1, 3, NONZERO)]  # type: ignore[attr-defined]
    graph = Graph(f"streamed_{axes}d", tuple(ops), tuple(op.output for op in ops[1:])).verify()
    assert_equal_traces(graph, Emulator(graph, io="stream", cache_dir=tmp_path), samples(graph, 30))


def test_without_undefined_behaviour(galleries: list[Graph], tmp_path: Path) -> None:
    """Sanitizers are clean, and no proved format overflows."""
    for graph in galleries:
        run_sanitized(graph, tmp_path / graph.name)


def test_a_word_for_each_step(galleries: list[Graph]) -> None:
    """As many entries as there are multipliers, zeros among them; rows are among the inputs of all groups."""
    for step in (step for graph in galleries for step in Firmware(graph)):
        if not isinstance(step.op, SparseConv) or step.op.reuse_factor == 1:
            continue
        table, reuse = step.tables["entries"], step.op.reuse_factor
        assert table.shape == (reuse, -(-NONZERO // reuse))
        entries = [eval(f"({e.strip('{}')})") for row in table.rows for e in row.split("}, ")]
        inputs, channels = step.op.places
        stored = [(row, col) for row, col, weight in entries if weight != 0]
        assert len(stored) == NONZERO
        assert all(row // inputs == col * step.op.groups // channels for row, col in stored)
        for col in range(channels):  # in the order of its inputs
            rows = [row for row, each in stored if each == col]
            assert rows == sorted(rows)
        multipliers, together = table.shape[1], step.op.side_by_side
        for first in range(0, len(entries), multipliers):
            cols = [col for _, col, _ in entries[first : first + multipliers]]
            runs = [cols[place : place + together] for place in range(0, multipliers, together)]
            assert all(len(set(run)) == len(run) for run in runs)


def test_a_flipped_bit_of_a_weight_is_found(tmp_path: Path) -> None:
    """In groups, where the inputs of an entry are those of its own."""
    whole = gallery(2)
    (op,) = (op for op in whole if op.name == "depthwise_3")
    graph = Graph("flipped", (whole.ops[0], op), (op.output,))
    found = control(graph, *samples(graph, 20), emulator=Emulator(graph, cache_dir=tmp_path))
    assert found.mutation.startswith("bit 3 of depthwise_3.weight[")
    assert found.caught


ILLEGAL = """
#include "qapsule/sparse_conv.h"
typedef fixed<8, 4> number;
static const number bias[2] = {};
static const qapsule::coo<number> entries[2][3] = {};
int main() { number x[10] = {}, y[8]; qapsule::sparse_conv<single, sliding<%s>>(x, y, entries, bias); }
"""


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        ("4, 2", "qapsule::sparse_conv: x must be channels of whole axes"),
        ("5, 3", "qapsule::sparse_conv: y must have an element for each position of each channel"),
    ],
)
def test_an_illegal_call_says_why(window: str, sentence: str, tmp_path: Path) -> None:
    done = try_build(ILLEGAL % window, tmp_path / "illegal", OWN, "-fsyntax-only")
    assert done.returncode != 0
    assert sentence in done.stderr.replace('"\n', "").replace('" "', "")
