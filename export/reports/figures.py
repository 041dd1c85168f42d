"""What a report says, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Tool(Enum):
    VIVADO_HLS = "Vivado HLS"
    VITIS_HLS = "Vitis HLS"
    VIVADO = "Vivado"


@dataclass(frozen=True)
class Span:
    """From the least to the most; None where the tool does not know, as for a loop that data end."""

    least: int | None
    most: int | None

    def __str__(self) -> str:
        ends = ["?" if end is None else f"{end:,}" for end in (self.least, self.most)]
        return ends[0] if ends[0] == ends[1] else "-".join(ends)


@dataclass(frozen=True)
class Times:
    """The same in nanoseconds."""

    least: float | None
    most: float | None


@dataclass(frozen=True)
class Resources:
    """Numbers of each; block RAMs of 18 Kbit. None where the report has no such entry."""

    lut: int
    ff: int
    dsp: int
    bram18: int
    uram: int | None


@dataclass(frozen=True)
class Module:
    """A function below the one that a report is about, by instance. A part that the report leaves out is None."""

    instance: str
    module: str
    latency: Span | None
    interval: Span | None
    used: Resources | None


@dataclass(frozen=True)
class Synthesis:
    """What an HLS tool estimates for one function: latency in cycles and ns, cycles between two inputs, resources.

    ``latency_ns`` is None where the report does not state it (Vivado HLS before 2019.2, in text), and so is
    ``pipeline``, which is in the tool's own words.
    """

    path: Path
    tool: Tool
    version: str
    part: str
    function: str
    clock_target_ns: float
    clock_estimated_ns: float | None
    clock_uncertainty_ns: float | None
    latency: Span
    latency_ns: Times | None
    interval: Span
    pipeline: str | None
    used: Resources
    available: Resources
    modules: tuple[Module, ...] = ()

    @property
    def meets_clock(self) -> bool | None:
        """Whether the estimate leaves the uncertainty that the target asks for; None where one is unknown."""
        if self.clock_estimated_ns is None:
            return None
        return self.clock_estimated_ns <= self.clock_target_ns - (self.clock_uncertainty_ns or 0.0)


class Status(Enum):
    PASS = "Pass"
    FAIL = "Fail"
    NOT_RUN = "NA"


@dataclass(frozen=True)
class Simulation:
    """The co-simulation in one language. ``average`` latency and interval are in cycles too."""

    language: str
    status: Status
    latency: Span
    latency_average: int | None
    interval: Span
    interval_average: int | None
    total_cycles: int | None


@dataclass(frozen=True)
class Cosimulation:
    """Whether the RTL gave what the C++ gave, and how many cycles it took. One that failed is a result too."""

    path: Path
    runs: tuple[Simulation, ...]

    @property
    def passed(self) -> bool | None:
        """None where nothing was run."""
        ran = [run.status is Status.PASS for run in self.runs if run.status is not Status.NOT_RUN]
        return all(ran) if ran else None


@dataclass(frozen=True)
class Utilization:
    """What Vivado counted at one stage of the design: ``Synthesized``, ``Routed``, ..."""

    path: Path
    version: str
    design: str
    part: str
    stage: str
    used: Resources
    available: Resources


Report = Synthesis | Cosimulation | Utilization
