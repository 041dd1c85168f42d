"""Where a design asks for more than HLS tools bear: named by layer, and the cure cures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from designs import QUANTIZER, conv_net, every_op, exact_dense, lookup_net, mlp, skip_net
from planes import small, tail

from compress.fixed import FixedPoint
from export import to_hls
from export.costs.cautions import MOST_PRODUCTS, cautions
from export.costs.estimate import estimate
from export.ir import Const, Graph, Op, Tensor
from export.ops import BinaryDense, Cast, Input, Reshape, SparseDense
from export.ops.binary import SIGN
from export.streams.access import Io


def large(reuse_factor: int = 1, shape: tuple[int, ...] = (8, 30, 30), sparse: bool = False) -> Graph:
    """A layer of two outputs over a tensor of 7,200 numbers, one weight in ten not zero."""
    rng = np.random.default_rng(0)
    x = Tensor("x", shape, FixedPoint(5, 2))
    flat = Reshape(Tensor("flat", (x.size,), x.format), x)
    ops: list[Op] = [Input(x, QUANTIZER), flat]
    codes = rng.integers(1, 8, size=(2, x.size)) * (rng.random((2, x.size)) < 0.1)
    fc = exact_dense("fc", flat.output, Const(codes, FixedPoint(4, 3)), Const([1, 2], FixedPoint(3, 1)), tuple(ops))
    last = SparseDense.of(fc, reuse_factor) if sparse else replace(fc, reuse_factor=reuse_factor)
    return Graph("large", (*ops, last), (fc.output,))


@pytest.mark.parametrize("io", Io)
def test_nothing_is_said_of_designs_of_ordinary_size(io: Io) -> None:
    for graph in (every_op(), conv_net(), skip_net(), lookup_net(), small(), mlp("jet", (16, 64, 32, 32, 5))):
        assert cautions(graph, io) == ()
        assert "caution" not in str(estimate(graph, io=io))


@pytest.mark.parametrize("io", Io)
def test_products_at_once_and_how_many_must_share_a_multiplier(io: Io) -> None:
    """In a stream as many as there are packets, which costs no throughput."""
    (said,) = cautions(tail(1), io)
    assert re.fullmatch(
        r"fc: 18,\d\d\d products at once, by weights that are not zero, more than 4,096; "
        r"use a reuse factor of (\d+) or more",
        said,
    )
    enough = int(said.split()[-3])
    assert enough == (121 if io is Io.STREAM else 8)
    assert cautions(tail(enough), io) == ()
    if io is Io.PARALLEL:
        (said,) = cautions(tail(4), io)
        assert said.startswith("fc: 4,840 products at once, by weights that are no constants")


def test_zeros_count_where_they_are_no_constants() -> None:
    assert np.count_nonzero(large().ops[2].constants["weight"].codes) < MOST_PRODUCTS < 2 * 7200 // 2
    assert not any("products" in said for said in cautions(large()))
    assert "fc: 7,200 products at once, by weights that are no constants" in cautions(large(2))[0]


def test_arrays_are_registers() -> None:
    (said,) = cautions(large(7200))
    assert said == (
        "more than 4,096 numbers side by side in registers: x (7,200), flat (7,200); "
        "with io='stream' layers hand on one position at a time, and keep the lines of a window in memories"
    )
    assert cautions(large(7200), "stream") == ()


@pytest.mark.parametrize("sparse", [False, True])
def test_a_layer_that_collects_says_with_what_it_would_not(sparse: bool) -> None:
    (said,) = cautions(large(16, sparse=sparse), "stream")
    assert said == (
        "fc: 7,200 numbers side by side in registers, more than 4,096; "
        "with a reuse factor that 900 divides nothing is kept but its sums"
    )
    assert cautions(large(900, sparse=sparse), "stream") == ()


def test_a_packet_may_be_too_wide() -> None:
    x = Tensor("x", (5000,), FixedPoint(5, 2))
    graph = Graph("wide", (Input(x), Cast(Tensor("y", (5000,), FixedPoint(4, 1)), x, QUANTIZER)), (x,))
    assert [said.partition(":")[0] for said in cautions(graph, "stream")] == ["x", "y"]
    assert cautions(graph, "stream")[0] == "x: a packet of 5,000 numbers, more than 4,096; give x spatial axes"


def test_signs() -> None:
    x = Tensor("x", (100,), SIGN)
    weight, offset = Const(np.zeros((50, 100), dtype=int), SIGN), Const([0] * 50, FixedPoint(2, 0))
    layer = BinaryDense(Tensor("fc", (50,), FixedPoint(10, 0)), x, weight, offset, 0)
    (said,) = cautions(Graph("signs", (Input(x), layer), (layer.output,)))
    assert said.startswith("fc: 5,000 signs are compared at once, more than 4,096")


def test_the_project_and_the_estimate_say_so(tmp_path: Path) -> None:
    graph = tail(1)
    said = cautions(graph, "stream")
    assert len(said) == 1 and said[0].startswith("fc: ")
    assert to_hls(graph, tmp_path / "net", io="stream").cautions == said
    assert f"caution: {said[0]}" in str(estimate(graph, io="stream"))
    assert to_hls(graph, tmp_path / "other", reuse_factor={"fc": 121}, io="stream").cautions == ()
