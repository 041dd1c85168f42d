"""The wheel, installed where the checkout is out of reach, does what the checkout does."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def call(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The standard output of a command that must succeed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that what earlier builds left in the checkout cannot get in."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    listed = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "compress", "export", "hls_lib", "recipes")
    for path in (path for name in listed for path in [ROOT / name, *(ROOT / name).rglob("*")]):
        if path.is_file() and path.suffix not in (".so", ".pyc"):
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    # Without isolation nothing is downloaded: the test environment has what a build needs.
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, copy, cwd=out)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_carries_headers_templates_and_jets(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, pattern in (
        ("hls_lib", "*.h"),
        ("export/templates", "*.j2"),
        ("recipes", "*.npz"),
        ("recipes", "*.py"),
    ):
        expected = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob(pattern)}
        assert expected and expected <= names, folder
    assert not [name for name in names if name.split("/")[0] in ("tests", "benchmarks")]


def test_the_installed_command_runs_a_recipe_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    inside = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    # The dependencies are those of the running interpreter. A .pth file in a folder named by another one is not read,
    # so an editable install of the checkout there stays invisible.
    (inside / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")

    where = json.loads(
        call(
            python,
            "-c",
            "import json, compress as c, export as e, recipes as r; print(json.dumps([p.__file__ for p in (c, e, r)]))",
            cwd=tmp_path,
        )
    )
    assert all(Path(file).is_relative_to(inside) for file in where)
    small = ["baseline.epochs=2", "pruning.training.epochs=2", "hardware.samples=200"]
    printed = call(
        tmp_path / "venv" / "bin" / "qapsule",
        *("run", "digits", "--out", "run", *(part for setting in small for part in ("--set", setting))),
        cwd=tmp_path,
        QAPSULE_CACHE=str(tmp_path / "cache"),
    )
    assert "qap 0.8 *" in printed
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [pair["mismatches"] for pair in result["hardware"]["proof"]["agreements"]][:3] == [0, 0, 0]
    assert (tmp_path / "run" / "hls" / "build.tcl").is_file()
