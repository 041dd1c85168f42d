"""Vitis projects whose weights are loaded over a bus: their text, and their test bench, which loads other weights."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benches import bench
from designs import conv_net, every_op, lookup_net, mlp, samples
from golden_files import assert_golden
from test_backend_vitis import bench as old_bench
from test_backend_vitis import needs_ap

from compress.fixed import FixedPoint
from export.backend import BackendError, Project
from export.backends.vitis import VITIS
from export.firmware.reload import bus_words, for_any_weights, loaded, rearranged
from export.ir import Const, Graph, GraphError, Op, Tensor
from export.ops import Affine, Input, Modes

SIZES = (4, 3, 2)


def render(graph: Graph, **options: Any) -> Project:
    return VITIS.render(graph, weights="reloadable", **options)


def said(project: Project, folder: Path) -> str:
    """The last line of its test bench."""
    return bench(project, folder).stdout.splitlines()[-1]


@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_the_project_is_the_one_we_have_read(io: str) -> None:
    graph = mlp("tiny", (4, 3, 2), reuse_factors=(2, 1))
    values = samples(graph, 3)[0]
    files = render(graph, io=io, tmr=["fc2"], weight_memory="bram", vectors=values).files
    ours = {path: text for path, text in files.items() if not path.startswith("firmware/qapsule/")}
    assert_golden(f"vitis_reload_{io}", ours)


NETWORKS = {
    "every_op": every_op(),
    "lookup_net": lookup_net(),
    "conv_net": conv_net(),
    "reused": mlp("net", (12, 6, 5), reuse_factors=(4, 6)),
}


@pytest.mark.parametrize(
    ("network", "tmr"),
    [("every_op", False), ("every_op", True), ("lookup_net", True), ("conv_net", False), ("reused", False)],
)  # fmt: skip
@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_the_bits_are_those_of_the_weights_before_and_after_a_load(
    network: str, tmr: bool, io: str, tmp_path: Path
) -> None:
    assert said(render(NETWORKS[network], io=io, tmr=tmr), tmp_path / "net") == "PASSED: 200 samples, 0 mismatches"


@needs_ap
@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_it_is_as_good_for_vivado_hls(io: str, tmp_path: Path) -> None:
    """Which ends at C++11."""
    done = old_bench(render(every_op(), io=io, tmr=["fc"]), tmp_path / "net", standard="c++11")
    assert done.stdout == "PASSED: 200 samples, 0 mismatches\n"


@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_the_bench_loads_what_it_is_given(io: str, tmp_path: Path) -> None:
    design, second = for_any_weights(mlp("net", SIZES)), mlp("net", SIZES, seed=7)
    project = render(design, io=io, reload=second)
    words = [int(word) for word in project.files["tb/data/weights.dat"].split()]
    other = loaded(design, second)
    assert words == np.concatenate(list(bus_words(other, io=io).values())).tolist()
    rows = np.array([line.split() for line in project.files["tb/data/fc2_out.dat"].splitlines()], dtype=int)
    codes = np.array([line.split() for line in project.files["tb/data/x_in.dat"].splitlines()], dtype=int)
    assert np.array_equal(rows[:100], design.eval(codes[:100])) and np.array_equal(rows[100:], other.eval(codes[:100]))
    assert np.array_equal(codes[:100], codes[100:]) and not np.array_equal(rows[:100], rows[100:])
    assert said(project, tmp_path / "net") == "PASSED: 200 samples, 0 mismatches"


def wide() -> Graph:
    """Constants of more than 32 bits."""
    x = Tensor("x", (3,), FixedPoint(8, 4))
    scale, offset = Const([3, -5, 7], FixedPoint(4, 2)), Const([2**40 + 3, -(2**39) - 1, 5], FixedPoint(44, 30))
    y = Tensor("y", (3,), FixedPoint(60, 30))
    return Graph("wide", (Input(x), Affine(y, x, scale, offset, Modes())), (y,)).verify()


@pytest.mark.parametrize("tmr", [False, True], ids=["once", "tmr"])
def test_constants_of_more_than_32_bits_are_loaded_in_halves(tmr: bool, tmp_path: Path) -> None:
    copies = 3 if tmr else 1
    project = render(wide(), tmr=tmr)
    assert "each in two words, the lower half first" in project.files["README.md"]
    assert f"unsigned int y_words[{copies * (3 + 6)}]" in project.files["firmware/wide.h"]
    assert said(project, tmp_path / "net") == "PASSED: 200 samples, 0 mismatches"


def words_changed(project: Project, change: dict[int, int]) -> Project:
    """The project with bits (a mask by place) flipped in the words that its test bench loads."""
    words = [int(word) for word in project.files["tb/data/weights.dat"].split()]
    text = "".join(f"{word ^ change.get(place, 0)}\n" for place, word in enumerate(words))
    return replace(project, files={**project.files, "tb/data/weights.dat": text})


@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_another_bit_in_one_word_fails_after_the_load_only(io: str, tmp_path: Path) -> None:
    project = words_changed(render(mlp("net", SIZES), io=io), {12: 64})  # the highest bit of a bias but one
    done = bench(project, tmp_path / "net")
    failed = {int(number) for number in re.findall(r"^sample (\d+),", done.stdout, flags=re.MULTILINE)}
    assert done.returncode == 1 and failed and min(failed) >= 100


@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_a_bit_that_flips_in_one_copy_after_the_load_changes_nothing(io: str, tmp_path: Path) -> None:
    project = render(mlp("net", SIZES), io=io, tmr=True)
    source = project.files["firmware/net.cpp"]
    load = "        qapsule::reload_copy<24, unsigned char>(fc1_words, fc1_weight_copy2);\n"
    assert load in source

    def flipped(*copies: int) -> Project:
        flips = "".join(f"        fc1_weight_copy{k}[7][0] = fc1_weight_copy{k}[7][0] ^ 16;\n" for k in copies)
        return replace(project, files={**project.files, "firmware/net.cpp": source.replace(load, load + flips)})

    for copy in range(3):
        assert said(flipped(copy), tmp_path / f"copy{copy}").startswith("PASSED")
    assert said(flipped(0, 2), tmp_path / "two").startswith("FAILED")


def test_a_bit_that_flips_on_its_way_into_one_copy_changes_nothing(tmp_path: Path) -> None:
    project = render(mlp("net", SIZES), tmr=["fc1"])
    assert said(words_changed(project, {7: 16, 24 + 3: 1}), tmp_path / "one").startswith("PASSED")
    assert said(words_changed(project, {7: 16, 12 + 7: 16}), tmp_path / "two").startswith("FAILED")


@pytest.mark.parametrize("instead", ["load || true", "load && false"])
@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_a_design_that_loads_always_or_never_fails(io: str, instead: str, tmp_path: Path) -> None:
    """The control."""
    project = render(mlp("net", SIZES), io=io)
    source = project.files["firmware/net.cpp"].replace("if (load) {", f"if ({instead}) {{")
    assert source != project.files["firmware/net.cpp"]
    broken = replace(project, files={**project.files, "firmware/net.cpp": source})
    assert said(broken, tmp_path / "net").startswith("FAILED: 200 samples, ")


def test_words_that_end_early_fail(tmp_path: Path) -> None:
    project = render(mlp("net", SIZES))
    short = project.files["tb/data/weights.dat"].rsplit(maxsplit=1)[0]
    done = bench(replace(project, files={**project.files, "tb/data/weights.dat": short}), tmp_path / "net")
    assert done.returncode == 1 and "tb/data/weights.dat ends before the last word" in done.stdout


def test_every_layer_reads_its_own_words() -> None:
    """No two processes share a table or an argument, which no dataflow region allows."""
    for io in ("parallel", "stream"):
        source = render(mlp("net", (4, 3, 3, 2)), io=io).files["firmware/net.cpp"]
        top = source[source.rindex("\nvoid net(") :]
        assert "QAPSULE_DATAFLOW" in top and "QAPSULE_PIPELINE(1)" not in top
        for layer in ("fc1", "fc2", "fc3"):
            assert f"#pragma HLS INTERFACE s_axilite port={layer}_words bundle=weights\n" in top
            (reader,) = re.findall(rf"\w+\(.*\b{layer}_words\b.*\);", top[top.index("{") :])
            assert reader.endswith(f"{layer}_words, load);")
            loads = [block for block in source.split("\nstatic void ") if f"({layer}_words, {layer}_" in block]
            assert len(loads) == 1
        assert "#pragma HLS INTERFACE s_axilite port=load bundle=weights\n" in top


def named(graph: Graph, names: list[str]) -> Graph:
    """The same with other names of tensors."""
    made: dict[Tensor, Tensor] = {}
    ops: list[Op] = []
    for op, name in zip(graph, names, strict=True):
        made[op.output] = replace(op.output, name=name)
        ops.append(op.moved({t: made[t] for t in (*op.inputs, op.output)}))
    return Graph(graph.name, tuple(ops), tuple(made[t] for t in graph.outputs))


@pytest.mark.parametrize(
    "names",
    [
        ["load", "x", "x_words", "x_layer", "x_weight", "weights", "x_weight_copy0", "loadable"],
        ["weights_file", "load", "load_words", "before", "clear", "words", "control", "qapsule"],
        ['"; #error', "*/", "x\n#error", "\\", "$(exit 1)", "{{ x }}", "??/", "\udc80"],
    ],
    ids=["own", "bench", "hostile"],
)
@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_names_from_any_model_compile(io: str, names: list[str], tmp_path: Path) -> None:
    project = render(named(mlp(names[0], (4, 3, 3, 2)), names), io=io, tmr=[names[1]])
    assert said(project, tmp_path / "net") == "PASSED: 200 samples, 0 mismatches"


def test_the_readme_says_where_the_words_are() -> None:
    readme = render(mlp("My Net", SIZES), tmr=["fc2"]).files["README.md"]
    assert "| `fc1_words` | 12 | 3 | `fc1_bias` | 3 | a code |\n" in readme
    assert "| `fc2_words` | 6 | 6 | `fc2_weight_copy1` | 6 | a code |\n" in readme
    assert "`xmy_net_hw.h`" in readme and "`XMy_net_Set_load`" in readme
    assert "`fc2_words`" not in VITIS.render(mlp("net", SIZES)).files["README.md"]


def test_what_cannot_be_reloaded_is_refused() -> None:
    graph = mlp("net", SIZES)
    with pytest.raises(BackendError, match=r"^net: there is nothing to reload; use weights='reloadable'$"):
        VITIS.render(graph, reload=graph)
    with pytest.raises(BackendError, match=r"^reload is a graph, such as to_graph makes of a network; got 'other'$"):
        render(graph, reload="other")
    with pytest.raises(GraphError, match=r"^x: 5 operations in the design, 8 in the network$"):
        render(graph, reload=mlp("net", (4, 3, 3, 2)))


def test_the_default_is_something_else_to_load() -> None:
    graph = mlp("net", SIZES)
    words = bus_words(rearranged(graph))
    assert all(not np.array_equal(words[name], own) for name, own in bus_words(graph).items())
