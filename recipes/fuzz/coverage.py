"""What a campaign has met: ops, their options, number formats, shapes, ways of taking data, each counted by network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compress.columns import columns
from export.modes import Modes
from export.ops import Dense, SparseDense
from export.ops.linear import SumOfProducts
from recipes.fuzz.case import Case


def features(case: Case) -> set[str]:
    """Everything about a network that is counted; each counts once for it."""
    return set(_features(case))


def _features(case: Case) -> Iterator[str]:
    yield f"io: {case.io.value}"
    yield "origin: torch" if case.expected is not None else "origin: ops, or torch with float scales"
    for op in case.before:
        yield f"op before the passes: {type(op).__name__}"
    for op in case.graph:
        kind = type(op).__name__
        yield f"op: {kind}"
        yield f"axes of a {kind}: {len(op.output.shape)}"
        if case.io.value == "stream":
            yield f"streamed: {kind}"
        if len(case.graph.consumers(op.output)) > 1:
            yield "readers: several"
        modes = getattr(op, "modes", None)
        if isinstance(modes, Modes):
            yield f"modes: {modes.rounding.value}, {modes.overflow.value}"
        if isinstance(op, SumOfProducts):
            yield f"{kind}: {'shared multipliers' if op.reuse_factor > 1 else 'fully parallel'}"
            yield f"{kind}: {'exact sums' if modes is None else 'cast sums'}"
            if isinstance(op, Dense | SparseDense) and not op.weight.codes.any():
                yield f"{kind}: no weights left"
        width = op.output.format.width
        yield f"width: {'1' if width == 1 else '2 to 8' if width <= 8 else '9 to 32' if width <= 32 else '33 to 64'}"
        yield f"sign: {'signed' if op.output.format.signed else 'unsigned'}"


def coverage_table(counted: Mapping[str, int], networks: int) -> str:
    """Every feature with the number of networks that had it, grouped as they are named."""
    rows = [(*name.split(": ", 1), f"{count:,}", f"{count / networks:.1%}") for name, count in sorted(counted.items())]
    return "\n".join(columns([("what", "which", "networks", "share"), *rows]))

