"""How the design of each backend is compiled and run here, without its tool: one entry for every backend there is.

A bench compares with the vectors that the project brought along, whose outputs are the graph's, and ends with
"PASSED: N samples, 0 mismatches" or with a count of those it found.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from export.backend import Backend, Project
from export.backends import BACKENDS
from export.emulation.vendor_headers import ac_include, ap_include

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


def vitis(project: Project, work: Path) -> subprocess.CompletedProcess[str]:
    """The test bench of ``csim_design``."""
    sources = [f"firmware/{project.name}.cpp", f"tb/{project.name}_tb.cpp"]
    return run(compiled(work, "bench", sources, "-std=c++14", "-fno-exceptions", *ap_types()))


EXECUTE = """
#include <string>
#include "kernel/{kernel}.cpp"
static_assert(sizeof(qapsule::wide<512>) == 64, "a word of the card's memory is a word of the kernel's");
namespace standin {{
void execute(const std::string& name, const std::vector<void*>& memories, int samples) {{
    if (name == "{kernel}") {kernel}({arguments}, samples);
}}
}}
"""


def vitis_accel(project: Project, work: Path) -> subprocess.CompletedProcess[str]:
    """The host program, on a card that is a program itself."""
    kernel = f"{project.name}_kernel"
    units = project.files["connectivity.cfg"].split(f"nk={kernel}:")[1].split()[0]
    count = sum(path.startswith("data/") for path in project.files)
    pointers = ", ".join(f"static_cast<qapsule::wide<512>*>(memories.at({n}))" for n in range(count))
    (work / "execute.cpp").write_text(EXECUTE.format(kernel=kernel, arguments=pointers))
    (work / "card.xclbin").write_text(f"{kernel} {units}")
    compiled(work, "firmware.o", [f"firmware/{project.name}.cpp"], "-c", "-std=c++14", *ap_types())
    compiled(work, "kernel.o", ["execute.cpp"], "-c", "-std=c++14", *ap_types())
    sources = ["host/host.cpp", "kernel.o", "firmware.o"]
    return run(compiled(work, "bench", sources, "-std=c++17", "-isystem", str(STANDINS / "xrt")), "card.xclbin")


def intel(project: Project, work: Path) -> subprocess.CompletedProcess[str]:
    """The test bench, with the component as an ordinary function."""
    sources = [f"component/{project.name}_component.cpp", f"firmware/{project.name}.cpp", f"tb/{project.name}_tb.cpp"]
    return run(compiled(work, "bench", sources, "-std=c++14", "-isystem", str(STANDINS / "intel"), *ac_types()))


def catapult(project: Project, work: Path) -> subprocess.CompletedProcess[str]:
    """The test bench of SCVerify, through the channels of the top level."""
    names = [f"firmware/{project.name}.cpp", f"catapult/{project.name}_channels.cpp", f"tb/{project.name}_tb.cpp"]
    return run(compiled(work, "bench", names, "-std=c++14", "-fno-exceptions", *ac_types()))


#: By the name of the backend; ``emulator`` is run as every user runs it.
BENCHES: dict[str, Callable[[Project, Path], subprocess.CompletedProcess[str]]] = {
    "vitis": vitis,
    "vitis_accel": vitis_accel,
    "intel": intel,
    "catapult": catapult,
}


def bench(project: Project, folder: Path) -> subprocess.CompletedProcess[str]:
    """Write, compile and run a project."""
    return BENCHES[project.backend](project, project.write(folder))


def targets() -> list[Backend]:
    """The backends that write a project for a tool."""
    return [backend for name, backend in sorted(BACKENDS.items()) if name != "emulator"]
