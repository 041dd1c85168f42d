"""``*_csynth.xml`` and ``*_csynth.rpt``: what Vivado HLS (2018 to 2020) or Vitis HLS (from 2020) estimates."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

from export.reports.figures import Module, Resources, Span, Synthesis, Times, Tool
from export.reports.source import Source
from export.reports.tables import Rows, needed_table_after, row_of, table_after

_ENDS = ("min", "max")
_TITLE = re.compile(r"^== (Vivado|Vitis) HLS Report for '([^']*)'", re.MULTILINE)
#: The names of each resource, newest first.
_NAMES = {
    "lut": ("LUT",),
    "ff": ("FF",),
    "dsp": ("DSP", "DSP48E", "DSP48"),
    "bram18": ("BRAM_18K",),
    "uram": ("URAM",),
}


def is_text(source: Source) -> bool:
    return _TITLE.search(source.text) is not None


def is_xml(source: Source) -> bool:
    return source.text.lstrip().startswith(("<profile>", "<?xml"))


def read_xml(source: Source) -> Synthesis:
    """Raises ReportError for XML that is not well formed and for what is missing or no number."""
    try:
        root = ElementTree.fromstring(source.text)
    except ElementTree.ParseError as error:
        raise source.fail("XML", f"not well formed ({error}); let the tool write it again") from error

    def optional(path: str) -> str | None:
        text = root.findtext(path)
        return text.strip() if text and text.strip() else None

    def needed(path: str) -> str:
        if (text := optional(path)) is None:
            raise source.missing(path)
        return text

    def cycles(path: str) -> int | None:
        return source.cycles(path, needed(path))

    def time_ns(path: str) -> float | None:
        return source.time_ns(path, needed(path))

    def resources(path: str) -> Resources:
        return _resources(source, path, lambda name: optional(f"{path}/{name}"))

    user, latency = "UserAssignments/", "PerformanceEstimates/SummaryOfOverallLatency/"
    target, uncertainty = f"{user}TargetClockPeriod", f"{user}ClockUncertainty"
    ends = [f"{latency}{case}-caseRealTimeLatency" for case in ("Best", "Worst")]
    vitis = optional(f"{user}FlowTarget") or optional("AreaEstimates/Resources/DSP")
    return Synthesis(
        path=source.path,
        tool=Tool.VITIS_HLS if vitis else Tool.VIVADO_HLS,
        version=needed("ReportVersion/Version"),
        part=needed(f"{user}Part"),
        function=needed(f"{user}TopModelName"),
        clock_target_ns=source.period_ns(target, needed(target)),
        clock_estimated_ns=time_ns("PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod"),
        clock_uncertainty_ns=time_ns(uncertainty) if optional(uncertainty) else None,
        latency=Span(cycles(f"{latency}Best-caseLatency"), cycles(f"{latency}Worst-caseLatency")),
        latency_ns=Times(*map(time_ns, ends)) if all(map(optional, ends)) else None,
        interval=Span(cycles(f"{latency}Interval-min"), cycles(f"{latency}Interval-max")),
        pipeline=optional("PerformanceEstimates/PipelineType"),
        used=resources("AreaEstimates/Resources"),
        available=resources("AreaEstimates/AvailableResources"),
    )


def read_text(source: Source) -> Synthesis:
    """Raises ReportError for a heading, table, row or number that is missing or broken."""
    title = _TITLE.search(source.text)
    if title is None:
        raise source.missing("title")
    clocks = needed_table_after(source, "Timing", "== Performance Estimates", "+ Timing", "* Summary:")
    clock = dict(zip(clocks[0], row_of(source, "Timing", clocks, clocks[-1][0]), strict=True))
    for name in ("Target", "Estimated"):
        if name not in clock or len(clocks) < 2:
            raise source.missing(f"Timing, {name}")
    latency = needed_table_after(source, "Latency", "== Performance Estimates", "+ Latency", "* Summary:")
    if len(latency) < 3:
        raise source.missing("Latency, Summary")
    spans = _spans(source, "Latency", latency[1], latency[2])
    area = needed_table_after(source, "Utilization", "== Utilization Estimates", "* Summary:")
    return Synthesis(
        path=source.path,
        tool=Tool(f"{title[1]} HLS"),
        version=_line(source, "Version").split()[0],
        part=_line(source, "Target device"),
        function=title[2],
        clock_target_ns=source.period_ns("Timing, Target", clock["Target"]),
        clock_estimated_ns=source.time_ns("Timing, Estimated", clock["Estimated"]),
        clock_uncertainty_ns=source.time_ns("Timing, Uncertainty", clock.get("Uncertainty", "-")),
        latency=spans[0],
        latency_ns=spans[1],
        interval=spans[2],
        pipeline=latency[2][-1],
        used=_row_resources(source, "Utilization", area, "Total"),
        available=_row_resources(source, "Utilization", area, "Available"),
        modules=_modules(source),
    )


def _line(source: Source, label: str) -> str:
    match = re.search(rf"^\* {label}:[ \t]*(\S[^\n]*?)[ \t\r]*$", source.text, re.MULTILINE)
    if match is None:
        raise source.missing(label)
    return match[1]


def _spans(source: Source, field: str, head: list[str], row: list[str]) -> tuple[Span, Times | None, Span]:
    """Latency in cycles, the same as times where they are stated, and interval; the pipeline's type follows them."""
    stated = head[-7:] == ["min", "max", "min", "max", "min", "max", "Type"]
    if not stated and head[-5:] != ["min", "max", "min", "max", "Type"]:
        raise source.fail(field, f"the head of its table is {' | '.join(head)}, which no known version writes")
    if len(row) != len(head):
        raise source.fail(field, f"{len(row)} cells below a head of {len(head)}")

    def span(what: str, cells: list[str]) -> Span:
        return Span(*(source.cycles(f"{field}, {what} {end}", text) for end, text in zip(_ENDS, cells, strict=True)))

    interval = span("Interval", row[-3:-1])
    if not stated:
        return span("cycles", row[-5:-3]), None, interval
    times = Times(*(source.time_ns(f"{field}, absolute {end}", t) for end, t in zip(_ENDS, row[-5:-3], strict=True)))
    return span("cycles", row[-7:-5]), times, interval


def _modules(source: Source) -> tuple[Module, ...]:
    """From the tables of instances, one of latencies and one of resources; either may be missing."""
    timing = table_after(
        source, "Latency, Instance", "== Performance Estimates", "+ Latency", "+ Detail:", "* Instance:"
    )
    area = table_after(source, "Utilization, Instance", "== Utilization Estimates", "+ Detail:", "* Instance:")
    spans: dict[tuple[str, str], tuple[Span | None, Span | None]] = {}
    for row in (timing or [])[2:]:
        latency, _, interval = _spans(source, f"Latency, {row[0]}", (timing or [])[1], row)
        spans[row[0], row[1]] = latency, interval
    used: dict[tuple[str, str], Resources] = {}
    for row in (area or [])[1:]:
        if row[0] != "Total":
            used[row[0], row[1]] = _row_resources(source, "Utilization, Instance", area or [], row[0])
    modules: list[Module] = []
    for instance, module in dict.fromkeys([*spans, *used]):
        place = instance, module
        modules.append(Module(instance, module, *spans.get(place, (None, None)), used.get(place)))
    return tuple(modules)


def _row_resources(source: Source, field: str, rows: Rows, label: str) -> Resources:
    cells = dict(zip(rows[0], row_of(source, field, rows, label), strict=True))
    present = {name: "0" if text == "-" else text for name, text in cells.items()}  # a dash where there are none
    return _resources(source, f"{field}, {label}", present.get)


def _resources(source: Source, field: str, look_up: Callable[[str], str | None]) -> Resources:
    found: dict[str, int | None] = {}
    for resource, names in _NAMES.items():
        text = next((text for name in names if (text := look_up(name)) is not None), None)
        if text is None and resource != "uram":  # families without have no entry in some versions
            raise source.missing(f"{field}, {names[0]}")
        found[resource] = None if text is None else source.count(f"{field}, {names[0]}", text)
    return Resources(**found)  # type: ignore[arg-type]  # only uram can be None
