"""The Catapult project: its text, its options, its build script, and `make verify` with the tools that are here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from designs import chain, conv_net, every_op, lookup_net, mlp, samples, skip_net

from compress.fixed import FixedPoint, Overflow, Rounding
from export.backend import BackendError, Project
from export.backends.catapult import CATAPULT, mangled
from export.emulation.vendor_headers import ac_include
from export.ir import Const, Graph, Op, Tensor
from export.ops import Cast, Clip, Input, Modes, ReLU
from export.verification import gcov

GOLDEN = Path(__file__).parent / "golden" / "catapult"
UPDATE = "QAPSULE_UPDATE_GOLDEN"

needs_ac = pytest.mark.skipif(ac_include() is None, reason="Siemens' ac_types are not here; install hls4ml")
needs_tcl = pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not here")


def make(folder: Path, *goals: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-s", *goals, f"AC_TYPES={ac_include()}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_project_is_the_one_we_have_read() -> None:
    """Every line a user gets, reviewed once. ``QAPSULE_UPDATE_GOLDEN=1`` writes what it is now, for review again."""
    graph = every_op("tiny")
    project = CATAPULT.render(graph, vectors=samples(graph, 3)[0], clock_ns=4, effort=0)
    left_out = ("firmware/qapsule/", "verify/coverage.py")
    ours = {path: text for path, text in project.files.items() if not path.startswith(left_out)}
    if os.environ.get(UPDATE):
        shutil.rmtree(GOLDEN, ignore_errors=True)
        for path, text in ours.items():
            (GOLDEN / path).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / path).write_text(text)
    expected = {str(p.relative_to(GOLDEN)): p.read_text() for p in GOLDEN.rglob("*") if p.is_file()}
    assert ours.keys() == expected.keys()
    for path, text in ours.items():
        assert text == expected[path], f"{path} changed; read it, then accept it with {UPDATE}=1"


def test_the_report_of_the_coverage_is_the_module_that_is_tested() -> None:
    source = Path(gcov.__file__).read_text()
    assert CATAPULT.render(mlp("net", (2, 2)), effort=0).files["verify/coverage.py"] == source


def test_the_firmware_is_that_of_every_backend_but_for_its_types() -> None:
    from export.backends.vitis import VITIS

    graph = mlp("net", (4, 3, 2))
    ours, theirs = CATAPULT.render(graph).files, VITIS.render(graph).files
    shared = [path for path in ours if path.startswith("firmware/") and path in theirs]
    assert {path for path in shared if ours[path] != theirs[path]} == {"firmware/types.h"}
    assert "firmware/net.cpp" in shared and "firmware/weights/fc1.h" in shared


@needs_ac
@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_verify_reaches_every_line_and_branch(tmp_path: Path, io: str) -> None:
    folder = CATAPULT.render(mlp("net", (6, 5, 3), reuse_factors=(3, 1)), io=io).write(tmp_path / "net")
    for check in ("csim", "sanitize", "coverage"):
        done = make(folder, check)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "samples, 0 mismatches" in done.stdout
    said = done.stdout.splitlines()
    for kind in ("lines", "branches"):
        (line,) = (line for line in said if line.startswith(f"{kind}: "))
        reached, total, proved = (int(word) for word in re.findall(r"\d+", line + " 0")[:3])
        assert reached + proved == total and reached > 30 and proved < 5
    assert "NOT REACHED" not in done.stdout


NETWORKS: dict[str, tuple[Callable[[], Graph], dict[str, Any]]] = {
    "every_op": (every_op, {}),
    "loaded": (lambda: mlp("net", (6, 5, 3), reuse_factors=(3, 15)), {"weights": "reloadable", "tmr": ["fc1"]}),
    "loaded_streams": (conv_net, {"weights": "reloadable", "tmr": ["conv1"], "io": "stream"}),
    "skip_net": (skip_net, {"tmr": True}),
    "conv_net": (conv_net, {"io": "stream"}),
    "lookup_net": (lookup_net, {}),
}


@needs_ac
@pytest.mark.parametrize("network", NETWORKS)
def test_what_the_vectors_do_not_reach_cannot_be_reached(tmp_path: Path, network: str) -> None:
    make_graph, options = NETWORKS[network]
    done = make(CATAPULT.render(make_graph(), **options).write(tmp_path / "net"), "coverage")
    assert done.returncode == 0 and "NOT REACHED" not in done.stdout, done.stdout + done.stderr
    assert "not counted" not in done.stdout


@needs_ac
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("tool", ["cppcheck", "clang-tidy"])
def test_static_analysis_finds_nothing(tmp_path: Path, tool: str, network: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not here; pip install {tool}")
    make_graph, options = NETWORKS[network]
    graph = make_graph()
    folder = CATAPULT.render(graph, effort=0, **options).write(tmp_path / "net")
    done = make(folder, tool)
    assert done.returncode == 0, done.stdout + done.stderr
    # The tool looks, and its status is that of the check.
    top = folder / "catapult" / f"{graph.name}_channels.cpp"
    top.write_text(top.read_text() + "int last() { int a[2] = {1, 2}; return a[2]; }\n")
    done = make(folder, tool)
    assert done.returncode != 0 and "a[2]" in done.stdout + done.stderr


@needs_ac
def test_verify_says_by_name_what_it_could_not_do(tmp_path: Path) -> None:
    folder = CATAPULT.render(chain("net", ["a", "b"]), effort=0).write(tmp_path / "net")
    absent = ["CPPCHECK=no-such-tool", "CLANG_TIDY=no-such-tidy"]
    done = make(folder, "verify", *absent)
    assert done.returncode != 0 and "NOT DONE: cppcheck clang-tidy" in done.stdout
    assert "no-such-tidy is not installed: pip install clang-tidy, or apt" in done.stdout
    assert "FAILED" not in done.stdout and "PASSED: csim" not in done.stdout
    assert make(folder, "verify", *absent, "ALLOW_MISSING=1").returncode == 0
    none = subprocess.run(["make", "-s", "verify", "AC_TYPES=/nowhere"], cwd=folder, capture_output=True, text=True)
    assert none.returncode != 0 and "NOT DONE: csim sanitize coverage cppcheck clang-tidy" in none.stdout
    assert "no ac_fixed.h in AC_TYPES=/nowhere" in none.stdout


@needs_ac
def test_a_wrong_bit_fails_verify(tmp_path: Path) -> None:
    graph = mlp("net", (4, 3, 2))
    dense = graph.ops[-1]
    flipped = dense.weight.codes.copy()
    flipped[1, 2] ^= 1
    mutant = replace(graph, ops=(*graph.ops[:-1], replace(dense, weight=Const(flipped, dense.weight.format))))
    weights = f"firmware/weights/{dense.name}.h"
    files = {**CATAPULT.render(graph).files, weights: CATAPULT.render(mutant).files[weights]}
    folder = Project("net", "catapult", files).write(tmp_path / "net")
    done = make(folder, "verify", "CHECKS=csim")
    assert done.returncode != 0 and "FAILED: csim" in done.stdout and "fc2_out[1]: got" in done.stdout


@needs_ac
def test_vectors_that_reach_too_little_fail_the_coverage(tmp_path: Path) -> None:
    graph = mlp("net", (4, 3, 2))
    project = CATAPULT.render(graph)
    files = dict(project.files)
    for path in ("tb/data/x_in.dat", "tb/data/fc2_out.dat"):  # one sample, again and again
        lines = files[path].splitlines(keepends=True)
        files[path] = lines[-1] * len(lines)
    done = make(replace(project, files=files).write(tmp_path / "net"), "coverage")
    assert done.returncode != 0 and "NOT REACHED: firmware/qapsule/numbers.h" in done.stdout


def rectified(*lows: int) -> Graph:
    """Numbers limited from below, then rectified: all relus are of one type, which is not that of the limits."""
    fmt = FixedPoint(5, 1)
    x = Tensor("x", (2,), fmt)
    ops: list[Op] = [Input(x)]
    for low in lows:
        limits = Const([low, low], fmt), Const([9, 12], fmt)
        ops.append(Clip(Tensor(f"clip {low}", (2,), fmt), x, *limits))
        ops.append(Cast(Tensor(f"cast {low}", (2,), FixedPoint(6, 1)), ops[-1].output, Modes()))
        ops.append(ReLU(Tensor(f"relu {low}", (2,), FixedPoint(5, 1, signed=False)), ops[-1].output))
    return Graph("net", tuple(ops), tuple(op.output for op in ops[3::3])).verify()


@needs_ac
def test_what_is_proved_unreachable_is_told_with_its_reason(tmp_path: Path) -> None:
    project = CATAPULT.render(rectified(2))
    never = '"relu 2": x > 0 fails: unreachable by interval arithmetic in 2 of 2: 0, 1'
    assert never in project.files["verify/comparisons.txt"]
    done = make(project.write(tmp_path / "net"), "coverage")
    assert done.returncode == 0, done.stdout
    assert "1 proved unreachable" in done.stdout and "where the comparison failed" in done.stdout
    assert 'none of these fails: "relu 2": x > 0' in done.stdout


def test_what_one_layer_excludes_is_not_excused_in_another_of_its_type() -> None:
    kind = mangled(FixedPoint(6, 1), Modes())
    alone, beside = (json.loads(CATAPULT.render(g).files["verify/comparisons.json"])["select"][kind]
                     for g in (rectified(2), rectified(2, -3)))  # fmt: skip
    assert alone["held"] is None and alone["failed"].endswith('"relu 2": x > 0')
    assert beside == {"held": None, "failed": None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"library": "nangate; exec rm"}, "library is a name of letters"),
        ({"vendor": ""}, "vendor is a name of letters"),
        ({"memories": ("good", "[exec ls]")}, r"memories\[1\] is a name"),
        ({"weight_memory": "a b"}, "weight_memory is a name"),
        ({"clock_ns": 0}, "clock_ns is the clock period"),
        ({"effort": -1}, "effort scales the search for vectors"),
        ({"effort": True}, "effort scales the search for vectors"),
        ({"part": "xc7z020clg400-1"}, "the backend catapult has no option 'part'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        CATAPULT.render(mlp("net", (2, 2)), **options)


STUBS = """
foreach command {solution options flow go} {
    proc $command args "puts \\"$command \\$args\\""
}
proc directive {verb place args} {
    if {[string match */core/fc* $place] || $place eq "set"} { error "no such path" }
    puts "directive $verb $place $args"
}
rename exit leave
proc exit code { puts "exit $code"; leave }
source build.tcl
"""


def build(project: Project, folder: Path, steps: str | None) -> list[str]:
    """What the build script asks Catapult to do."""
    work = project.write(folder)
    (work / "stubs.tcl").write_text(STUBS)
    environment = {k: v for k, v in os.environ.items() if k != "QAPSULE_STEPS"}
    if steps is not None:
        environment["QAPSULE_STEPS"] = steps
    done = subprocess.run(["tclsh", "stubs.tcl"], cwd=work, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_tcl
@pytest.mark.parametrize(
    ("steps", "flows", "last"),
    [(None, ["Verify_orig_cxx_osci"], "extract"), ("synth cosim", ["Verify_rtl_v_msim"], "extract"),
     ("csim", ["Verify_orig_cxx_osci"], "compile")],
)  # fmt: skip
def test_the_build_script_takes_the_steps_it_is_told(
    tmp_path: Path, steps: str | None, flows: list[str], last: str
) -> None:
    said = build(CATAPULT.render(mlp("net", (4, 3, 2)), clock_ns=3.2, effort=0), tmp_path / "net", steps)
    assert [line.split("/")[-1].split(".mk")[0] for line in said if "launch_make" in line] == flows
    assert [line for line in said if line.startswith("go ")][-1] == f"go {last}"
    files = [line.split()[3] for line in said if line.startswith("solution file add")]
    assert len(files) == 3 and all(Path(file).is_file() for file in files)
    assert said[-1] == "exit 0"
    if last == "extract":
        assert any("-CLOCK_PERIOD 3.2 " in line for line in said)
        assert "directive set /net_channels/core/main -PIPELINE_INIT_INTERVAL 1" in said
        libraries = [line for line in said if line.startswith("solution library add")]
        assert libraries[0].endswith("nangate-45nm_beh -- -rtlsyntool DesignCompiler -vendor Nangate -technology 045nm")


@needs_tcl
def test_the_build_script_refuses_a_step_it_does_not_know(tmp_path: Path) -> None:
    said = build(CATAPULT.render(mlp("net", (2, 2)), effort=0), tmp_path / "net", "synth sinth")
    assert said == ["ERROR: there is no step sinth; the steps are csim synth cosim", "exit 1"]


@needs_tcl
def test_shared_weights_go_where_they_are_told(tmp_path: Path) -> None:
    graph = mlp("net", (4, 3, 2), reuse_factors=(2, 1))
    said = build(CATAPULT.render(graph, effort=0), tmp_path / "logic", "synth")
    assert "directive set /net_channels/fc1_weight.rom:rsc -MAP_TO_MODULE {[Register]}" in said
    assert not any("PIPELINE_INIT_INTERVAL" in line or "fc2_weight" in line for line in said)
    said = build(CATAPULT.render(graph, effort=0, weight_memory="my_roms.rom_2x36"), tmp_path / "rom", "synth")
    assert "directive set /net_channels/fc1_weight.rom -WORD_WIDTH 36" in said
    assert "directive set /net_channels/fc1_weight.rom:rsc -MAP_TO_MODULE my_roms.rom_2x36" in said


@needs_tcl
def test_each_copy_of_protected_weights_has_its_own_registers(tmp_path: Path) -> None:
    graph = mlp("net", (4, 3, 2), reuse_factors=(2, 1))
    project = CATAPULT.render(graph, effort=0, tmr=["fc1"], weight_memory="my_roms.rom_2x36")
    said = build(project, tmp_path / "net", "synth")
    for table in ("fc1_weight", "fc1_bias"):
        for copy in range(3):
            assert f"directive set /net_channels/{table}_copy{copy}.rom:rsc -MAP_TO_MODULE {{[Register]}}" in said
    assert not any("my_roms" in line or "fc2" in line for line in said)
    assert 'Constants are stored three times: "fc1".' in project.files["README.md"]


@needs_ac
def test_names_from_any_model_compile(tmp_path: Path) -> None:
    hostile = ['"); system("x', "a\n#error no", "*/", "// \\", "??/", "{{ x }}", "{% raw %}", "$(exit 1)", "\udc80"]
    names = ["main", "read", "copy", "differences", "samples", "folder", "argc", "x", "x_values", "element", "ports"]
    project = CATAPULT.render(chain("$(error no)'; exit 1 #\n", hostile + names, size=1), effort=0)
    done = make(project.write(tmp_path / "net"), "csim")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_ac
def test_types_are_named_as_the_compiler_names_them(tmp_path: Path) -> None:
    source = "#include <ac_fixed.h>\n#include <cstdio>\n#include <typeinfo>\nint main() {\n"
    expected = []
    formats = FixedPoint(6, 2), FixedPoint(3, 7, signed=False), FixedPoint(8, -4)
    for fmt, rounding, overflow in product(formats, Rounding, Overflow):
        modes = f"AC_{rounding.value}, AC_{overflow.value}"
        spelled = f"ac_fixed<{fmt.width}, {fmt.integer}, {str(fmt.signed).lower()}, {modes}>"
        source += f"std::puts(typeid({spelled}).name());\n"
        expected.append(mangled(fmt, Modes(rounding, overflow)))
    (tmp_path / "names.cpp").write_text(source + "}\n")
    command = ["g++", "-std=c++14", "-isystem", str(ac_include()), "names.cpp", "-o", "names"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(["./names"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected
