"""What the options of several backends have in common."""

from __future__ import annotations

import re

from export.backend import BackendError

# Family, package with or without its hyphen, speed grade, then perhaps temperature and silicon.
_XILINX = re.compile(r"x[acq][a-z0-9]*\d[a-z0-9]*-?[a-z]{2,4}\d{2,4}-[0-9][A-Za-z]{0,2}(-[A-Za-z0-9]{1,4}){0,2}")
_XILINX_EXAMPLES = "xcvu9p-flga2577-2-e, xcu250-figd2104-2L-e, xczu7ev-ffvc1156-2-e, xc7z020clg400-1"


def check_xilinx_part(part: object) -> None:
    """Raises BackendError for what cannot be the name of a Xilinx part."""
    if not isinstance(part, str) or not _XILINX.fullmatch(part):
        raise BackendError(f"{part!r} is not the name of a Xilinx part; known are, for example, {_XILINX_EXAMPLES}")


def check_clock(clock_ns: object) -> None:
    """Raises BackendError for what cannot be a clock period."""
    if isinstance(clock_ns, bool) or not isinstance(clock_ns, int | float) or not 0.1 <= clock_ns <= 1000:
        raise BackendError(f"clock_ns is the clock period in nanoseconds, from 0.1 to 1000; got {clock_ns!r}")


def check_count(name: str, count: object, most: int) -> None:
    """Raises BackendError for what is no whole number from 1 to ``most``."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
        raise BackendError(f"{name} is a whole number from 1 to {most}; got {count!r}")
