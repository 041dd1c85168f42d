"""Streamed designs compute what the graph says, tensor by tensor, over the streams of every vendor."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
from designs import assert_equal_traces, chain, conv_net, every_op, samples, skip_net
from planes import far_moved, flattened, gated, random_plane, small, tail
from test_export_emulator import EVERY_NUMBER

from compress.fixed import Overflow, Rounding
from export.backend import Backend
from export.backends.emulator import EMULATOR, EMULATOR_AC, EMULATOR_AP
from export.emulation.emulator import Emulator, Numbers
from export.emulation.vendor_headers import ac_include, ap_include
from export.firmware.identifiers import _RESERVED
from export.ir import Const, Graph
from export.ops import Dense, Modes
from export.streams import rules
from export.streams.access import Absorbed, Io, Picked, Whole
from export.streams.plan import accesses
from recipes.fuzz.batch import Batch
from recipes.fuzz.graphs import random_inputs

PLANES = 40


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def planes() -> list[Graph]:
    return [replace(random_plane(np.random.default_rng(seed)), name=f"plane_{seed}") for seed in range(PLANES)]


@pytest.mark.parametrize("numbers", EVERY_NUMBER)
@pytest.mark.parametrize("make", [every_op, small])
def test_every_op_computes_what_the_graph_says(numbers: Numbers, make: Callable[[], Graph], cache: Path) -> None:
    graph = make()
    assert_equal_traces(graph, Emulator(graph, numbers=numbers, io="stream", cache_dir=cache), samples(graph, 300))


@pytest.mark.parametrize("graph", [conv_net(), conv_net(reuse_factors=(3, 4)), skip_net()])
def test_nets_of_the_other_tests(graph: Graph, cache: Path) -> None:
    assert_equal_traces(graph, Emulator(graph, io="stream", cache_dir=cache), samples(graph, 100))


@pytest.mark.parametrize(
    ("backend", "include", "share"),
    [(EMULATOR, None, 1), (EMULATOR_AC, ac_include, 5), (EMULATOR_AP, ap_include, 10)],
    ids=["own", "ac_channel", "hls_stream"],
)
def test_random_planes(
    planes: list[Graph], backend: Backend, include: Callable[[], Path | None] | None, share: int, tmp_path: Path
) -> None:
    headers = include and include()
    if include and headers is None:
        pytest.skip(f"{backend.name}: the vendor's headers are not on this machine (pip install hls4ml==1.3.0)")
    group = planes[::share]
    compiled = Batch(group, backend, tmp_path, headers, io=Io.STREAM)
    different = 0
    for graph in group:
        (codes,) = random_inputs(np.random.default_rng(0), graph, 21)
        expected = graph.trace(codes)
        got = compiled.trace(graph.name, graph.inputs[0].output.format.values(codes))
        for name, made in expected.items():
            assert np.array_equal(made, got[name]), f"{graph.name}: {name}\n{graph}"
        different += len(np.unique(expected[graph.outputs[0].name], axis=0)) > 5
    assert different > len(group) / 2


#: One position or several, one channel or several; each packet takes one cycle, some for its inputs, or some for each.
ABSORBED = [((4, 3, 2), 6), ((4, 3, 2), 12), ((4, 3, 2), 24), ((4, 3, 2), 72), ((1, 5), 5), ((1, 5), 15), ((6, 4), 24)]


@pytest.mark.parametrize("share", [None, 0.5])
@pytest.mark.parametrize(("shape", "reuse_factor"), ABSORBED)
def test_a_layer_that_takes_its_packets_as_they_come(
    shape: tuple[int, ...], reuse_factor: int, share: float | None, cache: Path
) -> None:
    """Each weight, or those alone that are not zero, every one of them with a multiplier of its own at most."""
    if share is not None:
        reuse_factor = min(reuse_factor, 2 * prod(shape[1:]))
    graph = flattened(shape, 6, reuse_factor, share=share)
    assert any(isinstance(how, Absorbed) for how in accesses(graph).values())
    assert_equal_traces(graph, Emulator(graph, io="stream", cache_dir=cache), samples(graph, 100))


@pytest.mark.parametrize("numbers", EVERY_NUMBER)
@pytest.mark.parametrize("way", ["several", "sparse", "cast", "far_moved", "gated"])
def test_large_tensors_with_every_number(
    numbers: Numbers, way: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absorbed with exact sums and with sums that are cast (of one channel), and numbers taken one by one."""
    monkeypatch.setattr(rules, "MOST_REGISTERS", 8)
    wrapping = Modes(Rounding.RND_CONV, Overflow.WRAP)
    graph = {
        "several": lambda: flattened((4, 3, 2), 6, 48),
        "sparse": lambda: flattened((4, 3, 2), 6, 12, share=0.4),
        "cast": lambda: flattened((1, 3, 3), 4, 18, wrapping),
        "far_moved": far_moved,
        "gated": lambda: gated(8),
    }[way]()
    assert_equal_traces(graph, Emulator(graph, numbers=numbers, io="stream", cache_dir=cache), samples(graph, 100))


def test_sums_that_are_cast_are_taken_channel_by_channel(cache: Path) -> None:
    """The order of the packets would give other bits, as the same layer on turned weights and inputs shows."""
    graph = flattened((3, 5), 4, 15, Modes(Rounding.TRN, Overflow.SAT))
    assert Whole({graph.ops[1].output: graph.ops[0].output}) in accesses(graph).values()
    x = samples(graph, 200)
    assert_equal_traces(graph, Emulator(graph, io="stream", cache_dir=cache), x)
    fc = graph.ops[2]
    assert isinstance(fc, Dense)
    flat = graph.trace(graph.ops[0].encode(x[0]))["flat"]
    order = np.arange(15).reshape(3, 5).T.ravel()
    by_packet = replace(fc, weight=Const(fc.weight.codes[:, order], fc.weight.format))
    assert not np.array_equal(fc.eval(flat), by_packet.eval(flat[:, order]))


@pytest.mark.parametrize("reuse_factor", [121, 121 * 16, 121 * 16 * 10])
def test_a_layer_behind_convolutions(reuse_factor: int, cache: Path) -> None:
    """Nothing of the 1,936 numbers that it reads is kept."""
    graph = tail(reuse_factor)
    text = EMULATOR.render(graph, io="stream").files["firmware/tail.cpp"]
    assert max(int(size) for size in re.findall(r"^ +\w+_t \w+\[(\d+)\];", text, flags=re.MULTILINE)) == 16
    emulator = Emulator(graph, io="stream", cache_dir=cache)
    assert_equal_traces(graph, emulator, samples(graph, 40))


def test_random_planes_whose_numbers_are_taken_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_REGISTERS", 1)
    made = (replace(random_plane(np.random.default_rng(seed)), name=f"plane_{seed}") for seed in range(200))
    group = [graph for graph in made if any(isinstance(how, Picked) for how in accesses(graph).values())][:10]
    assert len(group) == 10
    compiled = Batch(group, EMULATOR, tmp_path, None, io=Io.STREAM)
    for graph in group:
        (codes,) = random_inputs(np.random.default_rng(0), graph, 21)
        got = compiled.trace(graph.name, graph.inputs[0].output.format.values(codes))
        for name, expected in graph.trace(codes).items():
            assert np.array_equal(expected, got[name]), f"{graph.name}: {name}"


def test_any_batch_and_any_number_of_threads_give_the_same_bits(cache: Path) -> None:
    graph = small()
    one, several = (Emulator(graph, io=Io.STREAM, threads=n, cache_dir=cache) for n in (1, 3))
    (x,) = samples(graph, 301)
    whole = one.predict_codes(x)
    assert len(np.unique(whole, axis=0)) > 100
    assert np.array_equal(several.predict_codes(x), whole)
    for batch in (0, 1, 17):
        assert np.array_equal(one.predict_codes(x[:batch]), whole[:batch])


def test_several_inputs_and_outputs(cache: Path) -> None:
    """One output is an input, one is read besides, and one input is read by nobody."""
    graph = small()
    extra = replace(graph.ops[0], output=replace(graph.ops[0].output, name="unused"))
    outputs = (graph.ops[0].output, graph.ops[3].output, *graph.outputs)
    graph = replace(graph, ops=(*graph.ops[:3], extra, *graph.ops[3:]), outputs=outputs)
    assert_equal_traces(graph, Emulator(graph, io="stream", cache_dir=cache), samples(graph, 40))


def test_names_from_any_model_compile_and_come_back(cache: Path) -> None:
    hostile = ['"); abort(); ("', "a\n#error", "*/", "??/", "层", "buffer", "stream", "packet", "read", "fork", "queue"]
    names = sorted(_RESERVED | {"x", "x_t", "x_process", "x_fifo0", "x_from", "x_stream", "main"})[::4] + hostile
    graph = chain("int", names, size=1)
    assert_equal_traces(graph, Emulator(graph, io="stream", cache_dir=cache), samples(graph, 30))
