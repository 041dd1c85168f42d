"""What each op has at hand in a stream, and which designs, backends and names there are."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from designs import mlp
from planes import far_moved, flattened, gated, random_plane, residual, small
from torch import nn

from compress.fixed import FixedPoint, Overflow, Rounding
from compress.layers import QuantSpec, calibrate
from compress.quantize import quantize
from export import emulate, to_hls
from export.backend import BackendError
from export.backends.emulator import EMULATOR
from export.backends.vitis import VITIS
from export.firmware.design import Firmware
from export.ir import Const, Graph, Op, Tensor
from export.ops import Concat, Dense, Input, Maximum, MaxPool, Modes, Reshape, SparseDense, SumPool
from export.ops.conv import Conv
from export.ops.movement import Rearrange
from export.ops.windows import Adaptive, Sliding, Window
from export.streams import rules
from export.streams.access import (
    Absorbed,
    Access,
    ByPacket,
    Folded,
    Gathered,
    InTurn,
    Io,
    Picked,
    Whole,
    Windowed,
    packets,
)
from export.streams.plan import accesses
from export.streams.rules import access

X = Tensor("x", (4, 3, 6), FixedPoint(5, 2))


def pool(kind: type[MaxPool] | type[SumPool], *axes: Sliding | Adaptive, weights: int = 1) -> Op:
    window = Window(axes)
    if kind is MaxPool:
        return MaxPool(Tensor("y", (4, *window.positions), X.format), X, window)
    weight = Const(np.ones(weights, dtype=int), FixedPoint(2, 0))
    return SumPool(Tensor("y", (4, *window.positions), FixedPoint(20, 2)), X, window, weight)


def conv(*axes: Sliding) -> Op:
    window = Window(axes)
    weight = Const(np.ones((2, 4, *window.kernel), dtype=int), FixedPoint(2, 0))
    y = Tensor("y", (2, *window.positions), FixedPoint(20, 2))
    return Conv(y, X, weight, Const([1, 2], FixedPoint(3, 0)), window=window)


def moved(source: np.ndarray, x: Tensor = X) -> Op:
    return Rearrange(Tensor("y", source.shape, x.format), x, tuple(source.ravel().tolist()))


LARGE = Tensor("x", (4, 30, 40), X.format)
WRAPPING = Modes(Rounding.TRN, Overflow.WRAP)
PLACES = np.arange(X.size).reshape(X.shape)
ONE = Tensor("one", (4, 1, 1), X.format)


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        (conv(Sliding(3, 3, 1, 1, 1, 1), Sliding(6, 3, 2, 2, 1, 1)), Windowed),
        (conv(Sliding(3, 1), Sliding(6, 1)), Windowed),
        (conv(Sliding(3, 1, 1, 1, 1, 1), Sliding(6, 3)), Whole),  # its first windows lie in the padding altogether
        (pool(MaxPool, Sliding(3, 2), Sliding(6, 2, 2)), Windowed),
        (pool(MaxPool, Adaptive(3, 2), Sliding(6, 2, 2)), Whole),
        (pool(MaxPool, Sliding(3, 3), Sliding(6, 6)), Folded),
        (pool(SumPool, Sliding(3, 3), Sliding(6, 6, 4)), Folded),
        (pool(SumPool, Sliding(3, 3), Sliding(6, 3, 3)), Windowed),
        (pool(SumPool, Sliding(3, 3), Sliding(6, 3, 3), weights=2), Whole),
        (Concat(Tensor("y", (8, 3, 6), X.format), (X, X), 0), ByPacket),
        (Concat(Tensor("y", (4, 3, 12), X.format), (X, X), 2), Whole),  # a stream is read once
        (Concat(Tensor("y", (4, 3, 12), X.format), (X, replace(X, name="other")), 2), InTurn),
        (moved(PLACES[[2, 2, 0]]), ByPacket),
        (moved(np.where(np.arange(4)[:, None, None] == 1, -1, PLACES)), ByPacket),
        (moved(PLACES[:, ::-1]), Gathered),
        (moved(PLACES[[3, 0], :, 1:]), Gathered),
        (moved(np.repeat(PLACES, 2, axis=1)), Gathered),
        (moved(np.pad(PLACES, ((0, 0), (1, 0), (0, 2)), constant_values=-1)), Gathered),
        (moved(np.pad(PLACES, ((1, 0), (1, 0), (0, 0)), constant_values=-1)), Gathered),
        (moved(PLACES.transpose(1, 0, 2)), Whole),
        (moved(np.arange(LARGE.size).reshape(LARGE.shape).transpose(2, 1, 0), LARGE), Picked),
        (Reshape(Tensor("y", (2, 30, 80), X.format), LARGE), Picked),
        (Reshape(Tensor("y", (4, 1200), X.format), LARGE), ByPacket),
        (Reshape(Tensor("y", (4800,), X.format), LARGE), Whole),
        (moved(np.full(X.shape, -1)), Whole),
        (moved(np.where(PLACES == 7, -1, PLACES)), Whole),
        (moved(np.broadcast_to(np.arange(4)[:, None, None], X.shape), ONE), ByPacket),
        (Maximum(Tensor("y", X.shape, X.format), X, X), ByPacket),
    ],
)
def test_what_a_kernel_has_at_hand(op: Op, kind: type[Access]) -> None:
    how = access(op)
    assert type(how) is kind
    order = list(how.order(op))
    for tensor in (*op.inputs, op.output):
        assert order.count(tensor) == packets(tensor)
    assert (order[0] in op.inputs and order[-1] == op.output) or isinstance(how, Windowed)
    local = how.local(op)
    assert type(local) is (Rearrange if kind is Picked else type(op)) and local.output.shape[0] == op.output.shape[0]
    assert isinstance(how, Whole) or packets(local.output) == 1


@pytest.mark.parametrize(
    ("shape", "reuse_factor", "modes", "cycles"),
    [
        ((4, 3, 2), 6, None, 1),
        ((4, 3, 2), 12, None, 2),
        ((4, 3, 2), 72, None, 12),
        ((4, 3, 2), 8, None, None),  # no multiple of six packets
        ((4, 3, 2), 1, None, None),
        ((4, 1, 1), 4, None, None),  # a single packet
        ((4, 3, 2), 12, WRAPPING, None),  # whose sums are taken channel by channel
        ((1, 3, 2), 6, WRAPPING, 1),
    ],
)
def test_a_layer_that_flattens(
    shape: tuple[int, ...], reuse_factor: int, modes: Modes | None, cycles: int | None
) -> None:
    graph = flattened(shape, 6, reuse_factor, modes)
    x, flat, fc, _ = graph.ops
    how = accesses(graph)[fc.output]
    if cycles is None:
        assert isinstance(how, Whole)
        return
    assert how == Absorbed(flat.output, x.output) and flat.output not in accesses(graph)
    assert isinstance(how, Absorbed) and isinstance(fc, Dense) and how.steps(fc) == cycles
    assert list(how.order(fc)) == [x.output] * packets(x.output) + [fc.output]
    rows = how.by_step(fc)
    assert rows.shape == (reuse_factor, fc.weight.codes.size // reuse_factor)
    of_packet = fc.weight.codes.reshape(6, *shape)[:, :, -1, -1]  # the last packet's, input by input
    assert np.array_equal(rows[-cycles:].ravel(), of_packet.T.ravel())


@pytest.mark.parametrize(("share", "cycles"), [(0.05, 1), (0.2, 1), (0.2, 2), (0.5, 3), (1.0, 8), (1.0, 5)])
def test_the_weights_of_a_sparse_layer_that_flattens(share: float, cycles: int) -> None:
    """Each stands in a step of its packet, beside others of other outputs; few places are left over."""
    graph = flattened((8, 5, 3), 7, 15 * cycles, share=share)
    fc = graph.ops[2]
    how = accesses(graph)[fc.output]
    assert isinstance(how, Absorbed) and isinstance(fc, SparseDense)
    dealt = how.entries(fc)
    steps, multipliers = dealt.numbers.shape
    assert steps == 15 * cycles and multipliers % dealt.side_by_side == 0
    filled = dealt.numbers >= 0
    assert sorted(dealt.numbers[filled]) == list(range(len(fc.rows)))
    assert np.array_equal(dealt.cols[filled], np.array(fc.cols)[dealt.numbers[filled]])
    packet = np.arange(steps)[:, None] // cycles
    assert np.all((np.array(fc.rows)[dealt.numbers] % 15 == packet)[filled])
    groups = np.sort(dealt.cols.reshape(-1, dealt.side_by_side), axis=1)
    assert np.all(np.diff(groups, axis=1) > 0) and groups.min() >= 0 and groups.max() < 7
    most = np.bincount(np.array(fc.rows) % 15).max()
    assert -(-most // cycles) <= multipliers < -(-most // cycles) + multipliers // dealt.side_by_side


def test_a_flattened_tensor_that_leaves_is_a_packet() -> None:
    graph = flattened((4, 3, 2), 6, 12)
    flat = graph.ops[1].output
    found = accesses(replace(graph, outputs=(*graph.outputs, flat)))
    assert found[flat] == found[graph.ops[2].output] == Whole()


def test_a_window_lets_go_as_soon_as_its_last_element_is_there() -> None:
    """Kernel 3, padding 1: the first packet leaves with the second of the second line, one line behind after that."""
    op = conv(Sliding(3, 3, 1, 1, 1, 1), Sliding(6, 3, 1, 1, 1, 1))
    order = list(access(op).order(op))
    read = [order[: place + 1].count(X) for place, tensor in enumerate(order) if tensor == op.output]
    assert read == [8, 9, 10, 11, 12, 12, 14, 15, 16, 17, 18, 18, *[18] * 6]


def test_each_tensor_has_one_writer_and_each_stream_one_reader() -> None:
    for seed in range(40):
        network = Firmware(random_plane(np.random.default_rng(seed)), Io.STREAM).network
        assert network
        read = [name for part in network.parts for name in part.reads]
        written = [name for part in network.parts for name in part.writes]
        assert len(set(read)) == len(read) and len(set(written)) == len(written)
        assert {fifo.name for fifo in network.fifos} == set(read) & set(written)


def test_an_input_that_leaves_and_tensors_that_nobody_reads() -> None:
    x = Tensor("x", (2, 3), FixedPoint(4, 1))
    other = Tensor("unused", (3,), FixedPoint(4, 1))
    network = Firmware(Graph("g", (Input(x), Input(other)), (x,)), Io.STREAM).network
    assert network
    assert [(p.reads, p.writes) for p in network.parts] == [(("x_in",), ("x_out",)), (("unused_in",), ())]


def test_an_io_is_one_of_two() -> None:
    assert [Io.of(given) for given in ("parallel", "stream", Io.STREAM)] == [Io.PARALLEL, Io.STREAM, Io.STREAM]
    with pytest.raises(ValueError, match="there is no io 'io_stream'; choose 'parallel' or 'stream'"):
        EMULATOR.render(mlp("net", (2, 2)), io="io_stream")


def test_a_backend_without_streams_says_so() -> None:
    arrays = replace(VITIS, name="arrays", ios=(Io.PARALLEL,))
    assert arrays.render(mlp("net", (2, 2))).files == VITIS.render(mlp("net", (2, 2))).files
    with pytest.raises(BackendError, match="the backend arrays has no io='stream'; use io='parallel'"):
        arrays.render(mlp("net", (2, 2)), io="stream")


def test_arrays_know_nothing_of_streams() -> None:
    files = VITIS.render(residual()).files
    assert not any("stream" in path or path.endswith(("packet.h", "queue.h")) for path in files)
    assert "stream" not in files["firmware/residual.cpp"] + files["firmware/residual.h"] + files["firmware/types.h"]


def test_one_call_exports_and_emulates_a_model_as_streams(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3))
    network = quantize(network, QuantSpec(weight_width=4, activation_width=5, input_width=6))
    calibrate(network, torch.randn(50, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    project = to_hls(network.eval(), tmp_path / "net", (1, 4, 4), io="stream")
    assert "QAPSULE_DATAFLOW" in project.files["firmware/network.cpp"]
    x = np.random.default_rng(0).normal(size=(50, 1, 4, 4))
    arrays, streams = (emulate(network, (1, 4, 4), io=io) for io in Io)
    assert streams.io is Io.STREAM
    expected = arrays.predict_codes(x)
    assert len(np.unique(expected, axis=0)) > 10 and np.array_equal(streams.predict_codes(x), expected)
    (layer,) = (op for op in streams.graph if isinstance(op, Dense))
    shared = emulate(network, (1, 4, 4), io="stream", reuse_factor={layer.name: 8})  # of four packets, two cycles each
    assert any(isinstance(how, Absorbed) for how in accesses(shared.graph).values())
    assert np.array_equal(shared.predict_codes(x), expected)


def names(graph: Graph) -> list[list[str]]:
    """The tensors that each process makes."""
    network = Firmware(graph, Io.STREAM).network
    assert network
    return [[step.y.name for step in process.steps] for process in network.processes]


def test_what_makes_a_packet_of_each_packet_belongs_to_the_process_before() -> None:
    graph = small()
    assert names(graph) == [["conv1", "act1"], ["conv2", "act2"], ["sum", "relu"], ["pooled"], ["fc"]]
    leaving = replace(graph, outputs=(*graph.outputs, graph.ops[1].output))
    assert names(leaving)[:2] == [["conv1"], ["act1"]]
    cast = replace(graph.ops[2], output=replace(graph.ops[2].output, name="twice"))
    read_twice = replace(graph, ops=(*graph.ops[:3], cast, *graph.ops[3:]))
    assert names(read_twice)[:3] == [["conv1"], ["act1"], ["twice"]]


def test_a_flattened_tensor_is_collected_by_the_layer_that_reads_it() -> None:
    """Not where somebody else reads it, or it leaves: then it is a packet of its own."""
    graph = small()
    flat = next(op.output for op in graph if isinstance(op, Reshape))
    for outputs, widest, read in ((graph.outputs, 3, "pooled"), ((*graph.outputs, flat), 8, "flat_fifo0")):
        network = Firmware(replace(graph, outputs=outputs), Io.STREAM).network
        assert network and max(signal.channels for signal in network.carried) == widest
        assert network.processes[-1].reads == (read,)


@pytest.mark.parametrize("tool", ["__VITIS_HLS__", "__VIVADO_HLS__", "QAPSULE_CATAPULT", "__INTELFPGA_COMPILER__"])
@pytest.mark.parametrize(
    "graph",
    [
        small(),
        random_plane(np.random.default_rng(74), "plane"),
        far_moved(),
        gated(8),
        flattened((4, 5), 6, 10, share=0.5),
    ],
    ids=lambda graph: graph.name,
)
def test_what_each_tool_reads_is_cxx(tool: str, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the labels and the pragmas that an ordinary compiler does not see otherwise."""
    monkeypatch.setattr(rules, "MOST_REGISTERS", 8)
    folder = EMULATOR.render(graph, io="stream").write(tmp_path / "net")
    flags = ["-std=c++14", "-fsyntax-only", "-Wno-unknown-pragmas", "-Wno-unused-label", f"-D{tool}"]
    command = ["g++", "-Wall", "-Wextra", "-Werror", *flags, f"firmware/{graph.name}.cpp"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
