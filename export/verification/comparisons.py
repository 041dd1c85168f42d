"""The comparators that a design consists of: what each op compares with what, and on which side it can come out.

A comparison is described by its *margin*, an integer that is positive exactly where the condition holds. Margins come
from codes, so that the same few lines say what a sample reaches and, at the ends of what a tensor can be, what no
sample reaches: a margin rises or falls with each of the few elements that it depends on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch
from itertools import product

import numpy as np

from compress.fixed import Codes, FixedPoint, Overflow, magnitude, rescaled
from export.arithmetic import shifted
from export.intervals import Bounds
from export.ir import Graph, Op, Tensor
from export.modes import Modes
from export.ops import (
    Add,
    Affine,
    BySign,
    Cast,
    ChannelCast,
    Clip,
    Concat,
    Conv,
    Dense,
    Input,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Rearrange,
    ReLU,
    Reshape,
    SparseDense,
    Subtract,
    SumPool,
    Table,
    Threshold,
)
from export.ops.casts import along_channels
from export.ops.windows import PADDING


class UnlistedError(TypeError):
    """Nobody has written down what an op compares."""


@dataclass(frozen=True, eq=False)
class Margin:
    """``values``, (batch, sites), are positive where ``condition`` holds.

    ``chosen`` is the tensor whose numbers the kernel's ``select`` chooses between; None for what a cast compares.
    """

    condition: str
    values: Codes
    chosen: Tensor | None = None


@singledispatch
def margins(op: Op, *codes: Codes) -> Iterator[Margin]:
    """The comparisons of ``op`` on input codes of shape (batch, \\*shape). Raises UnlistedError if unknown."""
    raise UnlistedError(f"{op.name}: the comparisons of {type(op).__name__} are not listed")


@margins.register(Input)  # rounded and limited before it enters
@margins.register(Reshape)
@margins.register(Rearrange)
@margins.register(Concat)
@margins.register(Table)
@margins.register(Add)
@margins.register(Subtract)
@margins.register(Multiply)
@margins.register(SumPool)
def _(op: Op, *codes: Codes) -> Iterator[Margin]:
    yield from ()


@margins.register(Conv)
@margins.register(Dense)
@margins.register(SparseDense)
def _(op: Conv | Dense | SparseDense, *codes: Codes) -> Iterator[Margin]:
    if op.modes is not None and op.modes.overflow is not Overflow.WRAP:
        raise UnlistedError(f"{op.name}: a sum that saturates at every step is not listed")
    yield from ()


@margins.register
def _(op: ReLU, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    yield Margin("x > 0", _sites(x), op.x)


@margins.register
def _(op: Clip, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    low, high = (along_channels(c.codes, op.x.shape) for c in (op.low, op.high))
    yield Margin("x < low", _sites(low - _roomy(x)), op.x)
    yield Margin("x > high", _sites(np.maximum(_roomy(x), low) - high), op.x)


@margins.register(Maximum)
@margins.register(Minimum)
def _(op: Maximum | Minimum, *codes: Codes) -> Iterator[Margin]:
    a, b = (shifted(_roomy(x), op.output.format.frac - t.format.frac) for x, t in zip(codes, op.inputs, strict=True))
    larger = isinstance(op, Maximum)
    yield Margin("a > b" if larger else "a < b", _sites(a - b if larger else b - a), op.output)


@margins.register
def _(op: BySign, *codes: Codes) -> Iterator[Margin]:
    yield Margin("x >= 0", _sites(_roomy(codes[0]) + 1), op.output)


@margins.register
def _(op: MaxPool, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    yield _largest_yet(op, x, x)


@margins.register
def _(op: Threshold, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    for step, level in enumerate(op.level.codes.T):
        yield Margin(f"x >= level {step}", _sites(_roomy(x) - along_channels(level, op.x.shape) + 1), op.output)


@margins.register
def _(op: Cast, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    yield from _limits(x, op.x.format.frac, op.output.format, op.modes)


@margins.register
def _(op: ChannelCast, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    for channel, fmt in enumerate(op.formats):
        if fmt is not None:
            for margin in _limits(x[:, channel : channel + 1], op.x.format.frac, fmt, op.modes):
                yield Margin(f"channel {channel}: {margin.condition}", margin.values)


@margins.register
def _(op: Affine, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    sums = op.exact_sums(Bounds(x, x)).low
    yield from _limits(sums, op.exact_frac, op.output.format, op.modes)


def _largest_yet(op: MaxPool, tap: Codes, before: Codes) -> Margin:
    """Each tap but the first that a window reads, against the largest of those before it. Padding is not compared."""
    inside = op.window.reads != PADDING
    compared = inside & (np.cumsum(inside, axis=1) > 1)
    least = op.x.format.min_code
    later, earlier = (op.window.taken(_roomy(x), least) for x in (tap, before))
    largest = np.maximum.accumulate(earlier, axis=-1)
    margin = later[..., 1:] - largest[..., :-1]
    return Margin("a tap > those before", _sites(margin[..., compared[:, 1:]]), op.x)


def _limits(x: Codes, frac: int, target: FixedPoint, modes: Modes) -> Iterator[Margin]:
    """What a cast compares with the ends of its range, if it does."""
    if modes.overflow is not Overflow.WRAP:
        low, high = target.ends(modes.overflow)
        rounded = _roomy(rescaled(x, frac, target.frac, modes.rounding))
        yield Margin(f"above {high}", _sites(rounded - high))
        yield Margin(f"below {low}", _sites(low - rounded))


def _roomy(codes: Codes) -> Codes:
    """In a dtype that survives the difference of two codes."""
    return codes if codes.dtype != object and magnitude(codes) < 1 << 61 else codes.astype(object)


def _sites(values: Codes) -> Codes:
    return np.asarray(values).reshape(len(values), -1)


def unlisted(graph: Graph) -> dict[Op, str]:
    """The ops whose comparisons are not known, and why."""
    reasons = {}
    for op in graph:
        try:
            list(margins(op, *(_ends(graph.bounds[t])[0] for t in op.inputs)))
        except UnlistedError as missing:
            reasons[op] = str(missing)
    return reasons


@dataclass(frozen=True, eq=False)
class Comparison:
    """One condition of one op, decided at every site. ``never`` and ``always`` are proved, by interval arithmetic."""

    op: Op
    condition: str
    chosen: Tensor | None
    never: np.ndarray
    always: np.ndarray

    @property
    def sites(self) -> int:
        return len(self.never)


class Comparisons:
    """Those of a whole graph, whose margins stand side by side. Ops that are not listed have none."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.unlisted = unlisted(graph)
        self._ops = tuple(op for op in graph if op not in self.unlisted)
        self.all = tuple(c for op in self._ops for c in _decided(graph, op))

    @property
    def sites(self) -> int:
        return sum(c.sites for c in self.all)

    def margins(self, *entering: Codes) -> np.ndarray:
        """(batch, sites), positive where a condition holds; only the sign is exact."""
        traced = self.graph.trace(*entering)
        kept = {(c.op.name, c.condition) for c in self.all}
        columns = [
            margin.values.astype(np.float64)
            for op in self._ops
            for margin in margins(op, *(traced[t.name] for t in op.inputs))
            if (op.name, margin.condition) in kept
        ]
        return np.concatenate([np.zeros((len(entering[0]), 0)), *columns], axis=1)


def _decided(graph: Graph, op: Op) -> Iterator[Comparison]:
    """The comparisons of ``op``, without those that its formats alone decide: they are no comparators."""
    reach = [graph.bounds[t] for t in op.inputs]
    formats = [Bounds.everywhere(t.shape, t.format.min_code, t.format.max_code) for t in op.inputs]
    by_reach, by_format = (list(zip(*extremes(op, *ends), strict=True)) for ends in (reach, formats))
    for here, anywhere in zip(by_reach, by_format, strict=True):
        values = np.concatenate([m.values for m in here])
        never, always = (np.asarray(side.all(axis=0)) for side in (values <= 0, values > 0))
        if here[0].chosen is None and max(int(m.values.max()) for m in anywhere) <= 0:
            continue
        yield Comparison(op, here[0].condition, here[0].chosen, never, always)


@singledispatch
def extremes(op: Op, *bounds: Bounds) -> Iterator[list[Margin]]:
    """The margins where they are least and where they are greatest, in whatever order: every input at either end."""
    for corner in product(*(_ends(b) for b in bounds)):
        yield list(margins(op, *corner))


@extremes.register
def _(op: MaxPool, *bounds: Bounds) -> Iterator[list[Margin]]:
    """A margin rises with one element and falls with others, of the same input."""
    low, high = _ends(bounds[0])
    yield [_largest_yet(op, low, high)]
    yield [_largest_yet(op, high, low)]


def _ends(bounds: Bounds) -> tuple[Codes, Codes]:
    return bounds.low[None], bounds.high[None]
