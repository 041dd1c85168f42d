"""The project for the Intel HLS compiler: its text, its options, and its test bench compiled and run.

Intel's headers are not public: ``HLS/hls.h`` is a stand-in of our own (``standins/intel``), the types are Siemens'.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from benches import STANDINS, ac_types, bench, run
from designs import every_op, mlp, samples
from golden_files import assert_golden

from export.backend import BackendError, Project
from export.backends.intel import INTEL
from export.emulation.vendor_headers import ac_include
from export.ir import Const

needs_ac = pytest.mark.skipif(ac_include() is None, reason="Siemens' ac_types are not here; install hls4ml")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")


def test_the_project_is_the_one_we_have_read() -> None:
    graph = every_op("tiny")
    files = INTEL.render(graph, vectors=samples(graph, 3)[0], part="CycloneV", clock_ns=10).files
    beyond = {path: text for path, text in files.items() if not path.startswith("firmware/")}
    assert_golden("intel", {**beyond, "firmware/types.h": files["firmware/types.h"]})


def test_the_firmware_is_that_of_vitis_but_for_the_types() -> None:
    from export.backends.vitis import VITIS

    ours, theirs = (
        {path: text for path, text in backend.render(every_op()).files.items() if path.startswith("firmware/")}
        for backend in (INTEL, VITIS)
    )
    assert ours.keys() == theirs.keys()
    assert {path for path in ours if ours[path] != theirs[path]} == {"firmware/types.h"}


def test_the_component_takes_a_sample_or_a_stream_of_them() -> None:
    graph = mlp("net", (4, 3, 2))
    parallel, stream = (
        INTEL.render(graph, interface=name).files["component/net_component.h"] for name in ("parallel", "stream")
    )
    assert "hls_component_ii(1)\ncomponent net_outputs net_component(net_inputs sample);" in parallel
    arguments = "ihc::stream_in<net_inputs>& entering, ihc::stream_out<net_outputs>& leaving"
    assert f"hls_component_ii(1)\ncomponent void net_component({arguments});" in stream
    shared = INTEL.render(mlp("net", (4, 3, 2), reuse_factors=(2, 1))).files["component/net_component.h"]
    assert "hls_component_ii" not in shared  # i++ refuses an interval that it cannot reach


@needs_ac
@pytest.mark.parametrize("interface", ["parallel", "stream"])
def test_one_flipped_bit_of_one_weight_fails_with_a_count(interface: str, tmp_path: Path) -> None:
    graph = mlp("net", (4, 3, 2))
    dense = graph.ops[-1]
    codes = dense.weight.codes.copy()
    codes[1, 2] ^= 1
    mutant = replace(graph, ops=(*graph.ops[:-1], replace(dense, weight=Const(codes, dense.weight.format))))
    weights = f"firmware/weights/{dense.name}.h"
    good, bad = (INTEL.render(g, interface=interface).files for g in (graph, mutant))
    done = bench(Project("net", "intel", {**good, weights: bad[weights]}), tmp_path / "net")
    assert done.returncode == 1
    count = int(done.stdout.splitlines()[-1].removeprefix("FAILED: 100 samples, ").removesuffix(" mismatches"))
    assert 0 < count <= 100 and done.stdout.count("fc2_out[1]: got") == count


@needs_ac
def test_vectors_that_end_early_fail(tmp_path: Path) -> None:
    project = INTEL.render(mlp("net", (4, 3, 2)))
    lines = project.files["tb/data/fc2_out.dat"].splitlines(keepends=True)
    short = replace(project, files={**project.files, "tb/data/fc2_out.dat": "".join(lines[:7])})
    done = bench(short, tmp_path / "net")
    assert done.returncode == 1 and "end before sample 8 of 100" in done.stdout
    assert run(tmp_path / "net" / "bench", "nowhere").returncode == 1


@needs_ac
@pytest.mark.parametrize("interface", ["parallel", "stream"])
def test_the_half_that_only_intels_compiler_sees_is_c_plus_plus(interface: str, tmp_path: Path) -> None:
    """Its macro chooses labels and pragmas in every kernel; g++ does not know the pragmas, but where they may stand."""
    work = INTEL.render(every_op(), interface=interface).write(tmp_path / "net")
    flags = ["-std=c++14", "-D__INTELFPGA_COMPILER__", "-Wall", "-Wextra", "-Werror", "-Wno-unused-label",
             "-Wno-unknown-pragmas", "-isystem", str(STANDINS / "intel"), *ac_types()]  # fmt: skip
    for source in ("component/every_op_component.cpp", "firmware/every_op.cpp", "tb/every_op_tb.cpp"):
        command = ["g++", *flags, "-fsyntax-only", source]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:3000]


@pytest.mark.parametrize("part", ["Arria10", "Agilex7", "10AX115N2F45E1SG", "5CSEBA6U23I7", "AGFB014R24A2E2V"])
def test_devices_that_exist_are_taken(part: str) -> None:
    assert f"DEVICE ?= {part}\n" in INTEL.render(mlp("net", (2, 2)), part=part).files["Makefile"]


@pytest.mark.parametrize("part", ["", "arria", "xcvu9p-flga2577-2-e", "Arria10 --clock 1MHz", "$(shell ls)", None, 10])
def test_devices_that_cannot_be_are_answered_with_some_that_can(part: object) -> None:
    with pytest.raises(BackendError, match=r"is not an Intel device; give a family, Agilex, .* or an ordering code"):
        INTEL.render(mlp("net", (2, 2)), part=part)


def test_bad_options_are_answered_with_what_they_should_be() -> None:
    with pytest.raises(BackendError, match="interface is 'parallel' or 'stream'; got 'streams'"):
        INTEL.render(mlp("net", (2, 2)), interface="streams")
    with pytest.raises(BackendError, match="clock_ns is the clock period"):
        INTEL.render(mlp("net", (2, 2)), clock_ns="200MHz")
    with pytest.raises(BackendError, match="the backend intel has no io='stream'; use io='parallel'"):
        INTEL.render(mlp("net", (2, 2)), io="stream")


@needs_make
@pytest.mark.parametrize(
    ("target", "flags", "runs"),
    [
        ("emulate", "-march=x86-64", True),
        ("simulate", "-march=Stratix10 --clock 312.5MHz", True),
        ("report", "-march=Stratix10 --clock 312.5MHz --simulator none", False),
        ("quartus", "-march=Stratix10 --clock 312.5MHz --simulator none --quartus-compile", False),
    ],
)
def test_make_calls_the_compiler(target: str, flags: str, runs: bool, tmp_path: Path) -> None:
    folder = INTEL.render(mlp("net", (4, 3, 2)), part="Stratix10", clock_ns=3.2).write(tmp_path / "net")
    done = subprocess.run(["make", "-n", target], cwd=folder, capture_output=True, text=True)
    sources = "tb/net_tb.cpp component/net_component.cpp firmware/net.cpp"
    expected = ["mkdir -p build", f"i++ {flags} {sources} -o build/{target}"]
    assert done.stdout.splitlines() == expected + [f"build/{target} tb/data"] * runs, done.stderr
    assert all((folder / source).is_file() for source in sources.split())
