"""Counts against counting by hand, and estimates against what they claim of themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from designs import every_op, exact_dense, mlp

from compress.fixed import FixedPoint
from export.costs import OpEstimate, Target, estimate_op
from export.costs.basis import block_rams, levels
from export.costs.estimate import estimate
from export.costs.multipliers import (
    by_constant,
    by_constants,
    constant_bits,
    dsp_blocks,
    lut_of_multiplier,
    signed_digits,
)
from export.firmware.design import Firmware
from export.ir import Const, Graph, Op, Tensor
from export.ops import Cast, Input, Maximum, Modes, ReLU, SparseDense
from export.passes import run, set_reuse
from recipes.fuzz.graphs import random_graph

ROOT = Path(__file__).parents[1]
VENDOR = ROOT.parent / "shared" / "data" / "vendor"
X6 = FixedPoint(6, 3)


def fewest_digits(limit: int) -> dict[int, int]:
    """The least number of terms +-2**k of which each integer up to ``limit`` is the sum."""
    found = {0: 0}
    terms = [sign << k for k in range(limit.bit_length() + 2) for sign in (1, -1)]
    frontier = {0}
    while any(n not in found for n in range(-limit, limit + 1)):
        frontier = {n + t for n in frontier for t in terms if abs(n + t) <= 4 * limit} - found.keys()
        found |= dict.fromkeys(frontier, max(found.values()) + 1)
    return found


def test_signed_digits_are_the_fewest():
    fewest = fewest_digits(300)
    for code in range(-300, 301):
        plus, minus = signed_digits(code)
        assert plus + minus == fewest[code], code
        assert signed_digits(-code) == (minus, plus)
    assert [signed_digits(c) for c in (1, -8, 5, -5, 3, -3, 7, 11)] == [
        (1, 0), (0, 1), (2, 0), (0, 2), (1, 1), (1, 1), (1, 1), (1, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "blocks"),
    [(16, 5, 1), (16, 4, 0), (12, 6, 1), (11, 6, 0), (13, 5, 1), (12, 12, 1), (28, 12, 2), (27, 18, 1), (20, 20, 2),
     (4, 60, 0), (32, 16, 2), (24, 8, 1), (18, 27, 1), (19, 28, 4)],
)  # fmt: skip
def test_which_multipliers_take_dsp_blocks(a, b, blocks):
    """Among them the multipliers that the vendors' reports list: one at 16 by 5, two at 28 by 12, none at 16 by 4."""
    assert dsp_blocks(a, b) == dsp_blocks(b, a) == blocks


@pytest.mark.parametrize(("a", "b", "lut"), [(6, 5, 23), (6, 6, 23), (8, 7, 40), (8, 4, 40), (10, 5, 62), (10, 4, 62)])
def test_multipliers_of_lookup_tables_cost_what_the_reports_list(a, b, lut):
    assert abs(lut_of_multiplier(a, b) - lut) <= 1.5


def test_bits_of_a_constant():
    assert [constant_bits(c) for c in (0, 1, -1, 7, 8, -8, -9)] == [1, 2, 1, 4, 5, 4, 5]


def test_multipliers_by_constants_are_shared_by_input():
    """11 needs three digits, 5 two that add, -5 two that both subtract; the same constant counts once for an input."""
    matrix = np.array([[11, 11, 5, 8], [11, -11, 5, -5], [0, 22, 3, -5]])
    made = by_constants(matrix, X6)
    assert made.count == 1 + 3 and made.in_dsp == 0 and made.shift_adds == 1 + 1 + 1 and made.negations == 1
    assert by_constants(matrix, FixedPoint(13, 3)).in_dsp == made.count  # 5 bits of 11 with 13 make 18; of -11 too
    assert by_constants(np.zeros((3, 2), dtype=int), X6).count == 0


def test_multipliers_by_constants_equal_counting():
    rng = np.random.default_rng(0)
    for _ in range(20):
        shape, fmt = rng.integers(1, 9, size=2), FixedPoint(int(rng.integers(2, 30)), 3)
        matrix = rng.integers(-60, 61, size=shape) * rng.integers(0, 2, size=shape)
        distinct = {(i, int(c)) for row in matrix for i, c in enumerate(row)}
        made = by_constants(matrix, fmt)
        digits = [sum(signed_digits(c)) for _, c in distinct]
        assert made.count == sum(d > 2 for d in digits)
        assert made.shift_adds == sum(d == 2 for d in digits)
        assert made.dsp == sum(by_constant(c, fmt).dsp for _, c in distinct)


def test_products_beyond_int64_are_counted_too():
    matrix = np.array([[2**70 + 2**40 + 1, 2**70]], dtype=object)
    assert by_constants(matrix, X6).count == 1


def layer(weight, bias, reuse=1, width=6):
    x = Tensor("x", (np.shape(weight)[1],), FixedPoint(width, 3))
    entry = Input(x)
    codes = Const(np.array(weight), FixedPoint(6, 5))
    return exact_dense("fc", x, codes, Const(np.array(bias), FixedPoint(8, 5)), (entry,), reuse)


def test_adders_of_a_parallel_layer():
    """Outputs of 3 and 1 terms, and one that is nothing: 2 + 0 + 0; one shift-and-add; one of two negative digits."""
    op = layer([[1, 5, 0], [0, 0, -5], [0, 0, 0]], [1, 0, 0])
    made = estimate_op(op, Target())
    assert (made.products, made.multipliers, made.shift_adds, made.adders) == (3, 0, 2, 2 + 2 + 1)
    assert (made.interval, made.memory_bits, made.dsp, made.bram18) == (1, 0, 0, 0)


def test_what_is_cut_off_after_the_sign_takes_an_adder():
    op = replace(layer([[-2, 4], [-4, 8]], [0, 0]), modes=Modes())
    cut = replace(op, output=Tensor("fc", (2,), FixedPoint(8, 4)))
    assert estimate_op(cut, Target()).adders == estimate_op(op, Target()).adders + 1  # one input has a negative power


@pytest.mark.parametrize("reuse", [2, 3, 6, 12, 24])
def test_a_layer_that_shares_multipliers(reuse):
    rng = np.random.default_rng(1)
    op = layer(rng.integers(-31, 32, size=(4, 6)), [0] * 4, reuse)
    made = estimate_op(op, Target())
    assert made.multipliers == made.adders == -(-24 // reuse)
    assert made.interval == reuse < made.latency
    assert made.memory_bits == 24 * 6


@pytest.mark.parametrize("reuse", [2, 5, 7])
def test_a_sparse_layer_has_multipliers_for_its_weights_alone(reuse):
    op = replace(SparseDense.of(layer([[0, 3, 0, 9], [2, 0, 0, 0], [0, 11, -3, 0], [1, 0, 0, 7]], [0] * 4)))
    made = estimate_op(replace(op, reuse_factor=reuse), Target())
    assert made.products == 7 and made.multipliers == -(-7 // reuse) and made.interval == reuse
    assert made.memory_bits == made.multipliers * reuse * (6 + 2 + 2)  # a word for each step


def test_unrolled_and_dense_are_the_same_hardware():
    op = layer([[0, 3, 0, 9], [2, 0, 0, 0], [0, 11, -3, 0], [1, 0, 0, 7]], [0, 1, 0, 2])
    dense, sparse = estimate_op(op, Target()), estimate_op(SparseDense.of(op), Target())
    assert replace(sparse, kind="Dense") == dense


def test_memories_are_those_of_the_firmware():
    graph = set_reuse(4)(mlp("jet", (16, 8, 4)))
    bits = {op.name: op.memory_bits for op in estimate(graph).ops if op.memory_bits}
    tables = {step.y.name: step for step in Firmware(graph) if "weight" in step.tables}
    assert bits.keys() == tables.keys()
    for name, step in tables.items():
        assert bits[name] == np.prod(step.tables["weight"].shape) * step.op.weight.format.width


@pytest.mark.parametrize(
    ("word", "depth", "blocks"),
    [(1536 * 16, 32, 683), (20 * 16, 32, 9), (2 * 16, 32, 0), (200 * 4, 30, 23), (13 * 6, 784, 5), (512 * 8, 2, 114),
     (800 * 20, 128, 445), (20, 80, 1), (1, 1 << 15, 2)],
)  # fmt: skip
def test_block_rams_as_reported(word, depth, blocks):
    """But for the last, memories of weights in the vendors' reports."""
    assert block_rams(word, depth) == blocks


def test_levels():
    assert [levels(n) for n in (0, 1, 2, 3, 4, 5, 8, 9)] == [0, 0, 1, 2, 2, 3, 3, 4]


def test_pruning_makes_everything_smaller():
    rng = np.random.default_rng(2)
    weight = rng.integers(-31, 32, size=(16, 16))
    estimates = []
    for pruned in (0, 64, 128, 192, 240):
        weight.flat[rng.permutation(256)[:pruned]] = 0
        estimates.append(estimate_op(layer(weight.copy(), [0] * 16), Target()))
    for name in ("products", "multipliers", "shift_adds", "adders", "lut", "ff"):
        values = [getattr(each, name) for each in estimates]
        assert values == sorted(values, reverse=True) and values[0] > values[-1], name


def test_a_slower_clock_takes_fewer_cycles_and_an_older_device_more():
    graph = mlp("jet", (16, 64, 32, 5))
    cycles = [estimate(graph, clock_ns=clock).latency for clock in (1.0, 2.0, 4.0, 8.0, 1000.0)]
    assert cycles == sorted(cycles, reverse=True) and cycles[0] > cycles[-1]
    assert cycles[-1] == sum(not isinstance(op, Input) for op in graph)  # a register behind each kernel is left
    assert estimate(graph, part="xc7z020clg400-1").latency > estimate(graph).latency


def test_the_latency_is_that_of_the_longest_way():
    x = Tensor("x", (3,), X6)
    relu = Tensor("relu", (3,), ReLU.positive(X6))
    cast = Tensor("cast", (3,), FixedPoint(5, 3, signed=False))
    longest = Tensor("longest", (3,), X6)
    ops = [Input(x), ReLU(relu, x), Cast(cast, relu, Modes()), Maximum(longest, x, cast)]
    made = estimate(Graph("g", tuple(ops), (longest,)), clock_ns=100)
    assert made.latency == 3
    assert estimate(Graph("g", tuple(ops), (relu, longest)), clock_ns=100).latency == 3
    assert estimate(Graph("g", tuple(ops), (relu,)), clock_ns=100).latency == 1


def test_the_interval_is_that_of_the_slowest():
    graph = mlp("jet", (16, 8, 4), reuse_factors=(4, 8))
    assert estimate(graph).interval == 8
    assert estimate(mlp("jet", (16, 8, 4))).interval == 1


def test_every_op_is_estimated():
    made = estimate(every_op())
    assert made.unknown == ()
    assert [op.name for op in made.ops] == [op.name for op in every_op()]
    wires = {op.name for op in every_op() if type(op).__name__ in ("Input", "Reshape", "Concat", "Rearrange")}
    for op in made.ops:
        assert (op.lut > 0 and op.latency >= op.interval) or op.name in wires


@dataclass(frozen=True)
class Unheard(Op):
    x: Tensor

    def eval(self, *codes):
        return codes[0]

    def bounds(self, *bounds):
        return bounds[0]


def test_an_op_without_a_rule_is_named():
    x, y = Tensor("x", (3,), X6), Tensor("y", (3,), X6)
    made = estimate(Graph("g", (Input(x), Unheard(y, x)), (y,)))
    assert made.unknown == ("y (Unheard)",)
    assert "not estimated: y (Unheard)" in str(made)
    assert made.latency == 0 and [op.name for op in made.ops] == ["x"]


@pytest.mark.parametrize(
    ("clock_ns", "part", "message"),
    [
        (0.0, "xcvu9p", "clock_ns is the clock period in nanoseconds; got 0.0"),
        (5.0, "10AX115", "'10AX115' is no Xilinx part, and estimates are for those, e.g. xcvu9p-flga2577-2-e"),
    ],
)
def test_errors(clock_ns, part, message):
    with pytest.raises(ValueError) as error:
        estimate(mlp("net", (3, 2)), clock_ns, part)
    assert str(error.value) == message


def test_the_table():
    lines = str(estimate(mlp("tiny", (4, 3, 2), reuse_factors=(2, 1)))).splitlines()
    assert lines[0] == "tiny at 5 ns on xcvu9p-flga2577-2-e"
    assert lines[1] == "latency 8 cycles or 40 ns, interval 2 cycles or 100 million samples a second"
    head = lines[3].split()
    assert head[:4] == ["op", "R", "products", "multipliers"] and head[-4:] == ["LUT", "FF", "DSP", "BRAM18"]
    assert [line.split()[0] for line in lines[5:11]] == ["x", "fc1", "relu1", "act1", "fc2", "all"]
    assert lines[6].split()[1:5] == ["Dense", "2", "12", "6"]
    assert lines[10].split()[1] == "18"


def test_totals_are_sums():
    made = estimate(mlp("jet", (16, 8, 4), reuse_factors=(4, 1)))
    for name in ("products", "multipliers", "adders", "lut", "ff", "dsp", "bram18"):
        assert made.total(name) == sum(getattr(op, name) for op in made.ops)
    assert isinstance(made.ops[0], OpEstimate)


def test_costs_grow_with_the_layer():
    sizes = [(8, 8), (16, 16), (32, 32), (64, 64)]
    made = [estimate(mlp("net", size)) for size in sizes]
    for smaller, larger in pairwise(made):
        assert smaller.total("lut") < larger.total("lut") and smaller.total("ff") < larger.total("ff")


def test_the_recorded_errors_are_those_of_the_vendors_modules(tmp_path):
    if not (VENDOR / "vendor_synthesis.csv").is_file():
        pytest.skip("vendor_synthesis.csv is not here")
    out = tmp_path / "estimate.json"
    script = ROOT / "benchmarks" / "estimate.py"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(script), str(VENDOR), "--out", str(out)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    made, recorded = (json.loads(path.read_text()) for path in (out, ROOT / "benchmarks" / "results" / "estimate.json"))
    for part in ("modules", "fitted_on", "parallel", "shared"):
        assert made[part] == recorded[part]
    exact = made["parallel"]["multipliers, number"]
    assert exact["equal"] == exact["all"]["rows"] > 100
    assert made["shared"]["interval, cycles"]["all"]["largest"] == 0


@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_whatever_the_passes_make_is_estimated(io):
    for seed in range(40):
        graph = run(random_graph(np.random.default_rng(seed)))
        made = estimate(graph, io=io)
        assert made.unknown == () and len(made.ops) == len(graph.ops)
        assert made.interval >= 1 and made.latency >= 0
        assert all(number >= 0 for op in made.ops for number in vars(op).values() if isinstance(number, int))
        assert str(made).count("\n") >= len(graph.ops)
