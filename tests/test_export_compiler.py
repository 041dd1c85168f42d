"""Compiled designs and their cache: compiled once, whatever happens to the files, whoever else compiles."""

from __future__ import annotations

import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from designs import assert_equal_traces, every_op, mlp, samples

from export.backends.emulator import EMULATOR
from export.emulation import compiler
from export.emulation.compiler import Compiler, CompilerError, cache_folder
from export.emulation.emulator import Emulator


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The designs that were really compiled."""
    found: list[str] = []
    real = Compiler._compile

    def counted(self, project, options, entry):
        found.append(project.name)
        real(self, project, options, entry)

    monkeypatch.setattr(Compiler, "_compile", counted)
    return found


def test_a_design_is_compiled_once(tmp_path: Path, compilations: list[str]) -> None:
    graph = mlp("net", (4, 3, 2))
    first, second = (Emulator(graph, cache_dir=tmp_path) for _ in range(2))
    assert compilations == ["net"] and len(list(tmp_path.iterdir())) == 1
    values = samples(graph, 10)
    assert np.array_equal(first.predict(*values), second.predict(*values))
    Emulator(mlp("net", (4, 3, 2), seed=1), cache_dir=tmp_path)
    assert compilations == ["net", "net"]


@pytest.mark.parametrize("what", ["version", "flags", "cpu"])
def test_whatever_decides_the_code_decides_the_entry(
    tmp_path: Path, compilations: list[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    graph = mlp("net", (4, 3, 2))
    Emulator(graph, cache_dir=tmp_path)
    if what == "version":
        monkeypatch.setattr(compiler, "_version", lambda program: "g++ 99")
    elif what == "flags":
        monkeypatch.setattr(compiler, "FLAGS", (*compiler.FLAGS, "-DQAPSULE_ANOTHER"))
    else:
        monkeypatch.setattr(compiler, "_cpu", lambda: "another")
    Emulator(graph, cache_dir=tmp_path)
    assert compilations == ["net", "net"] and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "garbled", "no digest", "empty"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, compilations: list[str], damage: str) -> None:
    graph = mlp(f"net_{damage}", (4, 3, 2))
    library = Compiler.find().build(EMULATOR.render(graph), ("-O3",), tmp_path)  # not loaded yet: it is about to change
    whole = library.read_bytes()
    if damage == "truncated":
        library.write_bytes(whole[: len(whole) // 2])
    elif damage == "garbled":
        library.write_bytes(whole[:4096] + bytes(b ^ 255 for b in whole[4096:]))
    elif damage == "no digest":
        (library.parent / "design.sha256").unlink()
    else:
        shutil.rmtree(library.parent)
        library.parent.mkdir()
    assert_equal_traces(graph, Emulator(graph, cache_dir=tmp_path), samples(graph, 10))
    assert len(compilations) == 2 and [p.name for p in tmp_path.iterdir()] == [library.parent.name]


def build_one(cache: str) -> str:
    return str(Compiler.find().build(EMULATOR.render(mlp("race", (4, 3, 2))), ("-O0",), Path(cache)))


def test_processes_that_compile_the_same_design_at_once_agree(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        built = set(pool.map(build_one, [str(tmp_path)] * 4))
    assert len(built) == 1 and len(list(tmp_path.iterdir())) == 1


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QAPSULE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "qapsule"
    monkeypatch.setenv("QAPSULE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    Emulator(mlp("net", (2, 2)))
    assert len(list((tmp_path / "mine").iterdir())) == 1


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(CompilerError, match=r"neither g\+\+ nor clang\+\+ is on the PATH; install one .*apt install"):
        Emulator(mlp("net", (2, 2)), cache_dir=tmp_path)
    monkeypatch.setenv("CXX", "icc -fast")
    with pytest.raises(CompilerError, match="CXX=icc -fast is no program"):
        Compiler.find()


def test_a_compiler_of_the_users_choice_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("clang++") is None:
        pytest.skip("clang++ is not here")
    monkeypatch.setenv("CXX", "clang++ -Wno-everything")
    assert Compiler.find().command[1:] == ("-Wno-everything",)
    graph = every_op()
    assert_equal_traces(graph, Emulator(graph, cache_dir=tmp_path), samples(graph, 100))


def test_a_design_that_does_not_compile_shows_why_and_where(tmp_path: Path) -> None:
    project = EMULATOR.render(mlp("net", (4, 3, 2)))
    broken = replace(project, files={**project.files, "firmware/net.cpp": "int main() { return missing; }\n"})
    message = r"does not compile net; its sources are in .*\n(.*\n)*.*missing.* not declared"
    with pytest.raises(CompilerError, match=message) as e:
        Compiler.find().build(broken, cache_dir=tmp_path)
    (kept,) = tmp_path.iterdir()
    assert str(kept) in str(e.value) and (kept / "firmware" / "net.cpp").read_text().startswith("int main")
