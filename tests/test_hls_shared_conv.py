"""Convolutions that share multipliers, in C++ at every legal reuse factor, with and without pruned multipliers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from designs import QUANTIZER, assert_equal_traces, exact_conv, samples
from galleries import assert_every_tensor_is_the_graphs, every_number_type, run_sanitized

from compress.fixed import FixedPoint, Overflow, Rounding
from export.backend import Backend
from export.costs import Target, estimate_op
from export.emulation.emulator import Emulator
from export.firmware.design import Firmware
from export.firmware.tables import loadable
from export.ir import Const, Graph, Op, Tensor
from export.ops import Conv, Input, Modes
from export.ops.reuse import by_step, legal_reuse_factors
from export.ops.windows import Sliding, Window

#: Windows, groups and channels made; four channels are read. Where three outputs belong to a group, a part of two or
#: four begins in the middle of one.
SHAPES = {
    "row": (Window((Sliding(5, 2, before=1),)), 1, 4),
    "uneven": (Window((Sliding(5, 3, stride=2, before=2, after=2),)), 4, 12),
    "plane": (Window((Sliding(4, 2), Sliding(5, 2, before=1, after=1))), 1, 2),
    "grouped": (Window((Sliding(4, 2, stride=2, dilation=2, before=1, after=1), Sliding(5, 1, stride=3))), 2, 6),
    "depthwise": (Window((Sliding(4, 3, after=1), Sliding(5, 2, stride=2))), 4, 4),
}
CASTS = FixedPoint(6, 3), Modes(Rounding.RND, Overflow.SAT)


def pruned(conv: Conv, reuse: int) -> Conv:
    """About half of the multipliers that there are at ``reuse``, but not all, lose all their weights."""
    rng = np.random.default_rng(reuse)
    step = by_step(np.arange(conv.matrix.size).reshape(conv.matrix.shape), reuse)
    dead = rng.random(step.shape[1]) < 0.5
    dead[rng.integers(len(dead))] = False
    codes = conv.weight.codes.copy()
    codes.flat[step[:, dead].ravel()] = 0
    return replace(conv, weight=Const(codes, conv.weight.format))


def gallery(axes: int) -> Graph:
    rng = np.random.default_rng(5)
    x = Tensor("x", (4, *((5,), (4, 5))[axes - 1]), FixedPoint(6, 3))
    ops: list[Op] = [Input(x, QUANTIZER)]
    for name, (window, groups, made) in SHAPES.items():
        if len(window.axes) != axes:
            continue
        shape = (made, 4 // groups, *window.kernel)
        weight = Const(rng.choice([-15, -9, -6, -1, 1, 3, 7, 12], size=shape), FixedPoint(5, 4))
        bias = Const(rng.integers(-64, 64, size=made), FixedPoint(7, 5))
        exact = exact_conv(name, x, weight, bias, window, (ops[0],))
        for reuse in legal_reuse_factors(exact.matrix.shape[1], made)[1:]:
            tensor = replace(exact.output, name=f"{name}_{reuse}")
            whole = replace(exact, output=tensor, reuse_factor=reuse)
            half = replace(pruned(whole, reuse), output=replace(tensor, name=f"{tensor.name}_pruned"))
            ops += [whole, half]
            if reuse % 2 == 0:
                fmt, modes = CASTS
                cast = replace(tensor, name=f"{tensor.name}_cast", format=fmt)
                ops.append(replace(half, output=cast, modes=modes))
    return Graph(f"shared_{axes}d", tuple(ops), tuple(op.output for op in ops[1:])).verify()


@pytest.fixture(scope="module")
def galleries() -> list[Graph]:
    return [gallery(1), gallery(2)]


@every_number_type
def test_every_tensor_is_the_graphs(
    galleries: list[Graph], backend: Backend, include: Callable[[], Path | None] | None, tmp_path: Path
) -> None:
    assert_every_tensor_is_the_graphs(galleries, backend, include, tmp_path)


@pytest.mark.parametrize("axes", [1, 2])
def test_in_streams(axes: int, tmp_path: Path) -> None:
    """One window at a time."""
    whole = gallery(axes)
    ops = (whole.ops[0], *(op for op in whole if op.name.endswith("_pruned")))
    graph = Graph(f"streamed_{axes}d", ops, tuple(op.output for op in ops[1:])).verify()
    assert_equal_traces(graph, Emulator(graph, io="stream", cache_dir=tmp_path), samples(graph, 30))


def test_without_undefined_behaviour(galleries: list[Graph], tmp_path: Path) -> None:
    for graph in galleries:
        run_sanitized(graph, tmp_path / graph.name)


def test_a_multiplier_without_a_weight_is_left_out(galleries: list[Graph]) -> None:
    """Of the memory, of the kernel and of the estimate; not where other weights may be loaded."""
    fewer = 0
    for step in (step for graph in galleries for step in Firmware(graph)):
        if not isinstance(step.op, Conv):
            continue
        op = step.op
        stored, made = step.tables["weight"].shape, estimate_op(op, Target())
        assert stored == (op.reuse_factor, len(op.multipliers)) and made is not None
        assert made.multipliers == made.adders == len(op.multipliers)
        assert made.memory_bits == stored[0] * stored[1] * op.weight.format.width
        assert (by_step(op.matrix, op.reuse_factor)[:, list(op.multipliers)] != 0).sum() == (op.matrix != 0).sum()
        loaded = loadable(op, "y").entries["weight"][1]
        assert loaded.shape == (op.reuse_factor, op.matrix.size // op.reuse_factor)
        fewer += stored[1] < loaded.shape[1]
    assert fewer > 10


def test_few_accumulators_where_outputs_take_turns(galleries: list[Graph]) -> None:
    """With more steps than an output has inputs there are as many accumulators as multipliers."""
    for op in (op for graph in galleries for op in graph if isinstance(op, Conv) and op.modes is None):
        made, outputs = estimate_op(op, Target()), len(op.matrix)
        assert made is not None
        at_once = op.matrix.size // op.reuse_factor if op.is_serial else outputs
        registers = made.multipliers * (op.weight.format.width + op.x.format.width)
        assert made.ff == registers + at_once * op.output.format.width
