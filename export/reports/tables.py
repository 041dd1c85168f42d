"""Tables of ``+---+`` and ``|``, as the vendors' reports draw them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from export.reports.source import Source

_BORDER = re.compile(r"\+[-+]+\+")
Rows = list[list[str]]


def table_after(source: Source, field: str, *headings: str) -> Rows | None:
    """The cells, row by row, of the table that follows the last of ``headings``, each sought below the one before.

    None where something else follows, such as ``N/A``. Raises ReportError for a heading that is not there and for a
    table that ends early.
    """
    lines = source.lines
    place = 0
    for heading in headings:
        try:
            place = next(n for n in range(place, len(lines)) if lines[n].startswith(heading)) + 1
        except StopIteration:
            raise source.fail(field, f"there is no heading {heading!r}; the report is incomplete") from None
    start = next((n for n in range(place, len(lines)) if lines[n].strip("=-")), len(lines))
    return _rows(source, field, start) if start < len(lines) and _in_table(lines[start]) else None


def needed_table_after(source: Source, field: str, *headings: str) -> Rows:
    rows = table_after(source, field, *headings)
    if rows is None:
        raise source.fail(field, f"no table follows {headings[-1]!r}; the report is incomplete")
    return rows


def first_table(source: Source, field: str) -> Rows:
    """Raises ReportError where there is none."""
    start = next((place for place, line in enumerate(source.lines) if _BORDER.fullmatch(line)), None)
    if start is None:
        raise source.missing(field)
    return _rows(source, field, start)


def tables_with(source: Source, *columns: str) -> Iterator[Rows]:
    """Every table whose head has all of ``columns``."""
    lines = source.lines
    for place, line in enumerate(lines[:-1]):
        if _BORDER.fullmatch(line) and set(columns) <= set(_cells(lines[place + 1])):
            yield _rows(source, columns[0], place)


def row_of(source: Source, field: str, rows: Rows, label: str) -> list[str]:
    """The row that begins with ``label``, with as many cells as the head."""
    row = next((row for row in rows if row and row[0] == label), None)
    if row is None:
        raise source.missing(f"{field}, {label}")
    if len(row) != len(rows[0]):
        raise source.fail(f"{field}, {label}", f"{len(row)} cells below a head of {len(rows[0])}")
    return row


def _in_table(line: str) -> bool:
    return line.startswith(("+", "|"))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def _rows(source: Source, field: str, start: int) -> Rows:
    lines = source.lines
    end = next((n for n in range(start, len(lines)) if not _in_table(lines[n])), len(lines))
    if not _BORDER.fullmatch(lines[end - 1]) or end - start < 2:
        raise source.fail(field, "its table has no end; the report is truncated, let the tool write it again")
    rows = [line for line in lines[start:end] if line.startswith("|")]
    if any(len(_cells(line)) < 2 or not line.endswith("|") for line in rows):
        raise source.fail(field, "a line of its table is cut off; let the tool write the report again")
    return [_cells(line) for line in rows]
