"""Whole outputs, reviewed once and kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "QAPSULE_UPDATE_GOLDEN"


def assert_golden(name: str, files: Mapping[str, str]) -> None:
    """``files`` are those of ``golden/name``; ``QAPSULE_UPDATE_GOLDEN=1`` writes what they are now, for review."""
    folder = GOLDEN / name
    if os.environ.get(UPDATE):
        shutil.rmtree(folder, ignore_errors=True)
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    expected = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
    assert files.keys() == expected.keys()
    for path, text in files.items():
        assert text == expected[path], f"{path} changed; read it, then accept it with {UPDATE}=1"
