"""The streamed Vitis project: its text, and its test bench over the vendor's own ``hls::stream``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from designs import every_op, mlp, samples
from golden_files import assert_golden
from planes import far_moved, flattened, gated, random_plane, small
from test_backend_vitis import bench, needs_ap

from compress.fixed import FixedPoint
from export.backend import BackendError, Project
from export.backends.vitis import VITIS
from export.ir import Graph, Tensor
from export.ops import Input, Reshape
from export.streams import rules


def test_the_project_is_the_one_we_have_read() -> None:
    graph = small()
    files = VITIS.render(graph, io="stream", vectors=samples(graph, 3)[0]).files
    assert_golden("vitis_streams", {p: text for p, text in files.items() if not p.startswith("firmware/qapsule/")})
    kernels = {path.removeprefix("firmware/qapsule/") for path in files if path.startswith("firmware/qapsule/")}
    assert {"packet.h", "stream/transfer.h", "stream/window.h", "conv.h"} <= kernels
    assert not any("emul" in path or path in ("queue.h", "input.h", "stream/fold.h") for path in kernels)


@needs_ap
@pytest.mark.parametrize(
    ("graph", "standard"),
    [(every_op(), "c++11"), (small(), "c++11"), (random_plane(np.random.default_rng(11), "plane"), "c++14")],
    ids=["every_op", "small", "random"],
)
def test_the_test_bench_compiles_and_passes(graph: Graph, standard: str, tmp_path: Path) -> None:
    """Nothing else is printed: the vendor's streams warn where packets are left in them."""
    done = bench(VITIS.render(graph, io="stream"), tmp_path / "net", standard=standard)
    assert (done.returncode, done.stdout) == (0, "PASSED: 100 samples, 0 mismatches\n")


@needs_ap
@pytest.mark.parametrize(
    "graph",
    [flattened((4, 3, 2), 6, 12), flattened((4, 3, 2), 6, 12, share=0.4), far_moved(), gated(8)],
    ids=["absorbed", "sparse", "far_moved", "gated"],
)
def test_so_does_that_of_designs_that_keep_less(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_REGISTERS", 8)
    done = bench(VITIS.render(graph, io="stream"), tmp_path / "net", standard="c++11")
    assert (done.returncode, done.stdout) == (0, "PASSED: 100 samples, 0 mismatches\n")


@needs_ap
@pytest.mark.parametrize("share", [None, 0.4])
def test_weights_of_another_packet_fail(share: float | None, tmp_path: Path) -> None:
    """The control: every step takes the weights of the one before."""
    project = VITIS.render(flattened((4, 3, 2), 6, 12, share=share), io="stream")
    top = "firmware/flattened.cpp"
    wrong = project.files[top].replace("qapsule_step);", "qapsule_step == 0 ? 0 : qapsule_step - 1);")
    assert wrong != project.files[top]
    done = bench(Project("flattened", "vitis", {**project.files, top: wrong}), tmp_path / "net")
    assert done.returncode == 1 and done.stdout.splitlines()[-1].startswith("FAILED: 100 samples, ")


@needs_ap
def test_a_tap_in_the_wrong_place_fails_with_a_count(tmp_path: Path) -> None:
    """The control: a window that looks one element too far to the left."""
    project = VITIS.render(small(), io="stream")
    window = "firmware/qapsule/stream/window.h"
    wrong = project.files[window].replace("j * detail::motion<Columns>::dilation", "j == 0 ? 0 : j - 1")
    assert wrong != project.files[window]
    done = bench(Project("tiny_streams", "vitis", {**project.files, window: wrong}), tmp_path / "net")
    assert done.returncode == 1 and done.stdout.splitlines()[-1].startswith("FAILED: 100 samples, ")


def test_the_top_level_is_a_network_of_processes_between_axi_streams() -> None:
    files = VITIS.render(small(), io="stream").files
    top = files["firmware/tiny_streams.cpp"]
    assert "#pragma HLS INTERFACE axis port=x_in" in top and "    QAPSULE_DATAFLOW\n" in top
    assert top.count("QAPSULE_PROCESS\n") == 5
    assert "qapsule::stream::fork<16, x_packet>(x_in, x_fifo0, x_fifo1);" in top
    assert "typedef hls::stream<x_packet> x_stream;" in files["firmware/types.h"]


def test_reuse_makes_a_process_take_its_packets_slower() -> None:
    graph = mlp("net", (4, 3, 2), reuse_factors=(2, 1))
    top = VITIS.render(graph, io="stream").files["firmware/net.cpp"]
    assert "qapsule::dense_reuse<2>(x, fc1, fc1_weight, fc1_bias);" in top


@pytest.mark.parametrize(("width", "channels", "fits"), [(8, 512, True), (8, 513, False), (9, 256, True),
                                                         (9, 257, False), (33, 64, True), (33, 65, False)])  # fmt: skip
def test_a_packet_must_fit_an_axi_stream(width: int, channels: int, fits: bool) -> None:
    """Of 4096 bits, in which every number begins at a byte of its own."""
    x = Tensor("pixels", (channels, 1), FixedPoint(width, 2))
    graph = Graph("net", (Input(x),), (x,))
    VITIS.render(graph)
    if fits:
        VITIS.render(graph, io="stream")
        return
    with pytest.raises(
        BackendError, match=rf"pixels: a packet of {channels} elements takes .* the limit is 4096; give"
    ):
        VITIS.render(graph, io="stream")


def test_a_wide_tensor_inside_needs_no_port() -> None:
    x, flat = Tensor("pixels", (1, 600), FixedPoint(8, 5)), Tensor("flat", (600,), FixedPoint(8, 5))
    graph = mlp("net", (600, 2))
    layer = graph.ops[1].rewired({graph.ops[0].output: flat})
    VITIS.render(Graph("net", (Input(x), Reshape(flat, x), layer), graph.outputs).verify(), io="stream")
