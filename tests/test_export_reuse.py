"""How multipliers are shared: which products meet in which step, and that designs which share them keep every bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from benches import bench
from designs import assert_equal_traces, exact_dense, samples
from reference import MODES

from compress.fixed import Codes, FixedPoint
from export.backend import Backend, Project
from export.backends.catapult import CATAPULT
from export.backends.vitis import VITIS
from export.costs import Target, estimate_op
from export.emulation.emulator import Emulator, MissingHeadersError, Numbers
from export.firmware.design import Firmware
from export.firmware.reload import for_any_weights, loaded
from export.ir import Const, Graph, Op, Tensor
from export.ops import Dense, Input, Modes, SparseDense
from export.ops.reuse import (
    by_step,
    check_reuse,
    legal_reuse_factors,
    multipliers_used,
    side_by_side,
    spread,
)

SHAPES = [(1, 1), (1, 7), (6, 1), (6, 4), (4, 6)]
X, WEIGHT, BIAS = FixedPoint(6, 3), FixedPoint(5, 3), FixedPoint(5, 4)


@pytest.mark.parametrize(("n_in", "n_out"), [*SHAPES, (16, 64), (5, 3)])
def test_legal_means_each_accumulator_keeps_its_multipliers(n_in: int, n_out: int) -> None:
    """M products per cycle that are whole inputs for all outputs, or one input for an equal part of the outputs."""
    sizes = {r: n_in * n_out // r for r in range(1, n_in * n_out + 1) if n_in * n_out % r == 0}
    legal = [r for r, m in sizes.items() if m % n_out == 0 or n_out % m == 0]
    assert list(legal_reuse_factors(n_in, n_out)) == legal


@pytest.mark.parametrize(("n_in", "n_out"), SHAPES)
def test_every_product_has_its_step_and_its_multiplier(n_in: int, n_out: int) -> None:
    numbers = np.arange(n_in * n_out).reshape(n_out, n_in)
    for reuse in legal_reuse_factors(n_in, n_out):
        steps = by_step(numbers, reuse)
        assert steps.shape == (reuse, n_in * n_out // reuse)
        assert sorted(steps.ravel().tolist()) == list(range(n_in * n_out))
        outputs, inputs = np.divmod(steps, n_in)
        for output in range(n_out):
            assert inputs[outputs == output].tolist() == list(range(n_in))  # in the order of steps, ascending
        if reuse <= n_in:  # an accumulator for each output, which the same multipliers feed
            assert (outputs == outputs[0]).all()
        else:  # an accumulator for each multiplier, which finishes an output before the next one begins
            runs = outputs.reshape(-1, n_in, outputs.shape[1])
            assert (runs == runs[:, :1]).all() and (inputs == inputs[:, :1]).all()


def test_a_multiplier_without_a_weight_is_none() -> None:
    weight = np.ones((4, 6), dtype=int)
    weight[1, [0, 3]] = 0  # of output 1, what inputs 0 and 3 share at R = 2
    assert multipliers_used(weight, 2) == tuple(m for m in range(12) if m != 1)
    assert multipliers_used(weight, 3) == tuple(range(8))
    weight[[0, 2]] = 0
    assert multipliers_used(weight, 12) == (1,)
    assert multipliers_used(np.zeros((4, 6), dtype=int), 2) == (0,)  # an array of C++ has an entry


def test_the_ends_are_always_legal() -> None:
    assert legal_reuse_factors(16, 5)[0] == 1 and legal_reuse_factors(16, 5)[-1] == 80


@pytest.mark.parametrize(
    ("n_in", "n_out", "reuse", "nearest"),
    [(16, 5, 3, "2 or 4"), (16, 5, 17, "16 or 80"), (16, 5, 81, "80"), (16, 5, 0, "1"), (4, 6, 5, "4 or 8")],
)
def test_the_error_names_the_nearest(n_in: int, n_out: int, reuse: int, nearest: str) -> None:
    with pytest.raises(ValueError) as error:
        check_reuse("fc1", n_in, n_out, reuse)
    assert str(error.value) == (
        f"fc1: reuse factor {reuse} is not legal for {n_in} inputs and {n_out} outputs; use {nearest}"
    )


def test_a_legal_one_passes() -> None:
    for reuse in legal_reuse_factors(6, 4):
        check_reuse("fc1", 6, 4, reuse)


def drawn_places(seed: int) -> tuple[list[int], list[int], int]:
    """Inputs and outputs of some weights, by input, and how many outputs there are."""
    rng = np.random.default_rng(seed)
    n_in, n_out = rng.integers(1, 10, size=2)
    rows, cols = np.nonzero(rng.random((n_in, n_out)) < rng.uniform(0.2, 1))
    return (rows.tolist(), cols.tolist(), int(n_out)) if len(rows) else ([0], [0], int(n_out))


@pytest.mark.parametrize("seed", range(60))
def test_entries_are_spread_so_that_sums_need_not_wait(seed: int) -> None:
    rows, cols, n_out = drawn_places(seed)
    for reuse in range(1, len(rows) + 1):
        number, col = spread(cols, n_out, reuse)
        assert number.shape == col.shape == (reuse, -(-len(rows) // reuse))
        order = [k for k in number.ravel().tolist() if k >= 0]
        assert sorted(order) == list(range(len(rows)))
        for output in range(n_out):
            inputs = [rows[k] for k in order if cols[k] == output]
            assert inputs == sorted(inputs)
        assert all(col.ravel()[place] == cols[k] for place, k in enumerate(number.ravel()) if k >= 0)
        together = side_by_side(cols, reuse)
        for step in col.tolist():
            groups = [step[first : first + together] for first in range(0, len(step), together)]
            assert all(len(set(group)) == len(group) and set(group) <= set(range(n_out)) for group in groups)
        # One output has to meet so many in a step; with few outputs the groups are as large as whole numbers allow.
        fewest = -(-max(map(cols.count, cols)) // reuse)
        assert fewest <= len(groups) < 2 * fewest + 1


def weights(rng: np.random.Generator, shape: tuple[int, int], reuse: int, pruned: bool) -> Codes:
    """Some of them zero; ``pruned``: all of a third of the multipliers are, of one at least if there are several."""
    weight = rng.integers(-15, 16, size=shape) * (rng.random(shape) < 0.8)
    columns = by_step(np.arange(weight.size).reshape(shape), reuse).T
    gone = rng.permutation(len(columns))[: max(len(columns) // 3, len(columns) > 1)]
    return np.where(np.isin(np.arange(weight.size).reshape(shape), columns[gone]), 0, weight) if pruned else weight


def shared_layers(seed: int = 0, shapes: list[tuple[int, int]] = SHAPES) -> Graph:
    """Layers of all ``shapes`` at every legal R: dense, pruned by multipliers or not, and sparse; exact or not."""
    rng = np.random.default_rng(seed)
    inputs = {n: Input(Tensor(f"x{n}", (n,), X)) for n in sorted({n for n, _ in shapes})}
    layers: list[Op] = []
    modes = (Modes(*MODES[k % len(MODES)]) for k in count(seed))
    for n_in, n_out in shapes:
        x = inputs[n_in]
        for reuse in legal_reuse_factors(n_in, n_out):
            for pruned in (False, True):
                weight = Const(weights(rng, (n_out, n_in), reuse, pruned), WEIGHT)
                bias = Const(rng.integers(-16, 16, size=n_out), BIAS)
                layers.append(exact_dense(f"layer{len(layers)}", x.output, weight, bias, (x,), reuse))
                narrow = Tensor(f"layer{len(layers)}", (n_out,), FixedPoint(5, 2))
                layers.append(replace(layers[-1], output=narrow, modes=next(modes)))
        weight = Const(weights(rng, (n_out, n_in), 1, pruned=True), WEIGHT)
        for reuse in range(1, max(1, np.count_nonzero(weight.codes)) + 1):
            dense = exact_dense(f"layer{len(layers)}", x.output, weight, bias, (x,))
            layers.append(SparseDense.of(dense, reuse))
            narrow = Tensor(f"layer{len(layers)}", (n_out,), FixedPoint(5, 2))
            layers.append(SparseDense.of(replace(dense, output=narrow, modes=next(modes)), reuse))
    outputs = tuple(op.output for op in layers)
    return Graph("shared", (*inputs.values(), *layers), outputs).verify()


@pytest.mark.parametrize("numbers", list(Numbers), ids=lambda numbers: numbers.value)
def test_every_factor_gives_the_bits_of_the_graph(numbers: Numbers) -> None:
    graph = shared_layers()
    try:
        emulator = Emulator(graph, numbers=numbers)
    except MissingHeadersError as missing:
        pytest.skip(str(missing))
    assert_equal_traces(graph, emulator, samples(graph, 200))


def test_all_modes_are_met_by_all_kernels() -> None:
    layers = [op for op in shared_layers() if isinstance(op, Dense | SparseDense) and op.reuse_factor > 1]
    kinds = {
        "reuse": [op for op in layers if isinstance(op, Dense) and not op.is_serial],
        "serial": [op for op in layers if isinstance(op, Dense) and op.is_serial],
        "sparse": [op for op in layers if isinstance(op, SparseDense)],
    }
    for kind, ops in kinds.items():
        assert {op.modes.overflow for op in ops if op.modes} == {overflow for _, overflow in MODES}, kind
    pruned = [op for kind in ("reuse", "serial") for op in kinds[kind] if not op.has_all_multipliers]
    assert {op.is_serial for op in pruned} == {False, True}
    assert {op.side_by_side > 1 for op in kinds["sparse"]} == {False, True}


@pytest.mark.parametrize("backend", [VITIS, CATAPULT], ids=lambda backend: backend.name)
def test_they_keep_their_bits_when_stored_three_times(backend: Backend, tmp_path: Path) -> None:
    done = bench(backend.render(shared_layers(1, [(4, 6)]), tmr=True), tmp_path / "net")
    assert done.returncode == 0, done.stdout + done.stderr


def chain(seed: int, pruned: bool) -> Graph:
    """A layer with shared multipliers, a serial and a sparse one, of as many weights whatever the seed."""
    rng = np.random.default_rng(seed)
    x = Input(Tensor("x", (6,), X))
    ops: list[Op] = [x]

    def dense(weight: Codes, reuse: int) -> Dense:
        bias = Const(rng.integers(-16, 16, size=len(weight)), BIAS)
        return exact_dense(f"fc{len(ops)}", ops[-1].output, Const(weight, WEIGHT), bias, tuple(ops), reuse)

    ops.append(dense(weights(rng, (4, 6), 3, pruned), 3))
    ops.append(dense(weights(rng, (6, 4), 8, pruned), 8))
    few = rng.integers(1, 16, size=(5, 6))
    few.ravel()[rng.permutation(30)[:11]] = 0
    ops.append(SparseDense.of(dense(few, 1), 7))
    return Graph("net", tuple(ops), (ops[-1].output,)).verify()


def test_weights_that_are_loaded_need_no_multiplier_to_be_pruned_nor_any_order(tmp_path: Path) -> None:
    """The design of a pruned network computes with one that is not, and with sparse weights at other places."""
    design, other = for_any_weights(chain(0, pruned=True)), chain(5, pruned=False)
    first, second = (
        CATAPULT.render(graph, weights="reloadable", effort=0) for graph in (design, loaded(design, other))
    )
    data = {path: text for path, text in second.files.items() if path.startswith("tb/")}
    assert all(text == second.files[path] for path, text in first.files.items() if not path.startswith(("tb/", "ver")))
    swapped = Project("net", "catapult", {**first.files, **data})
    for number, project in enumerate((first, swapped)):
        assert bench(project, tmp_path / str(number)).returncode == 0


@pytest.mark.parametrize("reuse", [2, 4, 8, 24])
def test_pruned_multipliers_are_gone_from_the_design_and_from_the_estimate(reuse: int) -> None:
    x = Input(Tensor("x", (4,), X))
    bias = Const(np.zeros(6, dtype=int), BIAS)
    full = Const(np.where(np.arange(24) % 2, 3, -5).reshape(6, 4), WEIGHT)
    columns = by_step(np.arange(24).reshape(6, 4), reuse).T
    for gone in range(len(columns)):
        codes = np.where(np.isin(np.arange(24).reshape(6, 4), columns[:gone]), 0, full.codes)
        op = exact_dense("fc", x.output, Const(codes, WEIGHT), bias, (x,), reuse)
        made = estimate_op(op, Target())
        assert made is not None
        (step,) = (step for step in Firmware(Graph("net", (x, op), (op.output,))) if step.y.name == "fc")
        assert step.tables["weight"].shape == (reuse, len(columns) - gone)
        assert made.multipliers == len(columns) - gone and made.memory_bits == made.multipliers * reuse * 5
        call = VITIS.render(Graph("net", (x, op), (op.output,))).files["firmware/net.cpp"]
        assert ("qapsule::multipliers<" in call) == (gone > 0)
