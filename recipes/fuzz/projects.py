"""A backend's whole project without its tool: its own test bench or host program, compiled, run and listened to.

A bench compares with the vectors that the project brought along, whose outputs are the graph's, and ends with
"PASSED: N samples, 0 mismatches". What is not public is stood in for by a folder of stand-ins: ``xrt`` for the runtime
of a Xilinx card, ``intel`` for Intel's ``HLS/hls.h``.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from export.backend import Backend, Project
from export.backends import BACKENDS
from export.backends.intel import Interface
from export.backends.settings import Memory
from export.emulation.vendor_headers import ac_include, ap_include
from export.firmware.storage import Weights
from export.ir import Graph
from export.streams.access import Io

#: Those that write a project for a tool.
TARGETS: tuple[Backend, ...] = tuple(backend for name, backend in sorted(BACKENDS.items()) if name != "emulator")

_PASSED = re.compile(r"PASSED: [1-9]\d* samples, 0 mismatches")
#: Without NDEBUG ap_private asserts where a cast drops more bits than there are; its result is right.
_QUICK = ("-O0", "-w", "-DNDEBUG")


class NotHere(ValueError):
    """Headers or stand-ins that a project needs, and that are not on this machine."""


class BenchError(ValueError):
    """What the compiler says, or the bench."""


def drawn_project(
    rng: np.random.Generator, graph: Graph, backend: Backend, io: Io, **given: Any
) -> tuple[Project, list[str]]:
    """The design of ``graph`` with options drawn at random, and what they are; ``given`` are settled.

    ``io`` is that of the backend if it has no other. Raises what ``render`` does.
    """
    options: dict[str, Any] = {"io": io if io in backend.ios else backend.ios[0]}
    options |= _OPTIONS[backend.name](rng)
    said = [f"{name}={value.value}" for name, value in options.items() if isinstance(value, Enum)]
    return backend.render(graph, **options, **given), said


def _vitis(rng: np.random.Generator) -> dict[str, Any]:
    return {"weight_memory": _memory(rng), "weights": _weights(rng)}


def _vitis_accel(rng: np.random.Generator) -> dict[str, Any]:
    sizes = {"batch": int(rng.integers(1, 50)), "compute_units": int(rng.integers(1, 4))}
    return {**sizes, "weight_memory": _memory(rng)}


def _intel(rng: np.random.Generator) -> dict[str, Any]:
    return {"interface": list(Interface)[rng.integers(len(Interface))]}


def _catapult(rng: np.random.Generator) -> dict[str, Any]:
    """The search for further vectors is no part of the design."""
    return {"weights": _weights(rng), "effort": 0}


def _memory(rng: np.random.Generator) -> Memory:
    return list(Memory)[rng.integers(len(Memory))]


def _weights(rng: np.random.Generator) -> Weights:
    return Weights.RELOADABLE if rng.random() < 0.4 else Weights.CONSTANT


_OPTIONS: Mapping[str, Callable[[np.random.Generator], dict[str, Any]]] = {
    "vitis": _vitis,
    "vitis_accel": _vitis_accel,
    "intel": _intel,
    "catapult": _catapult,
}


def bench(project: Project, folder: Path, standins: Path | None) -> None:
    """Write, compile and run it. Raises BenchError unless the bench has passed, and NotHere."""
    done = ran(project, folder, standins, _QUICK)
    if done.returncode or not _PASSED.fullmatch((done.stdout.strip().splitlines() or [""])[-1]):
        said = (done.stdout + done.stderr).strip()
        raise BenchError(f"its bench ended with {done.returncode}: {said[-2000:]}")


def ran(
    project: Project, folder: Path, standins: Path | None, flags: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """How its bench ended, compiled with ``flags``. Raises BenchError where it does not compile, and NotHere."""
    *compilations, run = _COMMANDS[project.backend](project, project.write(folder), standins)
    for command in compilations:
        done = _run(["g++", *flags, *command], folder)
        if done.returncode:
            raise BenchError(f"does not compile: {done.stderr[:4000]}")
    return _run(run, folder)


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)


#: What the compiler is called with, once or several times, and what is then run.
_Commands = list[list[str]]


def _bench_of_vitis(project: Project, work: Path, standins: Path | None) -> _Commands:
    """The test bench of ``csim_design``."""
    sources = [f"firmware/{project.name}.cpp", f"tb/{project.name}_tb.cpp"]
    return [["-std=c++14", "-fno-exceptions", *_ap(), *sources, "-o", "bench"], ["./bench"]]


#: The card of the stand-in runs this where the host starts the kernel.
_EXECUTE = """
#include <string>
#include "kernel/{kernel}.cpp"
static_assert(sizeof(qapsule::wide<512>) == 64, "a word of the card's memory is a word of the kernel's");
namespace standin {{
void execute(const std::string& name, const std::vector<void*>& memories, int samples) {{
    if (name == "{kernel}") {kernel}({arguments}, samples);
}}
}}
"""


def _bench_of_vitis_accel(project: Project, work: Path, standins: Path | None) -> _Commands:
    """The host program, on a card that is a program itself."""
    runtime = _standin(standins, "xrt")
    kernel = f"{project.name}_kernel"
    units = project.files["connectivity.cfg"].split(f"nk={kernel}:")[1].split()[0]
    count = sum(path.startswith("data/") for path in project.files)
    pointers = ", ".join(f"static_cast<qapsule::wide<512>*>(memories.at({n}))" for n in range(count))
    (work / "execute.cpp").write_text(_EXECUTE.format(kernel=kernel, arguments=pointers))
    (work / "card.xclbin").write_text(f"{kernel} {units}")
    return [
        ["-std=c++14", *_ap(), "-c", f"firmware/{project.name}.cpp", "-o", "firmware.o"],
        ["-std=c++14", *_ap(), "-c", "execute.cpp", "-o", "kernel.o"],
        ["-std=c++17", *runtime, "host/host.cpp", "kernel.o", "firmware.o", "-o", "bench"],
        ["./bench", "card.xclbin"],
    ]


def _bench_of_intel(project: Project, work: Path, standins: Path | None) -> _Commands:
    """The test bench, with the component as an ordinary function."""
    headers = [*_standin(standins, "intel"), *_ac()]
    sources = [f"component/{project.name}_component.cpp", f"firmware/{project.name}.cpp", f"tb/{project.name}_tb.cpp"]
    return [["-std=c++14", *headers, *sources, "-o", "bench"], ["./bench"]]


def _bench_of_catapult(project: Project, work: Path, standins: Path | None) -> _Commands:
    """The test bench of SCVerify, through the channels of the top level."""
    sources = [f"firmware/{project.name}.cpp", f"catapult/{project.name}_channels.cpp", f"tb/{project.name}_tb.cpp"]
    return [["-std=c++14", "-fno-exceptions", *_ac(), *sources, "-o", "bench"], ["./bench"]]


_COMMANDS: Mapping[str, Callable[[Project, Path, Path | None], _Commands]] = {
    "vitis": _bench_of_vitis,
    "vitis_accel": _bench_of_vitis_accel,
    "intel": _bench_of_intel,
    "catapult": _bench_of_catapult,
}


def _ap() -> list[str]:
    return _system(ap_include(), "Xilinx's ap_types")


def _ac() -> list[str]:
    return _system(ac_include(), "Siemens' ac_types")


def _standin(standins: Path | None, name: str) -> list[str]:
    return _system(None if standins is None else (standins / name).resolve(), f"the stand-ins for {name}")


def _system(folder: Path | None, what: str) -> list[str]:
    if folder is None or not folder.is_dir():
        raise NotHere(f"without {what}")
    return ["-isystem", str(folder)]
