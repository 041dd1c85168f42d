"""Reports as a table to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

from compress.columns import columns
from export.reports.figures import Cosimulation, Report, Resources, Span, Status, Synthesis, Utilization
from export.reports.project import ProjectReports

_HEAD = ("", "latency", "ns", "interval", "LUT", "FF", "DSP", "BRAM18", "URAM")
_NOT_RUN = "co-simulation: not run"
Row = tuple[str, ...]


def summary(reports: ProjectReports | Report) -> str:
    """What a person wants to know first. Latency and interval are in cycles; a question mark is the tool's."""
    if isinstance(reports, ProjectReports):
        functions = [reports.synthesis] if reports.synthesis else []
        return "\n".join(
            [
                f"{reports.design}: {reports.folder}",
                "",
                *_estimates([*functions, *reports.modules], reports.utilization),
                "",
                *(_simulations(reports.cosimulation) if reports.cosimulation else [_NOT_RUN]),
            ]
        )
    if isinstance(reports, Cosimulation):
        return "\n".join(_simulations(reports))
    counted = (reports,) if isinstance(reports, Utilization) else ()
    return "\n".join(_estimates([reports] if isinstance(reports, Synthesis) else [], counted))


def _estimates(functions: list[Synthesis], counted: tuple[Utilization, ...]) -> list[str]:
    """Each function with what is below it, the top-level one with its share of the part; then what Vivado counted."""
    rows: list[Row] = []
    for number, function in enumerate(functions):
        rows.append(_function_row(function, indent="" if number == 0 else "  "))
        if number == 0:
            rows.append(_share("  of the part", function.used, function.available))
        if len(functions) == 1:  # the other functions' own reports say the same and more
            rows += _module_rows(function)
    for report in counted:
        rows.append((f"Vivado: {report.stage.lower()}", "", "", "", *_numbers(report.used)))
        rows.append(_share("  of the part", report.used, report.available))
    return [*(_about(functions[0]) if functions else []), *(columns([_HEAD, *rows]) if rows else [])]


def _about(function: Synthesis) -> Iterator[str]:
    estimated = "unknown" if function.clock_estimated_ns is None else f"{function.clock_estimated_ns:.2f} ns"
    slow = "" if function.meets_clock in (True, None) else ", too slow with the uncertainty that is asked for"
    yield (
        f"estimates of {function.tool.value} {function.version} for {function.part}, clock "
        f"{function.clock_target_ns:.2f} ns, {estimated} estimated{slow}"
    )
    yield ""


def _function_row(function: Synthesis, indent: str) -> Row:
    times = function.latency_ns
    ends = () if times is None else (times.least, times.most)
    known = list(dict.fromkeys("?" if end is None else f"{end:,.1f}" for end in ends))
    latency, interval = str(function.latency), str(function.interval)
    return (f"{indent}{function.function}", latency, "-".join(known), interval, *_numbers(function.used))


def _module_rows(function: Synthesis) -> Iterator[Row]:
    for module in function.modules:
        spans = tuple("" if span is None else str(span) for span in (module.latency, module.interval))
        used = ("",) * 5 if module.used is None else _numbers(module.used)
        yield (f"  {module.instance}", spans[0], "", spans[1], *used)


def _numbers(resources: Resources) -> Row:
    return tuple("" if number is None else f"{number:,}" for number in astuple(resources))


def _share(label: str, used: Resources, available: Resources) -> Row:
    pairs = zip(astuple(used), astuple(available), strict=True)
    return (label, "", "", "", *(f"{some / of:.1%}" if some is not None and of else "" for some, of in pairs))


def _simulations(report: Cosimulation) -> Iterator[str]:
    for run in report.runs:
        if run.status is Status.NOT_RUN:
            continue
        spans: list[tuple[str, Span]] = [("latency", run.latency), ("interval", run.interval)]
        cycles = [f"{what} {span}" for what, span in spans if span != Span(None, None)]
        known = f", {', '.join(cycles)} cycles" if cycles else ""
        verdict = "passed" if run.status is Status.PASS else "FAILED: the RTL differs from the C++, or did not end"
        yield f"co-simulation in {run.language}: {verdict}{known}"
    if report.passed is None:
        yield _NOT_RUN
