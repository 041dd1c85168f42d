"""The Vitis project: its text, its options, and its test bench compiled against the vendor's own types and run."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from designs import chain, every_op, mlp, samples

from compress.fixed import FixedPoint, FixedPointError
from export.backend import BackendError, Project
from export.backends.vitis import VITIS
from export.emulation.vendor_headers import ap_include
from export.firmware.identifiers import _RESERVED
from export.ir import Const, Graph, GraphError, Tensor
from export.ops import Input

GOLDEN = Path(__file__).parent / "golden" / "vitis"
UPDATE = "QAPSULE_UPDATE_GOLDEN"

needs_ap = pytest.mark.skipif(ap_include() is None, reason="Xilinx's ap_types are not here; install hls4ml")


def bench(project: Project, folder: Path, *arguments: str, standard: str = "c++14") -> subprocess.CompletedProcess[str]:
    """Write, compile and run the test bench of a project."""
    work = project.write(folder)
    name = project.name
    flags = [f"-std={standard}", "-fno-exceptions", "-Wall", "-Wextra", "-Werror", "-isystem", str(ap_include())]
    sources = [f"firmware/{name}.cpp", f"tb/{name}_tb.cpp"]
    done = subprocess.run(["g++", *flags, *sources, "-o", "run"], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    return subprocess.run(["./run", *arguments], cwd=work, capture_output=True, text=True)


def test_the_project_is_the_one_we_have_read() -> None:
    """Every line a user gets, reviewed once. ``QAPSULE_UPDATE_GOLDEN=1`` writes what it is now, for review again."""
    graph = every_op("tiny")
    project = VITIS.render(graph, vectors=samples(graph, 3)[0], part="xc7z020clg400-1", clock_ns=4)
    ours = {path: text for path, text in project.files.items() if not path.startswith("firmware/qapsule/")}
    if os.environ.get(UPDATE):
        shutil.rmtree(GOLDEN, ignore_errors=True)
        for path, text in ours.items():
            (GOLDEN / path).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / path).write_text(text)
    expected = {str(p.relative_to(GOLDEN)): p.read_text() for p in GOLDEN.rglob("*") if p.is_file()}
    assert ours.keys() == expected.keys()
    for path, text in ours.items():
        assert text == expected[path], f"{path} changed; read it, then accept it with {UPDATE}=1"


def test_the_kernels_come_along() -> None:
    paths = VITIS.render(mlp("net", (4, 3, 2))).files
    assert {f"firmware/qapsule/{h}.h" for h in ("dense", "relu", "cast", "input", "pragmas", "trace")} <= paths.keys()
    assert not any("emul" in path or "threshold" in path for path in paths)


@needs_ap
@pytest.mark.parametrize("standard", ["c++11", "c++14"])
def test_the_test_bench_compiles_and_passes(tmp_path: Path, standard: str) -> None:
    done = bench(VITIS.render(every_op()), tmp_path / "net", standard=standard)
    assert (done.returncode, done.stdout) == (0, "PASSED: 100 samples, 0 mismatches\n")


@needs_ap
def test_one_flipped_bit_of_one_weight_fails_with_a_count(tmp_path: Path) -> None:
    graph = mlp("net", (4, 3, 2))
    dense = graph.ops[-1]
    flipped = dense.weight.codes.copy()
    flipped[1, 2] ^= 1
    broken = replace(dense, weight=Const(flipped, dense.weight.format))
    mutant = replace(graph, ops=(*graph.ops[:-1], broken))
    weights = f"firmware/weights/{dense.name}.h"
    files = {**VITIS.render(graph).files, weights: VITIS.render(mutant).files[weights]}
    done = bench(Project("net", "vitis", files), tmp_path / "net")
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    count = int(last.removeprefix("FAILED: 100 samples, ").removesuffix(" mismatches"))
    assert 0 < count <= 100 and done.stdout.count("fc2_out[1]: got") == count


@needs_ap
def test_vectors_that_end_early_fail(tmp_path: Path) -> None:
    project = VITIS.render(mlp("net", (4, 3, 2)))
    lines = project.files["tb/data/fc2_out.dat"].splitlines(keepends=True)
    short = replace(project, files={**project.files, "tb/data/fc2_out.dat": "".join(lines[:7])})
    done = bench(short, tmp_path / "net")
    assert done.returncode == 1 and "end before sample 8 of 100" in done.stdout
    assert bench(project, tmp_path / "whole", "nowhere").returncode == 1


@needs_ap
def test_names_from_any_model_compile(tmp_path: Path) -> None:
    hostile = ['"); system("x', "a\n#error no", "*/", "// \\", "??/", "%:include", "{{ x }}", "{% raw %}", "\udc80"]
    names = sorted(_RESERVED | {"main", "EOF", "INT_MAX", "ap_int", "x", "X", "x_t", "x_2", "read", "samples", "fc.1"})
    graph = chain('main"); //\n', hostile + names, size=1)
    done = bench(VITIS.render(graph), tmp_path / "net")
    assert (done.returncode, done.stdout) == (0, "PASSED: 100 samples, 0 mismatches\n")


@needs_ap
def test_wide_numbers_pass_through_the_vectors(tmp_path: Path) -> None:
    tensors = [Tensor("a", (2,), FixedPoint(64, 3)), Tensor("b", (1,), FixedPoint(64, 70, signed=False))]
    graph = Graph("wide", tuple(Input(t) for t in tensors), tuple(tensors))
    project = VITIS.render(graph)
    assert project.files["tb/data/b_in.dat"].splitlines()[1] == "-1"
    assert bench(project, tmp_path / "net").stdout == "PASSED: 100 samples, 0 mismatches\n"


def test_generated_vectors_reach_both_ends_of_every_input() -> None:
    graph = every_op()
    rows = [line.split() for line in VITIS.render(graph).files["tb/data/x_in.dat"].splitlines()]
    codes = np.array(rows, dtype=int)
    assert len(codes) == 100
    for element in codes.T:
        assert element.min() == -64 and element.max() == 63 and len(set(element)) > 30
    assert {code % 2 for code in codes.ravel()} == {0, 1}


def test_given_vectors_are_rounded_as_the_input_says_and_expected_from_the_graph() -> None:
    graph = mlp("net", (4, 3, 2))
    values = samples(graph, 9)[0]
    files = VITIS.render(graph, vectors=values).files
    codes = graph.inputs[0].encode(values)
    for path, expected in (("tb/data/x_in.dat", codes), ("tb/data/fc2_out.dat", graph.eval(codes))):
        assert [[int(c) for c in line.split()] for line in files[path].splitlines()] == expected.tolist()


def test_bad_vectors_are_refused_by_name() -> None:
    graph = mlp("net", (4, 3, 2))
    with pytest.raises(BackendError, match="net: 1 inputs, vectors for 2"):
        VITIS.render(graph, vectors=(np.zeros((1, 4)), np.zeros((1, 4))))
    with pytest.raises(BackendError, match=r"net: the vectors .* at least one"):
        VITIS.render(graph, vectors=np.zeros((0, 4)))
    with pytest.raises(GraphError, match=r"x: expects samples of shape \(4,\)"):
        VITIS.render(graph, vectors=np.zeros((1, 5)))
    with pytest.raises(FixedPointError, match="NaN"):
        VITIS.render(graph, vectors=np.full((1, 4), np.nan))


@pytest.mark.parametrize(
    "part",
    ["xcvu9p-flga2577-2-e", "xcu250-figd2104-2L-e", "xc7z020clg400-1", "xczu7ev-ffvc1156-2-e", "xcku115-flvb2104-2-i",
     "xcvc1902-vsva2197-2MP-e-S", "xcvu13p-flga2577-2-e", "xq7k325trf900-2"],
)  # fmt: skip
def test_parts_that_exist_are_taken(part: str) -> None:
    assert f"set part {part}\n" in VITIS.render(mlp("net", (2, 2)), part=part).files["build.tcl"]


@pytest.mark.parametrize("part", ["", "vu9p", "10AX115N2F45E1SG", "xcvu9p", "xcvu9p-flga2577-2-e; exec rm", None, 7])
def test_parts_that_cannot_be_are_answered_with_some_that_can(part: object) -> None:
    with pytest.raises(BackendError, match="is not the name of a Xilinx part; known are, for example, xcvu9p-flga2577"):
        VITIS.render(mlp("net", (2, 2)), part=part)


@pytest.mark.parametrize("clock_ns", [0, -5, "5", float("nan"), float("inf"), True])
def test_clocks_that_cannot_be_are_refused(clock_ns: object) -> None:
    with pytest.raises(BackendError, match=r"clock_ns is the clock period in nanoseconds, from 0.1 to 1000; got"):
        VITIS.render(mlp("net", (2, 2)), clock_ns=clock_ns)


def test_the_top_level_pipelines_unless_multipliers_are_shared() -> None:
    def top(graph: Graph) -> str:
        return VITIS.render(graph).files["firmware/net.cpp"]

    full, shared = top(mlp("net", (4, 3, 2))), top(mlp("net", (4, 3, 2), reuse_factors=(2, 1)))
    assert "QAPSULE_PIPELINE(1)" in full and "QAPSULE_DATAFLOW" not in full
    assert "QAPSULE_DATAFLOW" in shared and "QAPSULE_PIPELINE(1)" not in shared
    assert "qapsule::dense_reuse<2>(x, fc1, fc1_weight, fc1_bias);" in shared
    graph = mlp("net", (4, 3, 2), reuse_factors=(2, 1))
    branching = top(replace(graph, outputs=(*graph.outputs, graph.ops[2].output)))
    assert "QAPSULE_DATAFLOW" not in branching and "QAPSULE_PIPELINE(1)" not in branching


STUBS = """
foreach command {open_project set_top add_files open_solution set_part create_clock csim_design csynth_design
                 cosim_design export_design} {
    proc $command args "puts \\"$command \\$args\\""
}
rename exit leave
proc exit code { puts "exit $code"; leave }
set argv {ARGV}
source build.tcl
"""


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not here")
@pytest.mark.parametrize(
    ("argument", "steps"),
    [("", ["csim", "csynth"]), ("csim=0 synth=1 cosim=1 export=1", ["csynth", "cosim", "export"]),
     ("reset=0 csim=0 synth=0", [])],
)  # fmt: skip
def test_the_build_script_takes_the_steps_it_is_told(tmp_path: Path, argument: str, steps: list[str]) -> None:
    folder = VITIS.render(mlp("net", (4, 3, 2)), clock_ns=3.2).write(tmp_path / "net")
    (folder / "stubs.tcl").write_text(STUBS.replace("ARGV", f"-f build.tcl {{{argument}}}"))
    done = subprocess.run(["tclsh", "stubs.tcl"], cwd=folder, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert [line.split("_design")[0] for line in said if "_design" in line] == steps, done.stderr
    reset = [] if "reset=0" in argument else ["-reset"]
    assert said[0].split() == ["open_project", *reset, "net_prj"]
    assert "set_part xcvu9p-flga2577-2-e" in said and "create_clock -period 3.2 -name default" in said
    assert all((folder / line.split()[-3]).is_file() for line in said if line.startswith("add_files"))
    for line in said:
        if line.startswith(("csim", "cosim")):
            assert (Path(line.split()[-1]) / "x_in.dat").is_file()
    assert said[-1] == "exit 0"


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not here")
def test_the_build_script_refuses_a_step_it_does_not_know(tmp_path: Path) -> None:
    folder = VITIS.render(mlp("net", (4, 3, 2))).write(tmp_path / "net")
    (folder / "stubs.tcl").write_text(STUBS.replace("ARGV", "{sinth=1}"))
    done = subprocess.run(["tclsh", "stubs.tcl"], cwd=folder, capture_output=True, text=True)
    assert done.stdout.startswith("ERROR: there is no step sinth; the steps are cosim csim export reset synth\nexit 1")
