"""Weights that are loaded while the design runs: other words give the other network's bits, and nothing else."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benches import bench
from designs import chain, conv_net, every_op, exact_dense, lookup_net, mlp, samples

from compress.fixed import FixedPoint, Overflow, Rounding
from export.backend import Backend, BackendError, Project
from export.backends.catapult import CATAPULT
from export.backends.emulator import EMULATOR
from export.backends.intel import INTEL
from export.backends.vitis import VITIS
from export.backends.vitis_accel import VITIS_ACCEL
from export.firmware.reload import bus_words, for_any_weights, loaded, packed_words, rearranged
from export.ir import Const, Graph, GraphError, Tensor
from export.ops import Conv, Dense, Input, Modes, Rearrange, SparseConv, SparseDense

SIZES = (4, 3, 2)


def data(project: Project, *, weights: bool) -> dict[str, str]:
    """The words of a project's network, or the vectors of its test bench."""
    return {p: text for p, text in project.files.items() if p.startswith("tb/") and ("weights.dat" in p) is weights}


def ran(project: Project, folder: Path) -> subprocess.CompletedProcess[str]:
    done = bench(project, folder)
    assert done.stdout.splitlines()[-1].split()[0] in ("PASSED:", "FAILED:"), done.stdout + done.stderr
    return done


@pytest.mark.parametrize("io", ["parallel", "stream"])
@pytest.mark.parametrize(("tmr", "reuse"), [(False, ()), (True, ()), (["fc2"], (2, 1))], ids=str)
def test_other_words_make_it_the_other_network(
    tmp_path: Path, tmr: bool | list[str], reuse: tuple[int, ...], io: str
) -> None:
    design, second = for_any_weights(mlp("net", SIZES, reuse_factors=reuse)), mlp("net", SIZES, 7, reuse)
    first, other = (
        CATAPULT.render(g, weights="reloadable", tmr=tmr, io=io, effort=0) for g in (design, loaded(design, second))
    )
    source = [p for p in first.files if not p.startswith(("tb/", "verify/"))]
    assert all(first.files[p] == other.files[p] for p in source), "only data may differ"
    assert not any(p.startswith("firmware/weights") for p in first.files)
    assert ran(first, tmp_path / "first").returncode == 0
    assert ran(other, tmp_path / "other").returncode == 0
    mixed = replace(first, files={**first.files, **data(other, weights=True)})
    assert ran(mixed, tmp_path / "mixed").returncode == 1
    swapped = replace(mixed, files={**mixed.files, **data(other, weights=False)})
    assert ran(swapped, tmp_path / "swapped").returncode == 0


def test_the_reloaded_graph_is_the_other_network() -> None:
    design, second = for_any_weights(mlp("net", (16, 8, 5))), mlp("net", (16, 8, 5), seed=3)
    codes = second.inputs[0].encode(samples(second, 200)[0])
    reloaded = loaded(design, second)
    unit = reloaded.outputs[0].format.frac - second.outputs[0].format.frac
    assert np.array_equal(reloaded.eval(codes), second.eval(codes) * 2**unit)
    assert not np.array_equal(design.eval(codes), reloaded.eval(codes))


def test_the_accumulators_hold_the_extreme_weights_and_no_more() -> None:
    design = for_any_weights(mlp("net", SIZES))
    dense = next(op for op in design if isinstance(op, Dense))
    for sign in (-1, 1):
        full = {
            name: Const(np.full(c.shape, c.format.min_code if sign < 0 else c.format.max_code), c.format)
            for name, c in dense.constants.items()
        }
        extreme = replace(dense, **full)
        low, high = extreme.partial_sums(design.bounds[dense.x]).range
        assert dense.output.format.min_code <= low and high <= dense.output.format.max_code
    narrower = FixedPoint(dense.output.format.width - 1, dense.output.format.frac)
    everything = [a * b for a in (-128, 127) for b in (-32, 31)]
    assert 4 * max(everything) + 127 * 2**3 > narrower.max_code


def test_the_words_are_codes_cut_off_at_their_width() -> None:
    graph = mlp("net", SIZES)
    words = packed_words(graph, tmr=["fc1"])
    copies = [f"fc1_{table}_copy{k}" for table in ("weight", "bias") for k in range(3)]
    assert list(words) == [*copies, "fc2_weight", "fc2_bias"]
    dense = graph.ops[-1]
    assert isinstance(dense, Dense)
    assert words["fc2_weight"].tolist() == [[int(code) % 64] for code in dense.weight.codes.ravel()]
    assert words["fc2_bias"].tolist() == [[int(code) % 256] for code in dense.bias.codes]
    text = CATAPULT.render(graph, weights="reloadable", tmr=["fc1"], effort=0).files["tb/data/weights.dat"]
    assert [int(w) for w in text.split()] == [int(w) for each in words.values() for w in each.ravel()]


def test_every_op_can_be_loaded(tmp_path: Path) -> None:
    project = CATAPULT.render(every_op(), weights="reloadable", tmr=["fc"], effort=0)
    assert ran(project, tmp_path / "net").returncode == 0
    sparse = next(op for op in every_op() if isinstance(op, SparseDense))
    words = packed_words(every_op())["sparse_entries"]
    places = sorted(zip(sparse.cols, sparse.rows, strict=True))
    assert [(col, row) for row, col, _ in words.tolist()] == places


def test_words_that_end_early_fail(tmp_path: Path) -> None:
    project = CATAPULT.render(mlp("net", SIZES), weights="reloadable", effort=0)
    short = project.files["tb/data/weights.dat"].rsplit(maxsplit=1)[0]
    done = ran(replace(project, files={**project.files, "tb/data/weights.dat": short}), tmp_path / "net")
    assert done.returncode == 1 and "tb/data/weights.dat ends before the last word" in done.stdout


def changed(seed: int = 0, **fields: Const) -> Graph:
    """A small network with other constants in its last layer, and an accumulator for whatever they are."""
    graph = mlp("net", SIZES, seed)
    wide = replace(graph.ops[-1].output, format=FixedPoint(40, 12))
    return replace(graph, ops=(*graph.ops[:-1], replace(graph.ops[-1], output=wide, **fields)), outputs=(wide,))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (mlp("net", (4, 3, 3, 2)), "x: 5 operations in the design, 8 in the network"),
        (mlp("net", (4, 5, 2)), r"fc1: the design has Dense of shape \(3,\) here, the network fc1: Dense of shape \("),
        (changed(bias=Const([300, 0], FixedPoint(10, 7))), "fc2: bias is stored as fixed<8,1>, the network's fixed<10"),
        (changed(weight=Const([[1] * 3] * 2, FixedPoint(2, 6))),
         "fc2: weight is stored as fixed<6,1>, the network's is fixed<2,-4> and uses the bits between"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(other: Graph, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        loaded(for_any_weights(mlp("net", SIZES)), other)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("act1", {"output": FixedPoint(6, 2, signed=False)},
         "act1: makes ufixed<6,3> in the design, ufixed<6,4> in the network; quantize both alike, with constant"),
        ("act1", {"modes": Modes(Rounding.RND, Overflow.SAT)}, "act1: modes is .*RND_CONV.* in the design, .*RND.* in"),
        ("x", {"modes": Modes(Rounding.TRN, Overflow.SAT)}, "x: modes is "),
    ],
)  # fmt: skip
def test_another_quantization_is_refused(name: str, fields: dict[str, object], message: str) -> None:
    """It would compute, and something else."""
    graph, made, ops = mlp("net", SIZES, seed=4), {}, []
    for op in graph:
        own = dict(fields) if op.name == name else {}
        fmt = own.pop("output", op.output.format)
        made[op.output] = replace(op.output, format=fmt)
        ops.append(op.moved({t: made[t] for t in (*op.inputs, op.output)}, **own))
        if isinstance(op, Dense) and op.name == "fc2":
            made[op.output] = replace(op.output, format=FixedPoint(40, 12))
            ops[-1] = op.moved({t: made[t] for t in (*op.inputs, op.output)})
    other = Graph("net", tuple(ops), (made[graph.outputs[0]],))
    with pytest.raises(GraphError, match=message):
        loaded(for_any_weights(mlp("net", SIZES)), other)


def test_coarser_numbers_are_stored_with_more_zeros() -> None:
    coarse = loaded(for_any_weights(mlp("net", SIZES)), changed(weight=Const([[1, -2, 3]] * 2, FixedPoint(3, 3))))
    assert packed_words(coarse)["fc2_weight"].ravel().tolist() == [4, 64 - 8, 12] * 2


def test_sums_that_leave_the_accumulators_are_refused() -> None:
    heavy = changed(weight=Const(np.full((2, 3), -32), FixedPoint(6, 5)))
    with pytest.raises(GraphError, match=r"fc2: partial sums reach .*, the accumulator is .*; widen it"):
        loaded(mlp("net", SIZES), heavy)


def test_what_cannot_follow_any_weights_is_refused() -> None:
    with pytest.raises(GraphError, match="Threshold follows accumulators that hold any weights"):
        for_any_weights(every_op())


@pytest.mark.parametrize("backend", [VITIS_ACCEL, INTEL, EMULATOR], ids=lambda backend: backend.name)
def test_backends_without_them_name_those_that_have_them(backend: Backend) -> None:
    graph = mlp("net", SIZES)
    message = (
        f"^the backend {backend.name} has no weights='reloadable'; use the backend vitis or catapult, or constant "
        "weights$"
    )
    with pytest.raises(BackendError, match=message):
        backend.render(graph, weights="reloadable")
    with pytest.raises(ValueError, match="there are no weights='loaded'; choose 'constant' or 'reloadable'"):
        CATAPULT.render(graph, weights="loaded")


def test_words_on_a_bus_are_those_of_each_layer_in_a_row() -> None:
    graph = mlp("net", SIZES)
    words = packed_words(graph, tmr=["fc1"])
    on_bus = bus_words(graph, tmr=["fc1"])
    assert list(on_bus) == ["fc1_words", "fc2_words"]
    for layer, found in on_bus.items():
        expected = [word for name, each in words.items() if name[:3] == layer[:3] for word in each.ravel().tolist()]
        assert found.dtype == np.uint32 and found.tolist() == expected


def test_a_code_beyond_32_bits_is_two_words_on_a_bus() -> None:
    wide = changed(bias=Const([-(2**35), 5], FixedPoint(37, 12)))
    words = bus_words(wide)["fc2_words"].tolist()
    assert words[6:] == [0, 2**37 - 2**35 >> 32, 5, 0]


def test_streams_take_the_words_in_an_order_of_their_own() -> None:
    """The layer that flattens multiplies packet by packet."""
    graph = conv_net(reuse_factors=(1, 1))
    flat, whole = (bus_words(graph, io=io)["fc_words"] for io in ("stream", "parallel"))
    assert sorted(flat.tolist()) == sorted(whole.tolist())


def test_weights_of_convolutions_come_with_their_zeros() -> None:
    """Another network has them elsewhere."""
    graph = conv_net()
    conv = next(op for op in graph if isinstance(op, Conv))
    words = packed_words(graph)["conv1_weight"].ravel()
    assert words.tolist() == [int(code) % 32 for code in conv.matrix.T.ravel()] and 0 in words


def test_a_convolution_wired_for_its_weights_is_refused() -> None:
    graph = conv_net()
    ops = tuple(SparseConv.of(op) if isinstance(op, Conv) else op for op in graph)
    with pytest.raises(GraphError, match=r"^conv1: is wired for the weights that it has now, reloadable ones may be"):
        CATAPULT.render(replace(graph, ops=ops), weights="reloadable", effort=0)


@pytest.mark.parametrize("graph", [mlp("net", SIZES), every_op(), conv_net(), lookup_net()], ids=lambda g: g.name)
def test_rearranged_constants_are_legal_and_give_something_else(graph: Graph) -> None:
    other = rearranged(graph)
    codes = graph.inputs[0].encode(samples(graph, 100)[0])
    assert not np.array_equal(graph.eval(codes), other.eval(codes))
    for op, turned in zip(graph, other, strict=True):
        assert op.output == turned.output
        for name, const in op.constants.items():
            assert sorted(const.codes.ravel().tolist()) == sorted(turned.constants[name].codes.ravel().tolist())


def test_what_may_not_be_rearranged_stays() -> None:
    """The second layer reads the small one of two sums, and has no bits for the large one."""
    x = Input(Tensor("x", (2,), FixedPoint(8, 5)))
    none = Const([0, 0], FixedPoint(8, 7))
    first = exact_dense("fc1", x.output, Const([[31, 0], [0, 1]], FixedPoint(6, 5)), none, (x,))
    small = Rearrange(Tensor("small", (2,), first.output.format), first.output, (1, 1))
    ops = (x, first, small)
    second = exact_dense("fc2", small.output, Const([[3, 5], [7, 2]], FixedPoint(6, 5)), none, ops)
    other = rearranged(Graph("net", (*ops, second), (second.output,)).verify())
    assert other.ops[:3] == ops
    assert other.ops[3].constants["weight"].codes.tolist() == [[2, 7], [5, 3]]


@pytest.mark.parametrize("backend", [CATAPULT, VITIS], ids=lambda backend: backend.name)
def test_a_design_without_constants_has_nothing_to_reload(backend: Backend) -> None:
    with pytest.raises(GraphError, match=r"^none: no layer has constants, there is nothing to reload"):
        backend.render(chain("none", ["x", "y"]), weights="reloadable")
