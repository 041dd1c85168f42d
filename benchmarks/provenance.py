"""What every figure must say about itself: the commit, the versions, the machine."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def provenance(*packages: str) -> dict[str, Any]:
    """The state of the checkout and the versions of Python and ``packages``."""
    return {
        "commit": _git("rev-parse", "--verify", "--quiet", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--untracked-files=no").splitlines()),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
        "machine": {"processor": _processor(), "system": platform.platform()},
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """The result as JSON; says where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {path}")


def _git(*arguments: str) -> str:
    """What git says of the checkout; empty outside one."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
