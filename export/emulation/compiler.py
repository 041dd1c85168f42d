"""Compiled designs, kept in a cache by the digest of everything that went into them."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from export.backend import Project

#: No design has exceptions; told so, g++ 12 takes a twentieth of the time over large tables of a vendor's numbers.
FLAGS = ("-march=native", "-std=c++14", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-exceptions")

_SOURCE, _LIBRARY, _DIGEST = "emulator.cpp", "design.so", "design.sha256"
_LINES_SHOWN = 12


class CompilerError(ValueError):
    """There is no compiler, or it did not accept a design."""


@dataclass(frozen=True)
class Compiler:
    """A command and what it says of itself."""

    command: tuple[str, ...]
    version: str

    @classmethod
    def find(cls) -> Compiler:
        """``$CXX``, else g++, else clang++. Raises CompilerError, saying what to install, where there is none."""
        named = os.environ.get("CXX", "").strip()
        candidates = [tuple(shlex.split(named))] if named else [("g++",), ("clang++",)]
        for command in candidates:
            if (program := shutil.which(command[0])) is not None:
                return cls((program, *command[1:]), _version(program))
        what = f"CXX={named} is no program" if named else "CXX is not set, and neither g++ nor clang++ is on the PATH"
        raise CompilerError(
            f"no C++ compiler: {what}; install one (Debian, Ubuntu: apt install g++) or name yours in CXX"
        )

    def build(self, project: Project, options: tuple[str, ...] = ("-O3",), cache_dir: Path | None = None) -> Path:
        """The shared object of ``project``, compiled now or before. Safe for any number of processes at once.

        Raises CompilerError, with what the compiler says first and where the sources are, if it does not compile.
        """
        options = (*FLAGS, *options)
        key = hashlib.sha256("\0".join((project.digest, *self.command, self.version, *options, _cpu())).encode())
        root = cache_folder() if cache_dir is None else Path(cache_dir)
        entry = root / f"{project.name}-{key.hexdigest()[:32]}"
        if not _intact(entry):
            _discard(entry)
            self._compile(project, options, entry)
        return entry / _LIBRARY

    def _compile(self, project: Project, options: tuple[str, ...], entry: Path) -> None:
        entry.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
        try:
            work = project.write(scratch / "design")
            command = [*self.command, *options, _SOURCE, "-o", _LIBRARY]
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode:
                kept = _keep(work, entry.with_name(f"failed-{entry.name}"))
                said = done.stderr.strip().splitlines() or [f"nothing, and exited with {done.returncode}"]
                raise CompilerError(
                    f"{self.command[0]} does not compile {project.name}; its sources are in {kept}. It says:\n"
                    + "\n".join(said[:_LINES_SHOWN])
                )
            (work / _DIGEST).write_text(_sha256(work / _LIBRARY))
            try:
                os.rename(work, entry)
            except OSError:
                if not _intact(entry):  # else somebody was faster, with the same bytes
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def cache_folder() -> Path:
    """``$QAPSULE_CACHE``, else ``qapsule`` in the user's cache (``$XDG_CACHE_HOME`` or ``~/.cache``)."""
    if named := os.environ.get("QAPSULE_CACHE"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "qapsule"


@cache
def _version(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace", check=False).stdout


@cache
def _cpu() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    stable = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(line for line in lines if line.startswith(stable))


def _intact(entry: Path) -> bool:
    try:
        return (entry / _DIGEST).read_text() == _sha256(entry / _LIBRARY)
    except (OSError, UnicodeDecodeError):
        return False


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _discard(entry: Path) -> None:
    """Out of the way in one step, so that nobody sees half of it."""
    if entry.is_dir():
        aside = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
        try:
            os.rename(entry, aside / "old")
        except FileNotFoundError:  # somebody else did
            pass
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _keep(work: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    os.rename(work, place)
    return place
