"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_its_training_script_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scripts = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert scripts
    for script in scripts:
        names: dict[str, object] = {}
        exec(compile(script, "README.md", "exec"), names)
    assert (tmp_path / "build" / "mine" / "build.tcl").is_file()


def test_its_files_exist() -> None:
    root = Path(__file__).parents[1]
    named = re.findall(r"`((?:benchmarks|export|compress|recipes|hls_lib|tests)/[\w/.]+)`", README)
    assert named
    assert [name for name in named if not (root / name).exists()] == []
