"""Convolution and pooling in C++, with every kind of window, over every number type: the graph's tensors."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from cxx import OWN, WARNINGS, compiler, try_build
from designs import QUANTIZER, assert_equal_traces, conv_net, exact_conv, samples
from galleries import assert_every_tensor_is_the_graphs, every_number_type, run_sanitized

from compress.fixed import FixedPoint, Overflow, Rounding
from export.backend import Backend
from export.backends.emulator import EMULATOR
from export.emulation.emulator import Emulator
from export.ir import Const, Graph, Op, Tensor
from export.ops import Conv, Input, MaxPool, Modes, SumPool
from export.ops.windows import Sliding, Window, adaptive

WINDOWS = {
    "row": Window((Sliding(5, 3),)),
    "padded": Window((Sliding(5, 3, before=2, after=2),)),
    "sparse": Window((Sliding(5, 2, stride=2, dilation=2, before=1),)),
    "plane": Window((Sliding(4, 2), Sliding(5, 3, before=1, after=1))),
    "far": Window((Sliding(4, 2, stride=2, dilation=2, before=1, after=1), Sliding(5, 1, stride=3))),
    "whole": Window((Sliding(4, 4), Sliding(5, 5))),
}
POOLED = WINDOWS | {"uneven": Window((adaptive(5, 3),)), "shared": Window((adaptive(4, 3), adaptive(5, 7)))}
#: Two channels are read by each of the groups.
GROUPED = {"whole": (1, 3), "halves": (2, 4)}
#: Has no fraction to spare, so that each product loses bits; is clipped, and wraps, on its way.
CASTS = {
    "clipped": (FixedPoint(7, 3), Modes(Rounding.RND, Overflow.SAT)),
    "wrapped": (FixedPoint(6, 3), Modes(Rounding.TRN, Overflow.WRAP)),
}


def gallery(inputs: str) -> Graph:
    """Every window over one of two inputs, in every op that has windows."""
    rng = np.random.default_rng(7)
    size = {"row": (5,), "plane": (4, 5)}[inputs]
    x = Tensor("x", (4, *size), FixedPoint(6, 3))
    enter = Input(x, QUANTIZER)
    ops: list[Op] = [enter]
    for name, window in POOLED.items():
        if window.size != size:
            continue
        shape = (4, *window.positions)
        ops.append(MaxPool(Tensor(f"max_{name}", shape, FixedPoint(9, 5)), x, window))
        for what, count in (("alike", 1), ("weighted", window.counts.size)):
            weight = Const(rng.integers(1, 8, size=count), FixedPoint(3, 2, signed=False))
            tensor = Tensor(f"sum_{name}_{what}", shape, FixedPoint(20, 5))
            ops.append(SumPool(tensor, x, window, weight))
    for (name, window), (kind, (groups, made)) in product(WINDOWS.items(), GROUPED.items()):
        if window.size != size:
            continue
        weights = (made, 4 // groups, *window.kernel)
        weight = Const(rng.integers(-16, 16, size=weights) * (rng.random(weights) < 0.6), FixedPoint(5, 4))
        bias = Const(rng.integers(-64, 64, size=made), FixedPoint(7, 5))
        exact = exact_conv(f"conv_{name}_{kind}", x, weight, bias, window, (enter,))
        count = exact.matrix.shape[1]
        ops.append(exact)
        for reuse in (count, count * made):
            shared = replace(exact.output, name=f"{exact.name}_{reuse}")
            ops.append(replace(exact, output=shared, reuse_factor=reuse))
        for cast, (fmt, modes) in CASTS.items():
            for reuse in (1, count):
                tensor = replace(exact.output, name=f"{exact.name}_{cast}_{reuse}", format=fmt)
                ops.append(replace(exact, output=tensor, modes=modes, reuse_factor=reuse))
    nothing = Const(np.zeros((1, 4, *(1 for _ in size)), int), FixedPoint(5, 4))
    window = Window(tuple(Sliding(n, 1) for n in size))
    ops.append(exact_conv("nothing", x, nothing, Const([3], FixedPoint(7, 5)), window, (enter,)))
    return Graph(f"gallery_{inputs}", tuple(ops), tuple(op.output for op in ops[1:]))


@pytest.fixture(scope="module")
def galleries() -> list[Graph]:
    return [gallery("row"), gallery("plane")]


@every_number_type
def test_every_tensor_is_the_graphs(
    galleries: list[Graph], backend: Backend, include: Callable[[], Path | None] | None, tmp_path: Path
) -> None:
    assert_every_tensor_is_the_graphs(galleries, backend, include, tmp_path, ["nothing"])


def test_modes_make_a_difference(galleries: list[Graph]) -> None:
    """The casts of this file do lose bits, and the order of the products tells."""
    for graph in galleries:
        traced = graph.trace(graph.inputs[0].encode(samples(graph, 200)[0]))
        for op in graph:
            if isinstance(op, Conv) and op.modes is not None:
                exact = traced[op.name.rsplit("_", 2)[0]] >> op.exact_frac - op.output.format.frac
                assert (traced[op.name] != exact).mean() > 0.1, op.name


@pytest.mark.parametrize("reuse_factors", [(1, 1), (9, 16)])
def test_a_network_of_them(reuse_factors: tuple[int, int], tmp_path: Path) -> None:
    """As an emulator is compiled: optimised, as many samples at once as the machine's registers hold."""
    graph = conv_net(reuse_factors=reuse_factors)
    emulator = Emulator(graph, cache_dir=tmp_path)
    assert_equal_traces(graph, emulator, samples(graph, 100))
    assert len(np.unique(emulator.predict_codes(*samples(graph, 100)), axis=0)) > 90


def test_tensors_beyond_an_ordinary_stack(tmp_path: Path) -> None:
    """Forty megabytes of them: sixteen samples of 80,000 pixels side by side, twice."""
    x = Tensor("x", (2, 200, 200), FixedPoint(6, 3))
    pool = MaxPool(Tensor("y", (2, 199, 200), x.format), x, Window((Sliding(200, 2), Sliding(200, 1))))
    graph = Graph("large", (Input(x, QUANTIZER), pool), (pool.output,))
    assert_equal_traces(graph, Emulator(graph, cache_dir=tmp_path), samples(graph, 40))


def test_without_undefined_behaviour(galleries: list[Graph], tmp_path: Path) -> None:
    """Sanitizers are clean, and no proved format overflows."""
    for graph in galleries:
        run_sanitized(graph, tmp_path / graph.name)


TOOLS = ("__VITIS_HLS__", "__VIVADO_HLS__", "__SYNTHESIS__", "QAPSULE_CATAPULT", "__INTELFPGA_COMPILER__", "ORDINARY")


@pytest.mark.parametrize("cxx", ["g++", "clang++"])
@pytest.mark.parametrize("tool", TOOLS)
def test_legal_with_every_tools_directives(cxx: str, tool: str, tmp_path: Path) -> None:
    """Labels are unique in their function, and clang, which knows `unroll`, finds a loop behind it."""
    EMULATOR.render(conv_net(reuse_factors=(36, 4))).write(tmp_path / "design")
    source = '#include "qapsule/fixed.h"\n#include "qapsule/lanes.h"\n#include "firmware/conv_net.cpp"\n'
    (tmp_path / "design" / "only.cpp").write_text(source.replace("qapsule/", "firmware/qapsule/"))
    flags = ("-std=c++14", *WARNINGS, "-fsyntax-only", f"-D{tool}", "-Wno-unknown-pragmas", "-Wno-unused-label")
    done = subprocess.run([compiler(cxx), *flags, "only.cpp"], cwd=tmp_path / "design", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]


ILLEGAL = """
#include "qapsule/conv.h"
#include "qapsule/max_pool.h"
#include "qapsule/sum_pool.h"
typedef fixed<8, 4> number;
typedef sliding<5, 2> five;
static const number bias[2] = {}, parts[1][2] = {};
int main() { number x[10] = {}, y[8]; %s }
"""


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            "static const number weight[3][2] = {}; qapsule::conv_reuse<single, five, 1, 3>(x, y, weight, bias);",
            "weight must be [R][inputs * N_OUT / R], less the multipliers that do not exist",
        ),
        (
            "static const number weight[3][2] = {}; qapsule::conv_reuse<single, five, 2, 3>(x, y, weight, bias);",
            "the reuse factor R must divide the inputs of an output; for their number times a divisor of N_OUT there "
            "is conv_serial",
        ),
        (
            "static const number weight[4][1] = {}; qapsule::conv_serial<single, five, 3, 4>(x, y, weight, parts);",
            "qapsule::conv_serial: the channels of x and y must divide into as many groups",
        ),
        (
            "static const number weight[4][1] = {}; qapsule::conv_serial<single, five, 1, 4>(x, y, weight, parts);",
            "qapsule::conv_serial: the reuse factor R must be the inputs of an output times a divisor of the outputs, "
            "by which the biases are divided too",
        ),
        (
            "static const number weight[2][1] = {}; qapsule::conv_serial<single, five, 1, 2>(x, y, weight, parts);",
            "qapsule::conv_serial: weight must be [R][inputs * N_OUT / R], less the multipliers that do not exist",
        ),
        (
            "static const qapsule::tap<number> taps[2][1] = {}; static const int used[2] = {};"
            "qapsule::conv<single, sliding<5, 3>, 1>(x, y, taps, used, bias);",
            "qapsule::conv: y must have an element for each position of each channel",
        ),
        (
            "static const qapsule::tap<number> taps[2][1] = {}; static const int used[2] = {};"
            "qapsule::conv<single, five, 3>(x, y, taps, used, bias);",
            "qapsule::conv: the channels of x and y must divide into as many groups",
        ),
        ("qapsule::max_pool<single, sliding<4, 2>>(x, y);", "qapsule::max_pool: x must be channels of whole axes"),
        (
            "qapsule::max_pool<single, sliding<5, 3>>(x, y);",
            "qapsule::max_pool: y must have an element for each position of each channel",
        ),
        ("qapsule::max_pool<single, sliding<5, 6>>(x, y);", "a window must fit the axis with its padding"),
        (
            "static const number weight[3] = {}; qapsule::sum_pool<single, five, number>(x, y, weight);",
            "qapsule::sum_pool: there must be one weight, or one for each position",
        ),
    ],
)
def test_an_illegal_call_says_why(body: str, sentence: str, tmp_path: Path) -> None:
    done = try_build(ILLEGAL % body, tmp_path / "illegal", OWN, "-fsyntax-only")
    assert done.returncode != 0
    assert sentence in done.stderr.replace('"\n', "").replace('" "', "")
