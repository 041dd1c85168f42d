"""The vendors' own reports, of three tools: what they say is read as it stands there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from export.reports import Cosimulation, Span, Synthesis, Utilization, read_report

#: Where the vendors' own reports lie, which are theirs and not in the repository.
SAMPLES = Path(os.environ.get("QAPSULE_REPORTS", Path(__file__).parents[2] / "shared" / "data" / "reports"))


@pytest.mark.parametrize(
    ("name", "kind", "latency", "lut"),
    [
        ("vivado_hls/csynth.xml", Synthesis, Span(12323, 12323), 1737),
        ("vivado_hls/csynth.rpt", Synthesis, Span(12323, 12323), 1737),
        ("vivado_hls/cnn_csynth.rpt", Synthesis, Span(1044, 1044), 263280),
        ("vitis_hls/csynth.xml", Synthesis, Span(695, 695), 339116),
        ("vitis_hls/module_csynth.xml", Synthesis, Span(1, 1), 3975),
        ("vivado/vivado_synth.rpt", Utilization, None, 118931),
        ("vivado_hls/cosim.rpt", Cosimulation, Span(12323, 12323), None),
        ("vitis_hls/cosim.rpt", Cosimulation, Span(None, None), None),
    ],
)
def test_real_reports(name, kind, latency, lut):
    if not (SAMPLES / name).is_file():
        pytest.skip(f"{name} is not here: set QAPSULE_REPORTS to a folder of real reports")
    report = read_report(SAMPLES / name)
    assert isinstance(report, kind)
    if lut is not None:
        assert report.used.lut == lut
    if latency is not None:
        assert (report.runs[1] if isinstance(report, Cosimulation) else report).latency == latency


def test_text_and_xml_of_one_real_synthesis_agree():
    paths = [SAMPLES / "vivado_hls" / f"csynth.{kind}" for kind in ("xml", "rpt")]
    if not all(path.is_file() for path in paths):
        pytest.skip("vivado_hls/csynth.{xml,rpt} are not here: set QAPSULE_REPORTS to a folder of real reports")
    xml, text = ({**vars(read_report(path)), "path": None, "modules": ()} for path in paths)
    assert xml == text
