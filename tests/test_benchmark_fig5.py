"""A small version of the figure: all its parts, exact counts, and a second call that only reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.prune import count_pruned

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra bench), so nothing can be drawn")

ROOT = Path(__file__).parents[1]
WEIGHTS = 16 * 64 + 64 * 32 + 32 * 32 + 32 * 5


def jets(path: Path) -> Path:
    """700 made-up jets of five kinds."""
    draw = np.random.default_rng(0)
    y = np.arange(700) % 5
    x = draw.normal(size=(700, 16)) + 3 * np.eye(16)[y]
    np.savez(path, X=x.astype(np.float32), y=y)
    return path


def small_figure(folder: Path) -> tuple[dict[str, Any], str]:
    given = ["--data", str(folder / "jets.npz"), "--runs", str(folder / "runs"), "--out", str(folder / "fig5.json")]
    small = ["--widths", "32", "6", "--seeds", "2", "--fractions", "0.5", "0.8", "--epochs", "2", "--workers", "2"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "fig5.py"), *given, *small],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "QAPSULE_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads((folder / "fig5.json").read_text())
    return result, done.stdout


@pytest.mark.slow
def test_a_small_figure_and_its_resumption(tmp_path: Path) -> None:
    jets(tmp_path / "jets.npz")
    result, said = small_figure(tmp_path)
    points = result["points"]
    assert len(points) == 2 * 2 * 2 * 3
    for point in points:
        assert point["weights"] == WEIGHTS and point["pruned"] == count_pruned(point["fraction"], WEIGHTS)
        claimed = (point["width"], point["fraction"]) == (6, 0.8)
        assert point["mismatches"] == (0 if claimed else None)
    unpruned = {point["width"]: point["bops"] for point in points if point["fraction"] == 0}
    assert unpruned == {32: 4_652_832, 6: 226_592}
    for scheme in ("lottery ticket", "fine-tuning"):
        claim = result["claim"][scheme]
        own = [p["bops"] for p in points if (p["scheme"], p["width"], p["fraction"]) == (scheme, 6, 0.8)]
        assert claim["bops_reduction"] == pytest.approx(4_652_832 / (sum(own) / 2)) and claim["bops_reduction"] > 44
        assert f"{scheme}, 6 bits, 80% pruned: {claim['bops_reduction']:.1f}x fewer BOPs" in said
        assert set(claim["losses"]) == {"unpruned 32-bit nets", "float nets at convergence"}
    # Both schemes begin with the same training; then they part.
    by_level = {(p["scheme"], p["width"], p["seed"], p["fraction"]): p["macro_auc"] for p in points}
    for width in (32, 6):
        one, other = ([by_level[s, width, 1, f] for f in (0.0, 0.8)] for s in ("lottery ticket", "fine-tuning"))
        assert one[0] == other[0] and one[1] != other[1]
    assert result["baseline"]["epochs"] == 6 and len(result["baseline"]["macro_auc"]) == 2
    assert (tmp_path / "fig5.png").read_bytes()[:4] == b"\x89PNG"
    assert not result["resumed"]

    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.pt")}
    assert len(trained) == 2 * 2 * 2 * 3 + 2 * 2 * 3 + 2  # models, ensembles, baselines
    again, _ = small_figure(tmp_path)
    assert again["resumed"] and again["points"] == points and again["baseline"] == result["baseline"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.pt")} == trained
