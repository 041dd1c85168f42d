"""What the options of several backends have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias

from export.backend import BackendError
from export.firmware.design import Firmware, Step

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


class Memory(Enum):
    """Where Vivado and Vitis HLS put a table of which they read one row at a time; ``AUTO`` is their choice.

    Ultra RAM is none: it powers up empty, and the weights are there from the beginning.
    """

    AUTO = "auto"
    LUTRAM = "lutram"
    BRAM = "bram"


WeightMemory: TypeAlias = Memory | str | Mapping[str, Memory | str]


def check_memory(given: WeightMemory) -> None:
    """Raises BackendError for what is neither a memory nor one for each of some layers."""
    for name, each in given.items() if isinstance(given, Mapping) else [(None, given)]:
        _memory("weight_memory" if name is None else f"weight_memory of {name!r}", each)


def _memory(what: str, given: object) -> Memory:
    try:
        return Memory(given)
    except ValueError:
        known = ", ".join(repr(each.value) for each in Memory)
        why = " (ultra RAM powers up empty)" if given == "uram" else ""
        raise BackendError(f"{what} is one of {known}; got {given!r}{why}") from None


def storage(firmware: Firmware, memory: WeightMemory) -> Mapping[str, str]:
    """What ``QAPSULE_STORAGE`` says of each table that is to lie in a memory.

    Raises BackendError for a name that is no layer with such a table.
    """
    tables = {step.op.name: step for step in firmware if step.read_by_word}
    named = memory if isinstance(memory, Mapping) else dict.fromkeys(tables, memory)
    for name in named:
        if name not in tables:
            raise BackendError(f"weight_memory of {name!r}: {_why_not(firmware, name)}")
    return {
        table.name: f"{'RAM' if tables[name].loads else 'ROM'}_1P, {Memory(each).name}"
        for name, each in named.items()
        if Memory(each) is not Memory.AUTO
        for table in tables[name].read_by_word
    }


def _why_not(firmware: Firmware, name: str) -> str:
    step: Step | None = next((step for step in firmware if step.op.name == name), None)
    if step is None or not hasattr(step.op, "reuse_factor"):
        layers = ", ".join(repr(each.op.name) for each in firmware if each.read_by_word)
        return f"there is no layer of this name that reads weights from a memory; those are {layers or 'none'}"
    if any(each.is_assembled for each in step.stored):
        return "its weights are three copies in registers; leave it out of weight_memory, or out of tmr"
    return "it reads all of its weights at once, which are wires; give it a reuse_factor above 1, or leave it out"
