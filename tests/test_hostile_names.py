"""Names and paths from a user's model and machine: every project compiles, gives the right bits, does nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from benches import bench
from designs import assert_equal_traces, chain, mlp, samples

from export.backend import Backend, Project
from export.emulation.emulator import Emulator
from export.ir import Graph
from export.streams.access import Io
from recipes.fuzz.projects import TARGETS

#: A command that shows itself, wherever a shell, make or Tcl is made to run it.
CANARY = "PWNED"

HOSTILE = [
    f'"); system("touch {CANARY}"); //', f"*/ {CANARY} /*", f"a\n#error {CANARY}", f"a\r\n#error {CANARY}", "// \\",
    "ends with \\", "??/", "??=define", "%:include", '"', "'", "';", "#define x_t", f"$(touch {CANARY})",
    f"`touch {CANARY}`", f"$(shell touch {CANARY})", f"$(error {CANARY})", f"${{{CANARY}}}", "$$", "$<",
    f"]; exec touch {CANARY}; [", f"[exec touch {CANARY}]", f"a; touch {CANARY}", f"a\n\ttouch {CANARY}", "{", "}",
    "-rf", "--version", "{{ x }}", "{% raw %}", "{# x", "%s%n", "\0", "\x1b[31m", "\udc80", "größe", "λ✓", "\u202e",
    "é", "../../x", f"/etc/{CANARY}", "~", "CON", "nul", " ", "", "x" * 300, "X" * 300, "9", "_", "__x", "x__y", "X_T",
]  # fmt: skip
WORDS = ["class", "operator", "main", "component", "ihc", "ihc_stream", "hls", "task", "xrt", "std", "ap_int",
         "ac_fixed", "qapsule", "bench", "EOF", "INT_MAX", "samples", "sample", "read", "x", "X", "x_t", "x_in",
         "x_2"]  # fmt: skip

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")
needs_tcl = pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not here")


def every(*backends: Backend) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("backend", backends, ids=lambda backend: backend.name)


every_target = every(*TARGETS)


def own_words(backend: Backend) -> set[str]:
    """Every word in the text that a backend adds to the firmware, which a name might be taken for."""
    files = backend.render(mlp("net", (4, 3, 2))).files
    ours = " ".join(text for path, text in files.items() if path.endswith((".cpp", ".h")) and "/qapsule/" not in path)
    return set(re.findall(r"[a-z_][a-z0-9_]*", ours))


def hostile(backend: Backend) -> Graph:
    names = dict.fromkeys([*HOSTILE, *WORDS, *sorted(own_words(backend))])
    return chain(HOSTILE[0], list(names), size=1)


def passes(project: Project, folder: Path) -> None:
    done = bench(project, folder)
    assert done.returncode == 0 and "PASSED: " in done.stdout and ", 0 mismatches" in done.stdout, done.stdout
    assert not list(folder.parent.rglob(CANARY))


@pytest.mark.parametrize(
    ("backend", "io"),
    [(backend, io) for backend in TARGETS for io in backend.ios],
    ids=lambda given: given.value if isinstance(given, Io) else given.name,
)
def test_hostile_tensors_give_the_right_bits(backend: Backend, io: Io, tmp_path: Path) -> None:
    passes(backend.render(hostile(backend), io=io), tmp_path / "net")


@pytest.mark.parametrize("io", list(Io), ids=lambda io: io.value)
def test_hostile_tensors_are_traced_by_their_own_names(io: Io) -> None:
    graph = chain(HOSTILE[0], list(dict.fromkeys([*HOSTILE, *WORDS])), size=1)
    assert_equal_traces(graph, Emulator(graph, io=io), samples(graph, 200))


@every_target
@pytest.mark.parametrize("name", ["samples", "component", f'x"; touch {CANARY}\n#error'])
def test_hostile_designs_give_the_right_bits(backend: Backend, name: str, tmp_path: Path) -> None:
    passes(backend.render(chain(name, ["x", "y"])), tmp_path / "net")


@every_target
def test_hostile_names_stand_nowhere_but_in_strings_of_c(backend: Backend) -> None:
    fragments = [name for name in HOSTILE if re.search(r"\W", name.strip()) and len(name) > 3]
    for path, text in backend.render(hostile(backend)).files.items():
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", path) and ".." not in path, path
        if path.startswith("firmware/qapsule/"):
            continue
        outside = re.sub(r'"(\\[0-7]{3}|[ -~])*?"', '""', text) if path.endswith((".cpp", ".h")) else text
        assert [fragment for fragment in fragments if fragment in outside] == [], path
        assert outside.isprintable() or set(outside) - set(map(chr, range(0x20, 0x7F))) <= {"\n", "\t"}, path


#: What a tool's Tcl does beyond plain Tcl is said aloud and has no effect. There are no other programs for it to run.
TCL = """
proc unknown args { puts [list CALL {*}$args] }
foreach command {exec open socket file_delete load} { catch { rename $command {} } }
set argv {}
if {[catch { source %s } problem]} { puts [list PROBLEM $problem] }
"""


def tcl_calls(folder: Path, script: str) -> list[str]:
    (folder / "stubs.tcl").write_text(TCL % script)
    done = subprocess.run(["tclsh", "stubs.tcl"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert "PROBLEM" not in done.stdout and done.stderr == "", done.stdout + done.stderr
    return [line.removeprefix("CALL ") for line in done.stdout.splitlines() if line.startswith("CALL ")]


def scripts(project: Project) -> list[str]:
    """Those that a tool is started with; the others they read themselves."""
    tcl = {path: text for path, text in project.files.items() if path.endswith(".tcl")}
    return [path for path in tcl if not any(path in text for other, text in tcl.items() if other != path)]


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


def phony(folder: Path) -> list[str]:
    (line,) = re.findall(r"^\.PHONY:(.*)$", (folder / "Makefile").read_text(), flags=re.MULTILINE)
    return line.split()


FOLDERS = ["with space", "$HOME $(touch PWNED)", "`touch PWNED`", "a'b\"c", "[exec touch PWNED]", "-rf", "a;b&c|d",
           "größe", "new\nline", "#hash", "a=b", "{", "back\\slash"]  # fmt: skip


@needs_tcl
@every(*(backend for backend in TARGETS if any(path.endswith(".tcl") for path in backend.files)))
@pytest.mark.parametrize("folder", ["net", *FOLDERS])
def test_tcl_does_what_it_should_and_nothing_else(backend: Backend, folder: str, tmp_path: Path) -> None:
    project = backend.render(chain(f"[exec touch {CANARY}]", [f"]; exec touch {CANARY}; [", f"$(touch {CANARY})"]))
    place = project.write(tmp_path / folder)
    plain = backend.render(chain(project.name, ["x", "y"])).write(tmp_path / "plain")
    for script in scripts(project):
        calls, expected = tcl_calls(place, script), tcl_calls(plain, script)
        assert [call.split()[0] for call in calls] == [call.split()[0] for call in expected] != []
        for vectors in (call.split("-argv ")[1] for call in calls if "-argv " in call):
            assert re.fullmatch(r"[\w/.:+-]+", vectors)  # the tool cuts it at spaces, and runs four folders below
            assert (place / vectors.removeprefix("../../../../")).is_dir()
    assert not list(tmp_path.rglob(CANARY))


@needs_make
@every(*(backend for backend in TARGETS if "Makefile" in backend.files))
@pytest.mark.parametrize("folder", ["net", *FOLDERS])
def test_make_does_what_it_should_and_nothing_else(backend: Backend, folder: str, tmp_path: Path) -> None:
    project = backend.render(chain(f"$(shell touch {CANARY})", [f"`touch {CANARY}`", f"a\n\ttouch {CANARY}"]))
    place = project.write(tmp_path / folder)
    plain = backend.render(chain(project.name, ["x", "y"])).write(tmp_path / "plain")
    for target in phony(place):
        done, expected = make(place, "-n", target), make(plain, "-n", target)
        assert (done.returncode, done.stderr) == (expected.returncode, expected.stderr), target
        assert [line.split()[:1] for line in done.stdout.splitlines()] == [
            line.split()[:1] for line in expected.stdout.splitlines()
        ]
    assert not list(tmp_path.rglob(CANARY))


@every_target
def test_a_project_runs_in_a_hostile_folder(backend: Backend, tmp_path: Path) -> None:
    passes(backend.render(chain("net", ["x", "y"])), tmp_path / f"a 'b' \"c\" $HOME `touch {CANARY}` größe")
