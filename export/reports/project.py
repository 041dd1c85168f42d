"""All reports of a project of ours, where its build script lets the tools put them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from export.reports import cosimulation, synthesis, utilization
from export.reports.figures import Cosimulation, Report, Synthesis, Utilization
from export.reports.source import ReportError, Source


@dataclass(frozen=True)
class ProjectReports:
    """What the tools have said of one design; None and nothing for a step that was not run.

    ``modules`` are the functions below the top-level one, by name.
    """

    folder: Path
    design: str
    synthesis: Synthesis | None
    modules: tuple[Synthesis, ...]
    cosimulation: Cosimulation | None
    utilization: tuple[Utilization, ...]


def read_report(path: str | os.PathLike[str]) -> Report:
    """One report of any known kind, told by its content. Raises ReportError, naming the file and the field."""
    source = Source.read(Path(path))
    if not source.text.strip():
        raise source.fail("report", "is empty; let the tool write it again")
    if synthesis.is_xml(source):
        return synthesis.read_xml(source)
    if synthesis.is_text(source):
        return synthesis.read_text(source)
    if cosimulation.is_text(source):
        return cosimulation.read_text(source)
    if utilization.is_text(source):
        return utilization.read_text(source)
    raise source.fail(
        "report",
        "is none that is known: *_csynth.xml, *_csynth.rpt, *_cosim.rpt, or what Vivado's report_utilization prints",
    )


def read_project(folder: str | os.PathLike[str]) -> ProjectReports:
    """Every report in the folder of a generated project. Utilization reports of Vivado may lie anywhere in it.

    Raises ReportError for a folder that holds no project of ours or no report, and for a report that is broken.
    """
    root = Path(folder)
    design = _design(root)
    # On an accelerator card the design is called by a kernel, which is then what was built.
    top = next((name for name in (design, f"{design}_kernel") if (root / f"{name}_prj").is_dir()), design)
    solution = root / f"{top}_prj" / "solution1"
    functions = {function.function: function for function in map(_synthesis, _synthesized(solution / "syn" / "report"))}
    simulated = solution / "sim" / "report" / f"{top}_cosim.rpt"
    reports = ProjectReports(
        folder=root,
        design=design,
        synthesis=functions.pop(top, None),
        modules=tuple(functions[name] for name in sorted(functions)),
        cosimulation=cosimulation.read_text(Source.read(simulated)) if simulated.is_file() else None,
        utilization=tuple(
            utilization.read_text(source)
            for path in sorted(root.rglob("*.rpt"))
            if utilization.is_text(source := Source.read(path))
        ),
    )
    if not (reports.synthesis or reports.modules or reports.cosimulation or reports.utilization):
        raise ReportError(
            f'{root}: no tool has written a report yet; run its script, e.g. vitis_hls -f build.tcl "synth=1 cosim=1"'
        )
    return reports


def _design(root: Path) -> str:
    from export.backend import MANIFEST  # who reads one report needs no backend

    manifest = root / MANIFEST
    if not manifest.is_file():
        raise ReportError(
            f"{root}: is no project of qapsule, it has no {MANIFEST}; give a project's folder or a report"
        )
    try:
        about = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{manifest}: no complete JSON ({error}); export the project again") from error
    if not isinstance(about, dict) or not isinstance(design := about.get("project"), str):
        raise ReportError(f"{manifest}: project: is not there; export the project again")
    return design


def _synthesized(folder: Path) -> list[Path]:
    """One report for each function, XML where there is XML."""
    found = {path.stem: path for kind in ("rpt", "xml") for path in sorted(folder.glob(f"*_csynth.{kind}"))}
    return list(found.values())


def _synthesis(path: Path) -> Synthesis:
    report = read_report(path)
    if not isinstance(report, Synthesis):
        raise ReportError(f"{path}: report: is not one of synthesis, as its name says")
    return report
