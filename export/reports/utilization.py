"""What Vivado's ``report_utilization`` prints after synthesis, placement or routing."""

from __future__ import annotations

import re

from export.reports.figures import Resources, Utilization
from export.reports.source import Source
from export.reports.tables import tables_with

_COMMAND = re.compile(r"^\| Command\s*: report_utilization\b(?!.*-hierarchical)", re.MULTILINE)
_LABEL, _USED, _AVAILABLE = "Site Type", "Used", "Available"
#: The rows of each resource in UltraScale, 7 series, Versal. Block RAM is counted in tiles of two.
_LUT = ("CLB LUTs", "Slice LUTs")
_FF = ("CLB Registers", "Slice Registers", "Registers")
_DSP = ("DSPs", "DSP Slices")
_TILE = ("Block RAM Tile",)
_URAM = ("URAM",)


def is_text(source: Source) -> bool:
    return _COMMAND.search(source.text) is not None


def read_text(source: Source) -> Utilization:
    """Raises ReportError for a row or number that is missing or broken."""
    sites = _sites(source)
    version = _line(source, "Tool Version")
    if (number := re.match(r"Vivado v\.?(\S+)", version)) is None:
        raise source.fail("Tool Version", f"{version!r} is not of Vivado")
    return Utilization(
        path=source.path,
        version=number[1],
        design=_line(source, "Design"),
        part=_line(source, "Device"),
        stage=_line(source, "Design State"),
        used=_resources(source, _USED, sites),
        available=_resources(source, _AVAILABLE, sites),
    )


def _line(source: Source, label: str) -> str:
    match = re.search(rf"^\| {label}\s*: *(\S.*?)\s*$", source.text, re.MULTILINE)
    if match is None:
        raise source.missing(label)
    return match[1]


def _sites(source: Source) -> dict[str, dict[str, str]]:
    """The row of each type of site, by column. An asterisk, which marks a footnote, is no part of a name."""
    found: dict[str, dict[str, str]] = {}
    for head, *rows in tables_with(source, _LABEL, _USED, _AVAILABLE):
        for row in rows:
            if len(row) != len(head):
                raise source.fail(row[0] if row else _LABEL, f"{len(row)} cells below a head of {len(head)}")
            cells = dict(zip(head, row, strict=True))
            found.setdefault(cells[_LABEL].rstrip("*"), cells)
    return found


def _resources(source: Source, column: str, sites: dict[str, dict[str, str]]) -> Resources:
    def number(names: tuple[str, ...]) -> tuple[str, str]:
        for name in names:
            if name in sites:
                return f"{name}, {column}", sites[name][column]
        raise source.missing(names[0])

    return Resources(
        lut=source.count(*number(_LUT)),
        ff=source.count(*number(_FF)),
        dsp=source.count(*number(_DSP)),
        bram18=_halves(source, *number(_TILE)),
        uram=source.count(*number(_URAM)) if _URAM[0] in sites else None,
    )


def _halves(source: Source, field: str, text: str) -> int:
    """Block RAMs of 18 Kbit in ``text`` tiles of two: 34 or 34.5."""
    if not re.fullmatch(r"[0-9]+(\.[05])?", text):
        raise source.fail(field, f"{text!r} is not a number of tiles")
    return round(2 * float(text))
