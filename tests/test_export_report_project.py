"""The reports of a whole project, where its build script lets the tools put them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from designs import mlp
from vendor_reports import (
    FAILED_COSIMULATION,
    ULTRASCALE_UTILIZATION,
    VITIS_HLS_COSIMULATION,
    VITIS_HLS_TEXT,
    VITIS_HLS_XML,
)

from export import to_hls
from export.reports import ReportError, Span, read_project
from export.reports.summary import summary
from recipes.run import BAD_INPUT, main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path):
    """A design of ours called tiny."""
    folder = tmp_path / "build"
    to_hls(mlp("tiny", (3, 2)), folder)
    return folder


def put(folder: Path, path: str, text: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)


def built(folder: Path) -> None:
    """What the tools leave."""
    reports = "tiny_prj/solution1/syn/report"
    put(folder, f"{reports}/tiny_csynth.xml", VITIS_HLS_XML)
    put(folder, f"{reports}/tiny_csynth.rpt", VITIS_HLS_TEXT)  # the XML goes before it
    put(folder, f"{reports}/csynth.rpt", "an overview of everything, in a format of its own")
    put(folder, f"{reports}/dense_csynth.rpt", VITIS_HLS_TEXT.replace("'tiny'", "'dense'"))
    put(folder, "tiny_prj/solution1/sim/report/tiny_cosim.rpt", VITIS_HLS_COSIMULATION)
    put(folder, "tiny_prj/solution1/impl/report/verilog/tiny_utilization_routed.rpt", ULTRASCALE_UTILIZATION)


def test_the_folders_are_those_of_the_build_script(project):
    script = (project / "build.tcl").read_text()
    assert "set project tiny\n" in script
    assert "open_project {*}$fresh ${project}_prj\n" in script
    assert "open_solution {*}$fresh {*}$flow solution1\n" in script


def test_everything_is_found(project):
    built(project)
    reports = read_project(project)
    assert reports.design == "tiny"
    assert reports.synthesis.path.name == "tiny_csynth.xml" and reports.synthesis.latency == Span(11, 13)
    assert [module.function for module in reports.modules] == ["dense"]
    assert reports.modules[0].latency == Span(37, 41)
    assert reports.cosimulation.passed is True
    assert [report.stage for report in reports.utilization] == ["Routed"]


def test_steps_that_were_not_run_are_none(project):
    put(project, "tiny_prj/solution1/sim/report/tiny_cosim.rpt", FAILED_COSIMULATION)
    reports = read_project(project)
    assert (reports.synthesis, reports.modules, reports.utilization) == (None, (), ())
    assert reports.cosimulation.passed is False


def test_a_kernel_for_a_card_is_found(tmp_path):
    to_hls(mlp("tiny", (3, 2)), tmp_path / "card", backend="vitis_accel")
    assert "set project tiny_kernel\n" in (tmp_path / "card" / "kernel.tcl").read_text()
    solution = "tiny_kernel_prj/solution1"
    put(tmp_path / "card", f"{solution}/syn/report/tiny_csynth.rpt", VITIS_HLS_TEXT)
    put(
        tmp_path / "card", f"{solution}/syn/report/tiny_kernel_csynth.xml", VITIS_HLS_XML.replace("tiny", "tiny_kernel")
    )
    put(tmp_path / "card", f"{solution}/sim/report/tiny_kernel_cosim.rpt", FAILED_COSIMULATION)
    reports = read_project(tmp_path / "card")
    assert reports.synthesis.function == "tiny_kernel" and reports.cosimulation.passed is False
    assert [module.function for module in reports.modules] == ["tiny"]


def test_the_command_prints_them(project, capsys):
    built(project)
    assert main(["report", str(project)]) == 0
    printed = capsys.readouterr().out
    assert printed == summary(read_project(project)) + "\n"
    assert printed.splitlines() == [
        f"tiny: {project}",
        "",
        "estimates of Vitis HLS 2023.1 for xcvu9p-flga2104-2L-e, clock 5.00 ns, 4.37 ns estimated, "
        "too slow with the uncertainty that is asked for",
        "",
        "                latency           ns  interval    LUT     FF   DSP  BRAM18  URAM",
        "--------------------------------------------------------------------------------",
        "tiny              11-13    55.0-65.0       1-2  2,002  1,001    29       4     0",
        "  of the part                                    0.2%   0.0%  0.4%    0.1%  0.0%",
        "  dense           37-41  185.0-205.0     16-17    700    303    10       2     0",
        "Vivado: routed                                    377    212    10       3     0",
        "  of the part                                    0.0%   0.0%  0.1%    0.1%  0.0%",
        "",
        "co-simulation in Verilog: passed, latency 37-41, interval 16-17 cycles",
    ]


def test_the_command_takes_a_file(tmp_path, capsys):
    put(tmp_path, "failed.rpt", FAILED_COSIMULATION)
    assert main(["report", str(tmp_path / "failed.rpt")]) == 0
    assert capsys.readouterr().out == "co-simulation in Verilog: FAILED: the RTL differs from the C++, or did not end\n"
    assert main(["report", str(tmp_path / "nothing")]) == BAD_INPUT
    assert "nothing: cannot be read: No such file" in capsys.readouterr().err


def test_errors_name_the_file_and_the_cure(project, tmp_path):
    with pytest.raises(
        ReportError,
        match=r'build: no tool has written a report yet; run its script, e.g. vitis_hls -f build.tcl "synth',
    ):
        read_project(project)
    with pytest.raises(ReportError, match=r"is no project of qapsule, it has no qapsule\.json"):
        read_project(tmp_path)
    built(project)
    put(project, "tiny_prj/solution1/syn/report/dense_csynth.rpt", VITIS_HLS_COSIMULATION)
    with pytest.raises(ReportError, match=r"dense_csynth\.rpt: report: is not one of synthesis, as its name says"):
        read_project(project)
    put(project, "tiny_prj/solution1/syn/report/dense_csynth.rpt", VITIS_HLS_TEXT[:900])
    with pytest.raises(ReportError, match=r"dense_csynth\.rpt: Latency: "):
        read_project(project)
    (project / "qapsule.json").write_text('{"project": 3}')
    with pytest.raises(ReportError, match=r"qapsule\.json: project: is not there; export the project again"):
        read_project(project)
    (project / "qapsule.json").write_text("{")
    with pytest.raises(ReportError, match=r"qapsule\.json: no complete JSON"):
        read_project(project)


def test_reading_needs_no_torch():
    program = "import sys; sys.modules.update(torch=None, brevitas=None)\nimport export.reports.summary"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)
