"""benchmarks/fig4.py, small: every curve, every figure, no mismatch; and going on from where it was stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the extra bench (matplotlib) is not installed")

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_curves_of_a_small_net(tmp_path: Path) -> None:
    out = tmp_path / "fig4.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "fig4.py"), "--net", "digits", "--seeds", "2"]
    command += ["--widths", "2", "6", "16", "--epochs", "5", "--runs", str(tmp_path / "runs"), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    contents = []
    for _ in range(2):  # the second time from the trainings of the first
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        contents.append(json.loads(out.read_text()))
    content = contents[0]
    assert content == contents[1]
    assert "0 mismatches in" in done.stdout and out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    relative = content["relative_accuracy"]
    assert list(relative) == ["ptq_classic", "ptq", "qat", "cpp"] == list(content["curves"])
    assert all(list(curve) == ["2", "6", "16"] and len(curve["6"]) == 2 for curve in relative.values())
    assert content["mismatches"] == 0 and content["outputs_compared"] == 6 * 10 * content["data"]["test_samples"]
    assert relative["cpp"] == relative["qat"]
    for curve, row in ((name, row) for row in content["rows"] for name in relative):
        ratio = row["networks"][curve]["accuracy"] / content["float"][row["seed"]]["accuracy"]
        assert ratio in relative[curve][str(row["width"])]
    # At 16 bits nothing is lost, whichever way; ap_fixed<2,6> holds no digit, and training helps where bits are few.
    assert all(abs(value - 1) < 0.03 for curve in relative.values() for value in curve["16"])
    assert max(relative["ptq_classic"]["2"]) < 0.3
    assert min(relative["qat"]["2"]) > max(relative["ptq"]["2"])
