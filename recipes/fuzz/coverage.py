"""What a campaign has met: ops, their options, number formats, shapes, ways of taking data, each counted by network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import isabstract

from compress.columns import columns
from compress.fixed import Overflow, Rounding
from export import ops
from export.backends.intel import Interface
from export.backends.settings import Memory
from export.firmware.storage import Weights
from export.ir import Op
from export.modes import Modes
from export.ops import Dense, Sparse, SumOfProducts
from export.streams.access import Io
from recipes.fuzz.case import ORIGINS, Case
from recipes.fuzz.projects import TARGETS


def features(case: Case) -> set[str]:
    """Everything about a network that is counted; each counts once for it."""
    return set(_features(case))


def _features(case: Case) -> Iterator[str]:
    yield f"io: {case.io.value}"
    yield f"origin: {case.origin}"
    if case.tmr:
        yield "constants: stored three times"
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
            rows = op.matrix.any(axis=1)
            if not rows.all():
                yield f"{kind}: {'outputs without weights' if rows.any() else 'no weights left'}"
            if op.reuse_factor > 1 and op.digit:
                yield f"{kind}: {op.digit.name} weights share hardware"
            if isinstance(op, Dense) and not op.has_all_multipliers:
                yield f"{kind}: multipliers without weights"
        width = op.output.format.width
        yield f"width: {'1' if width == 1 else '2 to 8' if width <= 8 else '9 to 32' if width <= 32 else '33 to 64'}"
        yield f"sign: {'signed' if op.output.format.signed else 'unsigned'}"


def expected() -> tuple[str, ...]:
    """What a campaign should meet: every op, alone and streamed, with all it can be asked for; every backend."""
    met = [f"io: {io.value}" for io in Io] + [f"origin: {origin}" for origin in ORIGINS]
    met += [f"modes: {rounding.value}, {overflow.value}" for rounding in Rounding for overflow in Overflow]
    met.append("constants: stored three times")
    for kind in (getattr(ops, name) for name in ops.__all__):
        if not issubclass(kind, Op) or isabstract(kind):
            continue
        met.append(f"op before the passes: {kind.__name__}")
        if not kind.has_kernel:
            continue
        met += [f"op: {kind.__name__}", f"streamed: {kind.__name__}"]
        if issubclass(kind, SumOfProducts):
            ways = ("shared multipliers", "fully parallel", "exact sums", "cast sums", "outputs without weights")
            met += [f"{kind.__name__}: {way}" for way in ways]
            digits = ("ternary",) if issubclass(kind, Sparse) else ("binary", "ternary")
            met += [f"{kind.__name__}: {digit} weights share hardware" for digit in digits]
    met.append("Dense: multipliers without weights")
    for backend in TARGETS:
        met += [f"{backend.name}: io={io.value}" for io in backend.ios]
        if backend.delivery:
            met += [f"{backend.name}: weights={weights.value}" for weights in Weights]
    met += [f"{name}: weight_memory={memory.value}" for name in ("vitis", "vitis_accel") for memory in Memory]
    met += [f"intel: interface={interface.value}" for interface in Interface]
    return tuple(met)


def never(counted: Mapping[str, int]) -> list[str]:
    """What of :func:`expected` was not met: about that nothing has been compared."""
    return [name for name in expected() if not counted.get(name)]


def coverage_table(counted: Mapping[str, int], networks: int) -> str:
    """Every feature with the number of networks that had it, grouped as they are named."""
    rows = [(*name.split(": ", 1), f"{count:,}", f"{count / networks:.1%}") for name, count in sorted(counted.items())]
    return "\n".join(columns([("what", "which", "networks", "share"), *rows]))
