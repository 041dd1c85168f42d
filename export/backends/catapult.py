"""A project for Siemens Catapult, from C++ to an ASIC, that verifies itself with open tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files as package_files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from compress.fixed import FixedPoint, Overflow, Rounding
from export.backend import FIRMWARE, Backend, BackendError
from export.backends.settings import check_clock
from export.backends.vectors import Vectors, vectors
from export.backends.vendors import AC, siemens_modes
from export.firmware.design import Firmware, Step
from export.firmware.storage import Delivery
from export.firmware.tables import SignalType
from export.ops import Modes
from export.streams.access import Io
from export.verification.coverage import Coverage, Outcome, cover
from export.verification.margins import Chosen

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")

# As ac_fixed.h numbers its modes.
_AC_ROUNDING = (Rounding.TRN, Rounding.RND, Rounding.TRN_ZERO, Rounding.RND_ZERO, Rounding.RND_INF,
                Rounding.RND_MIN_INF, Rounding.RND_CONV)  # fmt: skip
_AC_OVERFLOW = (Overflow.WRAP, Overflow.SAT, Overflow.SAT_ZERO, Overflow.SAT_SYM)


@dataclass(frozen=True)
class CatapultOptions:
    """``library`` is the technology as Catapult names it, with its ``vendor``, ``technology`` and the ``rtl_tool`` that
    synthesises for it; the default, Nangate's open 45 nm, is for a first look: put your own in its place. ``memories``
    are libraries of memories. ``weight_memory`` is the module, such as my_roms.rom_256x48, that holds the weights of
    layers with shared multipliers; by default they become logic. ``clock_ns`` is the period in nanoseconds.

    ``vectors`` are values for the test bench, (samples, \\*shape), one array or a tuple with one per input; by default
    100 samples that exercise the whole range of every input. More are added that take comparisons of the design to
    sides that these do not reach; ``effort`` scales how long is searched for them, 0 adds none.
    """

    library: str = "nangate-45nm_beh"
    vendor: str = "Nangate"
    technology: str = "045nm"
    rtl_tool: str = "DesignCompiler"
    memories: tuple[str, ...] = ("ccs_sample_mem", "ccs_sample_rom")
    weight_memory: str | None = None
    clock_ns: float = 5.0
    effort: float = 1.0
    vectors: ArrayLike | tuple[ArrayLike, ...] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_clock(self.clock_ns)
        memories = (self.memories,) if isinstance(self.memories, str) else tuple(self.memories)
        object.__setattr__(self, "memories", memories)
        named = {name: getattr(self, name) for name in ("library", "vendor", "technology", "rtl_tool")}
        named |= {f"memories[{index}]": name for index, name in enumerate(memories)}
        if self.weight_memory is not None:
            named["weight_memory"] = self.weight_memory
        for option, name in named.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise BackendError(f"{option} is a name of letters, digits and _.+- as Catapult lists it; got {name!r}")
        number = isinstance(self.effort, int | float) and not isinstance(self.effort, bool)
        if not number or not 0 <= self.effort <= 1000:
            raise BackendError(f"effort scales the search for vectors, from 0 (none) to 1000; got {self.effort!r}")


@dataclass(frozen=True)
class Memory:
    """A table of constants as a memory would hold it."""

    table: str
    words: int
    word_bits: int


def _memories(step: Step) -> Iterator[Memory]:
    """The tables of a layer with shared multipliers that are read word by word; those of others are wires."""
    reuse = getattr(step.op, "reuse_factor", 1)
    if reuse == 1 or step.stored:
        return
    bits = {kind.name: kind.format.width if hasattr(kind, "format") else kind.bits for kind in step.types}
    for table in step.tables.values():
        if table.shape[0] == reuse and len(table.shape) == 2:
            entry = sum(bits[name] for name in re.findall(r"\w+_t\b", table.type))  # one type, or those of its fields
            yield Memory(table.name, reuse, table.shape[1] * entry)


def _context(firmware: Firmware, options: CatapultOptions) -> Mapping[str, Any]:
    given = vectors(firmware, options.vectors)
    coverage = cover(firmware.graph, [v.codes for v in given[: len(firmware.inputs)]], options.effort)
    traced = firmware.graph.trace(*coverage.vectors)
    made = {port.name: Vectors(port, traced[port.signal.tensor.name]) for port in firmware.ports}
    summary = _summary(coverage)
    proofs = {"select": _proofs(firmware, coverage), "summary": summary}
    return {
        "options": options,
        "vectors": made,
        "samples": len(coverage.vectors[0]),
        "given": len(given[0].codes),
        "copies": [name for step in firmware for each in step.stored if not each.is_outside for name in each.names],
        "loads": [name for step in firmware for each in step.stored if each.is_outside for name in each.names],
        "memories": [memory for step in firmware for memory in _memories(step)],
        "comparisons": [*summary, "", *_table(coverage)],
        "proofs": json.dumps(proofs, indent=2),
        "gcov": package_files("export.verification").joinpath("gcov.py").read_text(encoding="utf-8"),
    }


def _summary(coverage: Coverage) -> list[str]:
    outcomes = coverage.outcomes
    sides = sum(2 * o.comparison.sites for o in outcomes)
    reached = sum(int(o.held.sum() + o.failed.sum()) for o in outcomes)
    excluded = sum(int(o.comparison.never.sum() + o.comparison.always.sum()) for o in outcomes)
    return [
        f"comparators of the design: {sides} sides, {reached} reached by the vectors, "
        f"{excluded} proved unreachable, {coverage.open_sites} open",
        *(f"not counted: {reason}" for reason in coverage.unlisted),
    ]


def _table(coverage: Coverage) -> Iterator[str]:
    """Every side of every comparator that no vector reaches, and whether that is proved."""
    for outcome in coverage.outcomes:
        c = outcome.comparison
        for holds, reached, excluded in (("holds", outcome.held, c.never), ("fails", outcome.failed, c.always)):
            for sites, why in ((excluded, "unreachable by interval arithmetic"), (~reached & ~excluded, "OPEN")):
                if sites.any():
                    places = ", ".join(map(str, np.flatnonzero(sites).tolist()))
                    what = f"{json.dumps(c.op.name)}: {c.condition} {holds}"
                    yield f"{what}: {why} in {sites.sum()} of {c.sites}: {places}"


def _proofs(firmware: Firmware, coverage: Coverage) -> dict[str, dict[str, str | None]]:
    """For the number type, as g++ mangles it, that ``select`` chooses between: why a side of it is never taken.

    Layers may share a type; a side is excluded where every one of them excludes it, and none is unknown.
    """
    if coverage.unlisted:
        return {}
    sharing: dict[str, list[Outcome]] = {}
    for outcome in coverage.outcomes:
        for chosen in outcome.comparison.chosen:
            sharing.setdefault(_mangled(firmware, chosen), []).append(outcome)
    return {
        kind: {
            "held": _proof(some, "holds") if all(o.comparison.never.all() for o in some) else None,
            "failed": _proof(some, "fails") if all(o.comparison.always.all() for o in some) else None,
        }
        for kind, some in sharing.items()
    }


def _proof(outcomes: list[Outcome], holds: str) -> str:
    conditions = [f"{json.dumps(o.comparison.op.name)}: {o.comparison.condition}" for o in outcomes]
    return f"by interval arithmetic from the inputs none of these {holds}: {'; '.join(conditions)}"


def _mangled(firmware: Firmware, chosen: Chosen) -> str:
    if isinstance(chosen, FixedPoint):
        return mangled(chosen, Modes())
    name = firmware.signals[chosen].type
    kind = next(kind for step in firmware for kind in step.types if isinstance(kind, SignalType) and kind.name == name)
    return mangled(kind.format, siemens_modes(kind.format, kind.modes))


def mangled(fmt: FixedPoint, modes: Modes) -> str:
    """``ac_fixed<W, I, S, Q, O>`` as the Itanium C++ ABI writes it."""

    def number(value: int) -> str:
        return f"n{-value}" if value < 0 else str(value)

    rounding, overflow = _AC_ROUNDING.index(modes.rounding), _AC_OVERFLOW.index(modes.overflow)
    return (
        f"8ac_fixedILi{fmt.width}ELi{number(fmt.integer)}ELb{int(fmt.signed)}"
        f"EL9ac_q_mode{rounding}EL9ac_o_mode{overflow}EE"
    )


CATAPULT = Backend(
    name="catapult",
    files={
        **FIRMWARE,
        "catapult/{name}_channels.h": "catapult/channels.h.j2",
        "catapult/{name}_channels.cpp": "catapult/channels.cpp.j2",
        "catapult/scverify.h": "catapult/scverify.h.j2",
        "tb/{name}_tb.cpp": "catapult/tb.cpp.j2",
        "tb/data/{port}.dat": "vitis/vectors.dat.j2",
        "tb/data/{weights}.dat": "catapult/weights.dat.j2",
        "build.tcl": "catapult/build.tcl.j2",
        "directives.tcl": "catapult/directives.tcl.j2",
        "Makefile": "catapult/Makefile.j2",
        ".clang-tidy": "catapult/clang-tidy.j2",
        "verify/coverage.py": "catapult/coverage.py.j2",
        "verify/comparisons.json": "catapult/comparisons.json.j2",
        "verify/comparisons.txt": "catapult/comparisons.txt.j2",
        "README.md": "catapult/README.md.j2",
    },
    spelling=AC,
    ios=tuple(Io),
    delivery=Delivery.WIRES,
    options=CatapultOptions,
    context=_context,
)
