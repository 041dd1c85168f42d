"""``*_cosim.rpt``: whether the RTL behaves as the C++ does, and in how many cycles."""

from __future__ import annotations

import re

from export.reports.figures import Cosimulation, Simulation, Span, Status
from export.reports.source import Source
from export.reports.tables import first_table

_HEAD = re.compile(r"^\+\s*RTL\s*\+\s*Status\s*\+", re.MULTILINE)
_LANGUAGES = ("VHDL", "Verilog")
#: RTL, status, then least, average and most of latency and of interval; newer versions add the total.
_CELLS = (8, 9)


def is_text(source: Source) -> bool:
    return _HEAD.search(source.text) is not None


def read_text(source: Source) -> Cosimulation:
    """A failed simulation is read as one; raises ReportError for a report that does not say how it ended."""
    rows = first_table(source, "table of results")
    if not any("Latency" in cell for row in rows for cell in row):
        raise source.missing("Latency")
    runs = tuple(_run(source, row) for row in rows if row[0] in _LANGUAGES)
    if not runs:
        raise source.missing("RTL")
    return Cosimulation(source.path, runs)


def _run(source: Source, row: list[str]) -> Simulation:
    language, *cells = row
    if len(row) not in _CELLS:
        raise source.fail(language, f"{len(row)} cells, known versions have {' or '.join(map(str, _CELLS))}")
    try:
        status = Status(cells[0])
    except ValueError:
        known = ", ".join(known.value for known in Status)
        raise source.fail(f"{language}, Status", f"{cells[0]!r} is none of {known}") from None
    names = [f"{language}, {what} {end}" for what in ("Latency", "Interval") for end in ("min", "avg", "max")]
    latency = [source.cycles(name, text) for name, text in zip(names[:3], cells[1:4], strict=True)]
    interval = [source.cycles(name, text) for name, text in zip(names[3:], cells[4:7], strict=True)]
    total = source.cycles(f"{language}, Total Execution Time", cells[7]) if len(cells) > 7 else None
    return Simulation(
        language,
        status,
        Span(latency[0], latency[2]),
        latency[1],
        Span(interval[0], interval[2]),
        interval[1],
        total,
    )
