"""Reports of every format, whole and broken in every way that a file can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from vendor_reports import (
    FAILED_COSIMULATION,
    SERIES7_UTILIZATION,
    ULTRASCALE_UTILIZATION,
    VITIS_HLS_COSIMULATION,
    VITIS_HLS_TEXT,
    VITIS_HLS_XML,
    VIVADO_HLS_2018_TEXT,
    VIVADO_HLS_COSIMULATION,
    VIVADO_HLS_XML,
)

from export.reports import (
    Cosimulation,
    Module,
    ReportError,
    Resources,
    Simulation,
    Span,
    Status,
    Synthesis,
    Times,
    Tool,
    Utilization,
    read_report,
)
from export.reports.summary import summary

VU9P = Resources(1182240, 2364480, 6840, 4320, 960)
ALL = {
    "vivado.xml": VIVADO_HLS_XML,
    "vitis.xml": VITIS_HLS_XML,
    "vitis.rpt": VITIS_HLS_TEXT,
    "vivado2018.rpt": VIVADO_HLS_2018_TEXT,
    "cosim2019.rpt": VIVADO_HLS_COSIMULATION,
    "cosim2023.rpt": VITIS_HLS_COSIMULATION,
    "failed.rpt": FAILED_COSIMULATION,
    "ultrascale.rpt": ULTRASCALE_UTILIZATION,
    "series7.rpt": SERIES7_UTILIZATION,
}


def read(folder: Path, text: str | bytes, name: str = "some.rpt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_report(path)


def complaint(folder: Path, text: str | bytes) -> str:
    """The message without the folder."""
    with pytest.raises(ReportError) as error:
        read(folder, text)
    assert str(error.value).startswith(f"{folder}/some.rpt: ")
    return str(error.value).removeprefix(f"{folder}/some.rpt: ")


@pytest.mark.parametrize(
    ("text", "tool", "version", "uncertainty", "meets"),
    [
        (VIVADO_HLS_XML, Tool.VIVADO_HLS, "2019.2", 0.62, True),
        (VITIS_HLS_XML, Tool.VITIS_HLS, "2023.1", 1.35, False),
    ],
)
def test_xml(tmp_path, text, tool, version, uncertainty, meets):
    report = read(tmp_path, text)
    assert report == Synthesis(
        path=tmp_path / "some.rpt",
        tool=tool,
        version=version,
        part="xcvu9p-flga2104-2L-e",
        function="tiny",
        clock_target_ns=5.0,
        clock_estimated_ns=4.37,
        clock_uncertainty_ns=uncertainty,
        latency=Span(11, 13),
        latency_ns=Times(55.0, 65.0),
        interval=Span(1, 2),
        pipeline="function",
        used=Resources(lut=2002, ff=1001, dsp=29, bram18=4, uram=0),
        available=VU9P,
    )
    assert report.meets_clock is meets


def test_text_of_vitis_hls_with_its_modules(tmp_path):
    assert read(tmp_path, VITIS_HLS_TEXT) == Synthesis(
        path=tmp_path / "some.rpt",
        tool=Tool.VITIS_HLS,
        version="2024.2",
        part="xcvu9p-flga2104-2L-e",
        function="tiny",
        clock_target_ns=5.0,
        clock_estimated_ns=3.921,
        clock_uncertainty_ns=1.35,
        latency=Span(37, 41),
        latency_ns=Times(185.0, 205.0),
        interval=Span(16, 17),
        pipeline="dataflow",
        used=Resources(lut=700, ff=303, dsp=10, bram18=2, uram=0),
        available=VU9P,
        modules=(
            Module("dense_reuse_16_U0", "dense_reuse_16", Span(18, 18), Span(16, 16), Resources(689, 298, 10, 2, 0)),
            Module("cast_U0", "cast", Span(0, 0), Span(1, 1), Resources(11, 2, 0, 0, 0)),
        ),
    )


def test_text_of_2018_with_unknown_latency_and_no_uram(tmp_path):
    assert read(tmp_path, VIVADO_HLS_2018_TEXT) == Synthesis(
        path=tmp_path / "some.rpt",
        tool=Tool.VIVADO_HLS,
        version="2018.2",
        part="xc7z020clg400-1",
        function="tiny",
        clock_target_ns=10.0,
        clock_estimated_ns=8.74,
        clock_uncertainty_ns=1.25,
        latency=Span(None, None),
        latency_ns=None,
        interval=Span(None, None),
        pipeline="none",
        used=Resources(lut=54, ff=32, dsp=1, bram18=0, uram=None),
        available=Resources(lut=53200, ff=106400, dsp=220, bram18=280, uram=None),
    )


@pytest.mark.parametrize(("text", "total"), [(VIVADO_HLS_COSIMULATION, None), (VITIS_HLS_COSIMULATION, 1642)])
def test_cosimulation(tmp_path, text, total):
    unknown = Span(None, None)
    report = read(tmp_path, text)
    assert report == Cosimulation(
        tmp_path / "some.rpt",
        (
            Simulation("VHDL", Status.NOT_RUN, unknown, None, unknown, None, None),
            Simulation("Verilog", Status.PASS, Span(37, 41), 38, Span(16, 17), 16, total),
        ),
    )
    assert report.passed is True


def test_a_failed_cosimulation_is_a_result(tmp_path):
    report = read(tmp_path, FAILED_COSIMULATION)
    assert report.passed is False
    assert report.runs[1].status is Status.FAIL and report.runs[1].latency == Span(None, None)
    assert read(tmp_path, FAILED_COSIMULATION.replace("Fail", "  NA")).passed is None


def test_utilization(tmp_path):
    assert read(tmp_path, ULTRASCALE_UTILIZATION) == Utilization(
        path=tmp_path / "some.rpt",
        version="2022.2",
        design="tiny",
        part="xcvu9p-flga2104-2L-e",
        stage="Routed",
        used=Resources(lut=377, ff=212, dsp=10, bram18=3, uram=0),
        available=VU9P,
    )
    older = read(tmp_path, SERIES7_UTILIZATION)
    assert (older.stage, older.part) == ("Synthesized", "7z020clg400-1")
    assert older.used == Resources(lut=12, ff=34, dsp=5, bram18=0, uram=None)
    assert older.available == Resources(lut=53200, ff=106400, dsp=220, bram18=280, uram=None)


@pytest.mark.parametrize("unknown", ["undef", "-", "?", "NA"])
def test_what_the_tool_does_not_know_is_none(tmp_path, unknown):
    text = VIVADO_HLS_XML.replace("<Interval-max>2", f"<Interval-max>{unknown}")
    text = text.replace("<Worst-caseLatency>13", f"<Worst-caseLatency>{unknown}")
    report = read(tmp_path, text.replace("<EstimatedClockPeriod>4.37", f"<EstimatedClockPeriod>{unknown}"))
    assert (report.latency, report.interval) == (Span(11, None), Span(1, None))
    assert (report.clock_estimated_ns, report.meets_clock) == (None, None)
    text = VITIS_HLS_TEXT.replace("|  0.205 us|   16|   17|", f"|  0.205 us|   16|{unknown:>5}|")
    assert read(tmp_path, text).interval == Span(16, None)


def test_a_version_nobody_knows_is_read_as_far_as_its_fields_are_known(tmp_path):
    assert read(tmp_path, VITIS_HLS_XML.replace("2023.1", "2041.3-beta")).version == "2041.3-beta"
    assert read(tmp_path, VITIS_HLS_TEXT.replace("2024.2", "2041.3")).version == "2041.3"
    head = "|   min   |   max   |    min   |    max   | min | max |   Type   |\n    +---------+"
    assert head in VITIS_HLS_TEXT
    changed = VITIS_HLS_TEXT.replace(head, head.replace("Type", "Kind"))
    assert complaint(tmp_path, changed) == (
        "Latency: the head of its table is min | max | min | max | min | max | Kind, which no known version writes"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "<LUT>2002</LUT>",
            "",
            "AreaEstimates/Resources, LUT: is not there; the report is of another kind or incomplete, let the tool "
            "write it again",
        ),
        ("<DSP>29", "<DSP>viele", "AreaEstimates/Resources, DSP: 'viele' is not a number of them"),
        ("<FF>1001", "<FF>-1", "AreaEstimates/Resources, FF: '-1' is not a number of them"),
        (
            "<Interval-min>1<",
            "<Interval-min>1,5<",
            "PerformanceEstimates/SummaryOfOverallLatency/Interval-min: '1,5' is not a number of them",
        ),
        (
            "<TargetClockPeriod>5.00<",
            "<TargetClockPeriod>5,00<",
            "UserAssignments/TargetClockPeriod: '5,00' is not a time",
        ),
        ("<TargetClockPeriod>5.00<", "<TargetClockPeriod>?<", "UserAssignments/TargetClockPeriod: is unknown (?)"),
        (
            "<Worst-caseRealTimeLatency>65.000 ns",
            "<Worst-caseRealTimeLatency>65.000 fortnights",
            "PerformanceEstimates/SummaryOfOverallLatency/Worst-caseRealTimeLatency: '65.000 fortnights' is not a time",
        ),
    ],
)
def test_broken_xml(tmp_path, old, new, message):
    assert old in VITIS_HLS_XML
    assert complaint(tmp_path, VITIS_HLS_XML.replace(old, new, 1)) == message


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (VITIS_HLS_TEXT, "* Version:", "* Fassung:", "Version: is not there"),
        (VITIS_HLS_TEXT, "* Target device:  xcvu9p-flga2104-2L-e", "* Target device:", "Target device: is not there"),
        (VITIS_HLS_TEXT, "+ Latency", "+ Latenz", "Latency: there is no heading '+ Latency'"),
        (VITIS_HLS_TEXT, "== Utilization", "== Auslastung", "Utilization: there is no heading '== Utilization"),
        (VITIS_HLS_TEXT, " Estimated|", " Geschätzt|", "Timing, Estimated: is not there"),
        (VITIS_HLS_TEXT, "|Total            |", "|Summe            |", "Utilization, Total: is not there"),
        (
            VITIS_HLS_TEXT,
            "|Available        |     4320|",
            "|Available        |",
            "Utilization, Available: 5 cells below",
        ),
        (VITIS_HLS_TEXT, "|   LUT  |", "|   ALM  |", "Utilization, Total, LUT: is not there"),
        (VITIS_HLS_TEXT, "|     700|    0|", "|    7 00|    0|", "Utilization, Total, LUT: '7 00' is not a number"),
        (VITIS_HLS_TEXT, "|       37|", "|      3.7|", "Latency, cycles min: '3.7' is not a number"),
        (VITIS_HLS_TEXT, "|  0.185 us|", "|     heute|", "Latency, absolute min: 'heute' is not a time"),
        (VITIS_HLS_TEXT, "|   16|   17|  dataflow|", "|   16|  dataflow|", "Latency: 6 cells below a head of 7"),
        (VIVADO_HLS_COSIMULATION, "Pass", "  Ok", "Verilog, Status: 'Ok' is none of Pass, Fail, NA"),
        (VIVADO_HLS_COSIMULATION, " Latency ", " Latenz  ", "Latency: is not there"),
        (VIVADO_HLS_COSIMULATION, "|       37|", "|      abc|", "Verilog, Latency min: 'abc' is not a number"),
        (VIVADO_HLS_COSIMULATION, "|       16|       17|", "|", "Verilog: 6 cells, known versions have 8 or 9"),
        (ULTRASCALE_UTILIZATION, "CLB LUTs*", "CLB NANDs", "CLB LUTs: is not there"),
        (ULTRASCALE_UTILIZATION, "| Block RAM Tile    |  1.5", "| Block RAM Tile    | 1.25", "Block RAM Tile, Used"),
        (ULTRASCALE_UTILIZATION, "|  377 |     0 |", "|  377 |", "CLB LUTs*: 5 cells below a head of 6"),
        (
            ULTRASCALE_UTILIZATION,
            "| CLB Registers              |  212",
            "| CLB Registers   |  212.5",
            "CLB Registers, U",
        ),
        (ULTRASCALE_UTILIZATION, "Vivado v.2022.2", "Quartus 22", "Tool Version: 'Quartus 22"),
        (ULTRASCALE_UTILIZATION, "| Design State : Routed", "", "Design State: is not there"),
        (ULTRASCALE_UTILIZATION, " Used |", " Benutzt |", "CLB LUTs: is not there"),
    ],
)
def test_broken_text(tmp_path, text, old, new, message):
    assert old in text
    assert complaint(tmp_path, text.replace(old, new)).startswith(message)


@pytest.mark.parametrize("name", ALL)
def test_cut_anywhere_it_is_whole_or_refused(tmp_path, name):
    """What is left of a file is never read as something else than what the whole file says."""
    text = ALL[name].rstrip()
    whole = read(tmp_path, text)
    refused = 0
    for end in range(0, len(text), 7):
        try:
            left = read(tmp_path, text[:end])
        except ReportError as error:
            refused += 1
            assert "some.rpt: " in str(error)
        else:
            # The last tables of a text may be missing from it: modules, and sections that we do not read.
            assert {**vars(left), "modules": ()} == {**vars(whole), "modules": ()}
            assert end > len(text) / 2
    assert refused > len(text) / 7 / 2


@pytest.mark.parametrize("name", ALL)
def test_whatever_is_wrong_is_said(tmp_path, name):
    """Lines left out, doubled or cut, characters replaced: there is a value or a ReportError, never another error."""
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        lines = ALL[name].splitlines()
        place = int(rng.integers(len(lines)))
        line = lines[place]
        match rng.integers(5):
            case 0:
                del lines[place]
            case 1:
                lines.insert(place, line)
            case 2:
                lines[place] = line[: rng.integers(len(line) + 1)]
            case 3:
                at = int(rng.integers(len(line) + 1))
                lines[place] = line[:at] + rng.choice(list("|+-?<>&x7 ")) + line[at + 1 :]
            case 4:
                lines[place] = rng.choice(["|", "||", "+", "+-+", "", "* Version:", "<a/>"])
        try:
            report = read(tmp_path, "\n".join(lines))
        except ReportError as error:
            refused += 1
            assert "some.rpt: " in str(error)
        else:
            summary(report)
    assert 30 < refused < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "report: is empty"),
        (" \n\n", "report: is empty"),
        ("<profile>", "XML: not well formed"),
        ("<?xml version='1.0'?><html/>", "ReportVersion/Version: is not there"),
        ("Bericht der Synthese\n", "report: is none that is known: *_csynth.xml"),
        (b"\xff\xfe\x00\x01" * 9, "report: is none that is known"),
    ],
)
def test_no_report_at_all(tmp_path, text, message):
    assert complaint(tmp_path, text).startswith(message)


def test_no_file(tmp_path):
    with pytest.raises(ReportError, match=r"nowhere\.xml: cannot be read: No such file"):
        read_report(tmp_path / "nowhere.xml")


def test_a_date_in_another_encoding_does_no_harm(tmp_path):
    old = VIVADO_HLS_COSIMULATION.encode().replace(b"CET", "中国标准时间".encode("gbk"))
    assert read(tmp_path, old).passed is True
    assert read(tmp_path, VITIS_HLS_XML.encode().replace(b"<unit>", b"<unit>\xe9", 1)).function == "tiny"


def test_line_ends_of_windows(tmp_path):
    for text in ALL.values():
        unix = vars(read(tmp_path, text))
        assert vars(read(tmp_path, text.replace("\n", "\r\n"))) == unix


def test_summaries(tmp_path):
    assert summary(read(tmp_path, VITIS_HLS_TEXT)).splitlines() == [
        "estimates of Vitis HLS 2024.2 for xcvu9p-flga2104-2L-e, clock 5.00 ns, 3.92 ns estimated, "
        "too slow with the uncertainty that is asked for",
        "",
        "                     latency           ns  interval   LUT    FF   DSP  BRAM18  URAM",
        "-----------------------------------------------------------------------------------",
        "tiny                   37-41  185.0-205.0     16-17   700   303    10       2     0",
        "  of the part                                        0.1%  0.0%  0.1%    0.0%  0.0%",
        "  dense_reuse_16_U0       18                     16   689   298    10       2     0",
        "  cast_U0                  0                      1    11     2     0       0     0",
    ]
    assert summary(read(tmp_path, FAILED_COSIMULATION)) == (
        "co-simulation in Verilog: FAILED: the RTL differs from the C++, or did not end"
    )
    assert summary(read(tmp_path, VITIS_HLS_COSIMULATION)) == (
        "co-simulation in Verilog: passed, latency 37-41, interval 16-17 cycles"
    )
    assert "?" in summary(read(tmp_path, VIVADO_HLS_2018_TEXT)).splitlines()[4]
