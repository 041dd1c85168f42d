"""Packets that pass, against going through every cycle."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from designs import exact_dense, mlp
from planes import flattened, tail

from compress.fixed import FixedPoint
from export.costs import OpEstimate, Target, estimate_op
from export.costs.estimate import estimate
from export.ir import Const, Graph, Op, Tensor
from export.ops import Concat, Conv, Dense, Input, MaxPool, Rearrange, ReLU, Reshape
from export.ops.windows import Sliding, Window
from export.streams.access import ByPacket, Folded, Whole, Windowed
from export.streams.flow import Flow, estimate_process, flow, latency
from export.streams.plan import accesses
from export.streams.rules import access

X = FixedPoint(6, 3)


def process(op: Op) -> OpEstimate:
    made = estimate_process(op, access(op), Target())
    assert made
    return made


def pool(*axes: Sliding, channels: int = 2) -> MaxPool:
    window = Window(axes)
    x = Tensor("x", (channels, *window.size), X)
    return MaxPool(Tensor("pool", (channels, *window.positions), X), x, window)


def conv(size: int, reuse: int = 1, kernel: int = 3) -> Conv:
    window = Window((Sliding(size, kernel), Sliding(size, kernel)))
    x = Tensor("x", (2, size, size), X)
    weight = np.random.default_rng(0).integers(-7, 8, size=(4, 2, kernel, kernel))
    y = Tensor("conv", (4, *window.positions), FixedPoint(20, 6))
    return Conv(y, x, Const(weight, FixedPoint(4, 3)), Const([0] * 4, FixedPoint(4, 3)), None, reuse, window=window)


def cycle_by_cycle(axes: tuple[Sliding, ...]) -> Flow:
    """Elements pass in row-major order, and padding behind the last one of an axis as far as windows reach."""
    ends = [{p * a.stride - a.before + a.span - 1 for p in range(a.positions)} for a in axes]
    lengths = [max(a.size, max(e) + 1) for a, e in zip(axes, ends, strict=True)]
    reads, writes = [], []
    for cycle, place in enumerate(product(*map(range, lengths))):
        if all(i < a.size for i, a in zip(place, axes, strict=True)):
            reads.append(cycle)
        if all(i in e for i, e in zip(place, ends, strict=True)):
            writes.append(cycle)
    return Flow(writes[0] - reads[0], cycle + 1, max(0, writes[-1] - reads[-1]))


@pytest.mark.parametrize(
    "axes",
    [
        (Sliding(7, 3), Sliding(5, 2)),
        (Sliding(7, 2, stride=2), Sliding(6, 2, stride=2)),
        (Sliding(6, 3, before=1, after=1), Sliding(8, 3, before=1, after=1)),
        (Sliding(6, 3, stride=2, before=1), Sliding(7, 3, dilation=2, before=2, after=3)),
        (Sliding(9, 3, stride=2, before=1, after=1),),
    ],
)
def test_windows(axes):
    op = pool(*axes)
    assert isinstance(access(op), Windowed)
    assert flow(access(op), op) == cycle_by_cycle(axes)


def test_a_window_that_shares_multipliers_stops_the_packets():
    once, twice = conv(6), conv(6, reuse=3)
    assert flow(access(once), once) == Flow(2 * 6 + 2, 36, 0)
    assert flow(access(twice), twice) == Flow(2 * 6 + 2 + 2, 36 + 16 * 2, 2)


def test_other_ways_in():
    relu = ReLU(Tensor("relu", (2, 5), ReLU.positive(X)), Tensor("x", (2, 5), X))
    assert isinstance(access(relu), ByPacket) and flow(access(relu), relu) == Flow(0, 5, 0)
    flat = Reshape(Tensor("flat", (10,), X), Tensor("x", (2, 5), X))
    assert isinstance(access(flat), Whole) and flow(access(flat), flat) == Flow(5, 7, 1)
    everything = pool(Sliding(4, 4), Sliding(3, 3))
    if isinstance(access(everything), Folded):
        assert flow(access(everything), everything) == Flow(11, 12, 0)


@pytest.mark.parametrize("reuse_factor", [6, 12, 72])
def test_a_layer_that_takes_its_packets_as_they_come(reuse_factor):
    """The last of six packets comes in with its share of the steps still to do."""
    graph = flattened((4, 3, 2), 6, reuse_factor)
    fc = graph.ops[2]
    how = accesses(graph)[fc.output]
    assert flow(how, fc) == Flow(reuse_factor - 1, reuse_factor, reuse_factor // 6 - 1)
    assert latency(graph, {op.output: flow(accesses(graph)[op.output], op) for op in graph.ops[2:]}) == reuse_factor


def test_as_many_steps_as_packets_cost_no_throughput():
    """Behind convolutions; all multipliers at once would wait for the last packet."""
    slow, fast, whole = (estimate(tail(reuse), io="stream") for reuse in (16 * 121, 121, 1))
    assert fast.interval == whole.interval == 24 * 24 and slow.interval == 16 * 121
    assert fast.latency <= whole.latency and 16 * 121 < slow.latency < 16 * 121 + 24 * 24
    layer = {made.name: made for made in fast.ops}["fc"]
    assert (layer.multipliers, layer.interval, layer.memory_bits) == (160, 121, 19360 * 4)
    assert {made.name: made for made in slow.ops}["fc"].multipliers == 10
    assert layer.ff < 20_000 and layer.lut < {made.name: made for made in estimate(tail(121)).ops}["fc"].lut


def test_numbers_taken_one_by_one():
    x = Tensor("x", (4, 30, 40), X)
    source = np.arange(x.size).reshape(x.shape).transpose(2, 1, 0)
    op = Rearrange(Tensor("y", source.shape, X), x, tuple(source.ravel().tolist()))
    assert flow(access(op), op) == Flow(1200 + 40 - 1, 1200 + 4800, 4800)
    made = process(op)
    assert made.memory_bits == x.size * X.width and made.bram18 > 0


def test_parts_in_turn_pass_as_they_come():
    a, b = Tensor("a", (2, 3, 4), X), Tensor("b", (2, 5, 4), X)
    op = Concat(Tensor("y", (2, 8, 4), X), (a, b), 1)
    assert flow(access(op), op) == Flow(0, 32, 20)


def chain(*ops):
    return Graph("net", (Input(ops[0].inputs[0]), *ops), (ops[-1].output,))


def test_the_latency_of_a_chain():
    """The last packet of 36 enters in cycle 35 and ends the last window, whose result passes two registers."""
    op = conv(6)
    relu = ReLU(Tensor("relu", op.output.shape, ReLU.positive(op.output.format)), op.output)
    graph = chain(op, relu)
    flows = {made.output: flow(access(made), made) for made in (op, relu)}
    assert latency(graph, flows) == 36
    slow = {tensor: Flow(own.fill, own.interval, own.drain, stages=4) for tensor, own in flows.items()}
    assert latency(graph, slow) == 36 + 8


def test_a_slow_process_holds_up_the_rest():
    op = conv(6, reuse=9)
    assert latency(chain(op), {op.output: flow(access(op), op)}) == 36 + 16 * 8


def test_a_process_takes_what_its_kernel_takes_at_one_position():
    op = conv(20)
    whole, own = estimate_op(op, Target()), process(op)
    for name in ("products", "multipliers", "shift_adds", "adders", "lut", "dsp"):
        assert getattr(own, name) == getattr(whole, name), name
    assert own.interval == 400 and whole.interval == 18 * 18
    assert own.memory_bits == 2 * 20 * 2 * 6  # two lines of 20 packets of two channels
    assert own.bram18 == 0 and process(conv(200)).bram18 == 2  # a line for each


def test_element_by_element_is_one_packet_at_a_time():
    relu = ReLU(Tensor("relu", (2, 50), ReLU.positive(X)), Tensor("x", (2, 50), X))
    assert process(relu).lut * 50 == pytest.approx(estimate_op(relu, Target()).lut, rel=0.05)


def test_a_design_of_processes():
    op = conv(8)
    flat = Reshape(Tensor("flat", (144,), op.output.format), op.output)
    weight, bias = Const(np.ones((3, 144), dtype=int), FixedPoint(4, 3)), Const([0] * 3, FixedPoint(4, 3))
    fc = exact_dense("fc", flat.output, weight, bias, chain(op, flat).ops, 8)
    made = estimate(chain(op, flat, fc), io="stream")
    assert made.interval == 64 and made.unknown == ()
    assert 64 + 8 < made.latency < 64 + 8 + 20  # all but the last layer work while packets come in
    assert estimate(chain(op, flat, fc)).interval == 36  # over arrays, one position per cycle


def test_one_packet_takes_as_long_in_a_stream():
    graph = mlp("net", (8, 4, 2))
    assert isinstance(graph.ops[1], Dense)
    in_arrays, in_streams = estimate(graph), estimate(graph, io="stream")
    assert in_streams.total("lut") == in_arrays.total("lut")
    assert in_streams.latency > in_arrays.latency


def test_no_other_io():
    with pytest.raises(ValueError, match="there is no io 'serial'; choose 'parallel' or 'stream'"):
        estimate(mlp("net", (3, 2)), io="serial")
