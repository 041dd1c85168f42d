"""Streamed designs compute what the graph says, tensor by tensor, over the streams of every vendor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from designs import assert_equal_traces, chain, conv_net, every_op, samples, skip_net
from planes import random_plane, small
from test_export_emulator import EVERY_NUMBER

from export.backend import Backend
from export.backends.emulator import EMULATOR, EMULATOR_AC, EMULATOR_AP
from export.emulation.emulator import Emulator, Numbers
from export.emulation.vendor_headers import ac_include, ap_include
from export.firmware.identifiers import _RESERVED
from export.ir import Graph
from export.streams.access import Io
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
