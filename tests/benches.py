"""How the design of each backend is compiled and run here, without its tool: one entry for every backend there is.

A bench compares with the vectors that the project brought along, whose outputs are the graph's, and ends with
"PASSED: N samples, 0 mismatches" or with a count of those it found.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from export.backend import Project
from export.emulation.vendor_headers import ac_include, ap_include
from recipes.fuzz.projects import NotHere, ran

STANDINS = Path(__file__).parent / "standins"
WARNINGS = ("-Wall", "-Wextra", "-Werror")


def compiled(work: Path, program: str, sources: Sequence[str], *flags: str) -> Path:
    """The program that ``sources`` make, warnings being errors."""
    command = ["g++", *WARNINGS, *flags, *sources, "-o", program]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]
    return work / program


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In the project's folder, as its README says."""
    command = [str(program), *arguments]
    return subprocess.run(command, cwd=program.parent, capture_output=True, text=True, errors="replace")


def ap_types() -> list[str]:
    if ap_include() is None:
        pytest.skip("Xilinx's ap_types are not here; install hls4ml, or set QAPSULE_AP_INCLUDE")
    return ["-isystem", str(ap_include())]


def ac_types() -> list[str]:
    if ac_include() is None:
        pytest.skip("Siemens' ac_types are not here; install hls4ml, or set QAPSULE_AC_INCLUDE")
    return ["-isystem", str(ac_include())]


def bench(project: Project, folder: Path) -> subprocess.CompletedProcess[str]:
    """Write, compile and run a project."""
    try:
        return ran(project, folder, STANDINS, WARNINGS)
    except NotHere as missing:
        pytest.skip(str(missing))
