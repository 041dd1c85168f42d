"""The project for an accelerator card: its text, its options, and its kernel and host program compiled and run.

XRT is not public as headers alone, and there is no card: a stand-in of our own (``standins/xrt``) calls the kernel.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benches import ap_types, bench, compiled, run
from cxx import AP, build
from cxx import run as words_from
from designs import every_op, mlp, samples
from golden_files import assert_golden

from compress.fixed import FixedPoint
from export.backend import BackendError, Project
from export.backends.vitis_accel import VITIS_ACCEL, WORD, Lane
from export.emulation.vendor_headers import ap_include
from export.firmware.design import Port, Signal
from export.ir import Const, Graph, Tensor

needs_ap = pytest.mark.skipif(ap_include() is None, reason="Xilinx's ap_types are not here; install hls4ml")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")


def test_the_project_is_the_one_we_have_read() -> None:
    graph = every_op("tiny")
    options = {"batch": 2, "compute_units": 2, "banks": ("DDR[0]", "DDR[1]")}
    project = VITIS_ACCEL.render(graph, vectors=samples(graph, 3)[0], **options)
    assert_golden("vitis_accel", {p: text for p, text in project.files.items() if not p.startswith("firmware/")})


def test_the_firmware_is_that_of_vitis() -> None:
    from export.backends.vitis import VITIS

    ours, theirs = (b.render(every_op()).files for b in (VITIS_ACCEL, VITIS))
    assert "firmware/qapsule/wide.h" in ours
    for path, text in theirs.items():
        assert not path.startswith("firmware/") or ours[path] == text, path


@needs_ap
@pytest.mark.parametrize(("width", "size"), [(6, 5), (8, 64), (8, 65), (1, 700), (37, 13), (64, 9), (5, 102)])
def test_the_layout_is_the_kernels(width: int, size: int, tmp_path: Path) -> None:
    """Python, which tells the host, and the kernel's header say the same."""
    fmt = FixedPoint(width, 0)
    lane = Lane(Port("x_in", Signal("x", Tensor("x", (size,), fmt))), 0, streams=False)
    source = f"""
#include "qapsule/wide.h"
int main() {{
    using lies = qapsule::layout<{WORD}, {AP.spell(fmt)}, {size}>;
    for (int value : {{lies::per_word, lies::sharing, lies::words, lies::total(1), lies::total(1000)}}) put(value);
}}
"""
    said = words_from(build(source, tmp_path / "layout", AP), np.array([], dtype=np.uint64)).tolist()
    assert said == [lane.per_word, lane.sharing, lane.words, lane.total(1), lane.total(1000)]


def kernel_bench(project: Project, folder: Path) -> subprocess.CompletedProcess[str]:
    """The kernel's own test bench, as ``make csim`` and ``csim_design`` compile it."""
    work, kernel = project.write(folder), f"{project.name}_kernel"
    sources = [f"tb/{kernel}_tb.cpp", f"kernel/{kernel}.cpp", f"firmware/{project.name}.cpp"]
    return run(compiled(work, "bench", sources, "-std=c++14", "-fno-exceptions", *ap_types()))


@needs_ap
@pytest.mark.parametrize("batch", [1, 33, 100, 4096])
def test_the_kernel_computes_any_batch(batch: int, tmp_path: Path) -> None:
    done = kernel_bench(VITIS_ACCEL.render(mlp("net", (4, 3, 2)), batch=batch), tmp_path / "net")
    assert (done.returncode, done.stdout) == (0, "PASSED: 100 samples, 0 mismatches\n")


@needs_ap
def test_samples_of_several_words(tmp_path: Path) -> None:
    project = VITIS_ACCEL.render(mlp("net", (130, 3, 2)), batch=7, vectors=samples(mlp("net", (130, 3, 2)), 17)[0])
    assert "| `x_in` | 8 | 130 | 1 | 64 | 1 | 21 |" in project.files["README.md"]
    assert kernel_bench(project, tmp_path / "net").stdout == "PASSED: 17 samples, 0 mismatches\n"


def flipped(graph: Graph) -> Project:
    """The project with one bit of one weight of the last layer flipped behind its back."""
    dense = graph.ops[-1]
    codes = dense.weight.codes.copy()
    codes[1, 2] ^= 1
    mutant = replace(graph, ops=(*graph.ops[:-1], replace(dense, weight=Const(codes, dense.weight.format))))
    weights = f"firmware/weights/{dense.name}.h"
    files = {**VITIS_ACCEL.render(graph).files, weights: VITIS_ACCEL.render(mutant).files[weights]}
    return Project("net", "vitis_accel", files)


@needs_ap
@pytest.mark.parametrize("whole", [kernel_bench, bench], ids=["kernel", "host"])
def test_one_flipped_bit_of_one_weight_fails_with_a_count(whole, tmp_path: Path) -> None:
    done = whole(flipped(mlp("net", (4, 3, 2))), tmp_path / "net")
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    count = int(last.removeprefix("FAILED: 100 samples, ").removesuffix(" mismatches"))
    assert 0 < count <= 100 and done.stdout.count("fc2_out[1]: got code ") == count


@needs_ap
def test_the_host_program_feeds_batches_to_all_compute_units(tmp_path: Path) -> None:
    done = bench(VITIS_ACCEL.render(mlp("net", (4, 3, 2)), batch=7, compute_units=3), tmp_path / "net")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "PASSED: 100 samples, 0 mismatches")
    program = tmp_path / "net" / "bench"
    again = run(program, "card.xclbin", "data", "5")
    assert again.stdout.startswith("500 samples in ") and "compute units: 3, samples in a batch: 7" in again.stdout
    usage = run(program)
    assert usage.returncode == 2 and usage.stderr.startswith("usage: ")
    for arguments, complaint in (
        (["nowhere.xclbin"], "FAILED: stand-in: no xclbin at nowhere.xclbin"),
        (["card.xclbin", "data", "1", "7"], "FAILED: stand-in: there is one device, 0"),
        (["card.xclbin", "nowhere"], "FAILED: nowhere/x_in.dat does not hold 100 samples"),
    ):
        failed = run(program, *arguments)
        assert failed.returncode == 1 and complaint in failed.stdout + failed.stderr
    (tmp_path / "net" / "card.xclbin").write_text("net_kernel 2")  # a card with fewer copies than the host expects
    assert run(program, "card.xclbin").returncode == 1


@needs_ap
@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_the_half_that_only_vitis_sees_is_c_plus_plus(io: str, tmp_path: Path) -> None:
    """Its macro chooses labels and pragmas; g++ does not know the pragmas, but where they may stand."""
    work = VITIS_ACCEL.render(every_op(), io=io).write(tmp_path / "net")
    flags = ["-std=c++14", "-D__VITIS_HLS__", "-Wno-unused-label", "-Wno-unknown-pragmas", *ap_types()]
    compiled(work, "kernel.o", ["kernel/every_op_kernel.cpp"], *flags, "-c")


def test_bad_options_are_answered_with_what_they_should_be() -> None:
    graph = mlp("net", (4, 3, 2))
    for options, message in (
        ({"platform": "u250; rm -rf ~"}, "platform is a name as `platforminfo -l` lists it, or the path of an .xpfm"),
        ({"platform": "-t"}, "platform is a name"),
        ({"part": "u250"}, "'u250' is not the name of a Xilinx part"),
        ({"clock_ns": 0}, "clock_ns is the clock period"),
        ({"batch": 0}, "batch is a whole number from 1 to 16777216; got 0"),
        ({"batch": 2.0}, "batch is a whole number"),
        ({"batch": True}, "batch is a whole number"),
        ({"compute_units": 61}, "compute_units is a whole number from 1 to 60; got 61"),
        ({"banks": ("DDR",)}, "banks are memories of the platform, such as DDR"),
        ({"banks": "DDR[0]\nsp=x"}, "banks are memories"),
    ):
        with pytest.raises(BackendError, match=message):
            VITIS_ACCEL.render(graph, **options)
    with pytest.raises(BackendError, match="batch=16777216: the samples of x_in take 1073741824 bytes, more than"):
        VITIS_ACCEL.render(mlp("net", (40, 2)), batch=1 << 24)
    with pytest.raises(BackendError, match="x: a packet of 513 elements of 8 bits exceeds the 4096 bits of a stream"):
        VITIS_ACCEL.render(mlp("net", (513, 2)), io="stream")


def test_compute_units_take_the_banks_in_turn() -> None:
    cfg = VITIS_ACCEL.render(mlp("net", (4, 3, 2)), compute_units=3, banks=["HBM[0:3]", "HBM[4]"], clock_ns=3.2).files
    lines = cfg["connectivity.cfg"].splitlines()
    assert "nk=net_kernel:3" in lines
    assert [line for line in lines if line.startswith("sp=")] == [
        "sp=net_kernel_1.x_in:HBM[0:3]", "sp=net_kernel_1.fc2_out:HBM[0:3]",
        "sp=net_kernel_2.x_in:HBM[4]", "sp=net_kernel_2.fc2_out:HBM[4]",
        "sp=net_kernel_3.x_in:HBM[0:3]", "sp=net_kernel_3.fc2_out:HBM[0:3]",
    ]  # fmt: skip
    assert [line for line in lines if "Hz" in line] == [f"freqHz=312500000:net_kernel_{n}" for n in (1, 2, 3)]
    assert "sp=" not in VITIS_ACCEL.render(mlp("net", (4, 3, 2)), compute_units=3).files["connectivity.cfg"]


def dry(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-n", *arguments]
    environment = {"PATH": "/usr/bin:/bin", "XILINX_XRT": "/opt/xrt", "XILINX_HLS": "/opt/hls"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@needs_make
@pytest.mark.parametrize("target", ["sw_emu", "hw_emu", "hw"])
def test_make_builds_kernel_and_host_and_runs_them(target: str, tmp_path: Path) -> None:
    folder = VITIS_ACCEL.render(mlp("net", (4, 3, 2)), platform="my_card").write(tmp_path / "net")
    done = dry(folder, "run", f"TARGET={target}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (compile_it,) = (line for line in lines if " -c -k net_kernel " in line)
    assert compile_it.startswith(f"v++ -t {target} --platform my_card ")
    assert compile_it.endswith(f"-o build/{target}/net_kernel.xo kernel/net_kernel.cpp firmware/net.cpp")
    assert " --hls.clock 200000000:net_kernel " in compile_it
    (link,) = (line for line in lines if " -l --config connectivity.cfg " in line)
    assert link.endswith(f"-o build/{target}/net_kernel.xclbin build/{target}/net_kernel.xo")
    (host,) = (line for line in lines if "host/host.cpp" in line)
    assert '"-I/opt/xrt/include"' in host and host.endswith('"-L/opt/xrt/lib" -lxrt_coreutil -pthread')
    emulated = f"XCL_EMULATION_MODE={target} " if target != "hw" else ""
    assert lines[-1].rstrip() == f"{emulated}build/host build/{target}/net_kernel.xclbin data"
    assert any(line.startswith("emconfigutil --platform my_card") for line in lines) == (target != "hw")


@needs_make
def test_make_refuses_a_target_it_does_not_know(tmp_path: Path) -> None:
    folder = VITIS_ACCEL.render(mlp("net", (4, 3, 2))).write(tmp_path / "net")
    done = dry(folder, "run", "TARGET=emu")
    assert done.returncode == 2 and "TARGET is sw_emu, hw_emu or hw, not emu" in done.stderr


@needs_ap
@needs_make
def test_make_csim_needs_no_card(tmp_path: Path) -> None:
    folder = VITIS_ACCEL.render(mlp("net", (4, 3, 2))).write(tmp_path / "net")
    done = subprocess.run(["make", "csim", f"AP_TYPES={ap_include()}"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("PASSED: 100 samples, 0 mismatches\n"), done.stderr


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not here")
def test_the_kernel_is_synthesised_without_a_platform(tmp_path: Path) -> None:
    from test_backend_vitis import STUBS

    folder = VITIS_ACCEL.render(mlp("net", (4, 3, 2)), part="xczu7ev-ffvc1156-2-e").write(tmp_path / "net")
    stubs = STUBS.replace("ARGV", '{"csim=1 synth=1 cosim=1 export=1"}').replace("build.tcl", "kernel.tcl")
    (folder / "stubs.tcl").write_text(stubs)
    said = subprocess.run(["tclsh", "stubs.tcl"], cwd=folder, capture_output=True, text=True).stdout.splitlines()
    assert "set_top net_kernel" in said and "open_solution -reset -flow_target vitis solution1" in said
    assert "set_part xczu7ev-ffvc1156-2-e" in said
    (sources,) = (line for line in said if line.startswith("add_files {"))
    assert sources == "add_files {kernel/net_kernel.cpp firmware/net.cpp} -cflags -std=c++14"
    assert "add_files -tb tb/net_kernel_tb.cpp -cflags -std=c++14" in said
    assert f"csim_design -argv {folder / 'data'}" in said and f"cosim_design -argv {folder / 'data'}" in said
    assert "export_design -format xo -output net_kernel.xo" in said and said[-1] == "exit 0"
