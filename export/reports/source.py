"""A report as text, and the numbers in it; every complaint names the file and the field."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

#: What the tools write for a number that they do not know.
_UNKNOWN = frozenset({"-", "?", "undef", "NA", "N/A"})
_NANOSECONDS = {"ps": 1e-3, "ns": 1.0, "us": 1e3, "ms": 1e6, "sec": 1e9, "s": 1e9}
_TIME = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)", re.IGNORECASE)


class ReportError(ValueError):
    """A report that cannot be read. The message names the file, the field and what is wrong with it."""


@dataclass(frozen=True)
class Source:
    """The text of the file ``path``."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> Source:
        """Whatever bytes are no UTF-8 are replaced: dates are written in the encoding of the machine that made them."""
        try:
            return cls(path, path.read_bytes().decode("utf-8", errors="replace"))
        except OSError as error:
            raise ReportError(f"{path}: cannot be read: {error.strerror}") from error

    @cached_property
    def lines(self) -> list[str]:
        """Without the space around them."""
        return [line.strip() for line in self.text.splitlines()]

    def fail(self, field: str, problem: str) -> ReportError:
        return ReportError(f"{self.path}: {field}: {problem}")

    def missing(self, field: str) -> ReportError:
        return self.fail(
            field, "is not there; the report is of another kind or incomplete, let the tool write it again"
        )

    def count(self, field: str, text: str) -> int:
        """A number of things."""
        if not re.fullmatch(r"[0-9]+", text.strip()):
            raise self.fail(field, f"{text.strip()!r} is not a number of them")
        return int(text)

    def cycles(self, field: str, text: str) -> int | None:
        """A number of clock cycles, None where the tool knows none."""
        return None if text.strip() in _UNKNOWN else self.count(field, text)

    def time_ns(self, field: str, text: str) -> float | None:
        """A time in nanoseconds, which is also the unit where none is written."""
        if text.strip() in _UNKNOWN:
            return None
        match = _TIME.fullmatch(text.strip())
        unit = _NANOSECONDS.get((match[2] or "ns").lower()) if match else None
        try:
            value = float(match[1]) if match else math.nan
        except ValueError:
            value = math.nan
        if unit is None or not math.isfinite(value):
            raise self.fail(field, f"{text.strip()!r} is not a time")
        return value * unit

    def period_ns(self, field: str, text: str) -> float:
        """A time that must be known."""
        if (value := self.time_ns(field, text)) is None:
            raise self.fail(field, f"is unknown ({text.strip()})")
        return value
