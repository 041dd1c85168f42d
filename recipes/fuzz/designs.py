"""The C++ of random networks, compiled many at a time, against their graphs: number types, arrays and streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from export.backend import Backend
from export.backends.emulator import EMULATOR, EMULATOR_AC, EMULATOR_AP
from export.emulation.vendor_headers import ac_include, ap_include
from export.streams.access import Io
from recipes.fuzz.batch import Batch, CompilationError
from recipes.fuzz.case import Case, Disagreement, traces_differ

#: Siemens' numbers in our own queues: ``ac_channel`` takes a compiler longer than everything that is computed.
_AC_IN_QUEUES = replace(
    EMULATOR_AC,
    name="emulator_ac_in_queues",
    spelling=replace(EMULATOR_AC.spelling, streams=EMULATOR.spelling.streams),
    headers=(*EMULATOR_AC.headers, "queue.h"),
)


def compiled(cases: Sequence[Case], folder: Path, every: int) -> Iterator[tuple[dict[str, int], list[Disagreement]]]:
    """What differs between graphs and the C++ of each number type, and how many were compared.

    One case in ``every`` is compiled with Xilinx's slow headers, and one streamed one with Siemens' slow channels.
    """
    arrays, streamed = ([case for case in cases if case.io is io] for io in Io)
    designs: list[tuple[Backend, Sequence[Case], Path | None, str]] = [
        (EMULATOR, arrays, None, "own C++, parallel"),
        (EMULATOR, streamed, None, "own C++, stream"),
    ]
    if (ac := ac_include()) is not None:
        queued = [case for number, case in enumerate(streamed) if number % every]
        designs += [
            (EMULATOR_AC, arrays, ac, "C++ with ac_fixed, parallel"),
            (EMULATOR_AC, streamed[::every], ac, "C++ with ac_fixed, stream, ac_channel"),
            (_AC_IN_QUEUES, queued, ac, "C++ with ac_fixed, stream"),
        ]
    if (ap := ap_include()) is not None:
        designs += [
            (EMULATOR_AP, arrays[::every], ap, "C++ with ap_fixed, parallel"),
            (EMULATOR_AP, streamed[::every], ap, "C++ with ap_fixed, stream, hls::stream"),
        ]
    for number, (backend, group, include, what) in enumerate(designs):
        if group:
            between = f"graph and {what}"
            yield {between: len(group)}, list(_differing(group, backend, folder / str(number), include, between))


def _differing(
    cases: Sequence[Case], backend: Backend, folder: Path, include: Path | None, between: str
) -> Iterator[Disagreement]:
    """Of cases that take data in one way."""
    tmr = [case.graph.name for case in cases if case.tmr]
    try:
        batch = Batch([case.graph for case in cases], backend, folder, include, cases[0].io, tmr)
    except Exception as error:  # a design that cannot be written is a find as is one that does not compile
        if len(cases) == 1:
            kind = "does not compile" if isinstance(error, CompilationError) else type(error).__name__
            yield Disagreement(cases[0].name, between, f"{kind}: {str(error)[:2000]}")
            return
        for number, case in enumerate(cases):  # find out which
            yield from _differing([case], backend, folder / str(number), include, between)
        return
    for case in cases:
        yield from traces_differ(case, between, batch.trace(case.graph.name, case.values))
