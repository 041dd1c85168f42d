"""Random ops that read several tensors, and that move numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from compress.fixed import FixedPoint, FixedPointError
from export.intervals import Bounds
from export.ir import Op, Tensor
from export.ops import Add, ArgMax, BySign, Concat, Maximum, Minimum, Multiply, Rearrange, Subtract
from export.ops.casts import covering


class Drawing(Protocol):
    """A graph that is being drawn: each method adds an op that reads ``x``, and returns what it makes."""

    rng: np.random.Generator
    reach: dict[Tensor, Bounds]

    def add(self, op: Op) -> Tensor: ...

    def tensor(self, what: str, shape: tuple[int, ...], fmt: FixedPoint) -> Tensor: ...

    def cast(self, x: Tensor) -> Tensor: ...


#: Bits beyond which numbers meet no more, so that what follows has room.
_WIDEST = 30


def met(draw: Drawing, x: Tensor) -> Tensor:
    """Two or three tensors of one shape, formats of their own, element by element."""
    a = draw.cast(x)
    b = draw.cast(x) if draw.rng.random() < 0.7 else x
    if a.format.width + b.format.width > _WIDEST:
        return a
    try:
        return draw.add(_chosen(draw, x, a, b) if draw.rng.random() < 0.5 else _computed(draw, a, b))
    except FixedPointError:  # binary points far apart
        return a


def _chosen(draw: Drawing, x: Tensor, a: Tensor, b: Tensor) -> Op:
    made, fate = draw.tensor("chosen", x.shape, covering((a.format, b.format))), draw.rng.integers(3)
    return BySign(made, x, a, b) if fate == 0 else Maximum(made, a, b) if fate == 1 else Minimum(made, a, b)


def _computed(draw: Drawing, a: Tensor, b: Tensor) -> Op:
    """In the narrowest format that holds every result."""
    kind = (Add, Subtract, Multiply)[draw.rng.integers(3)]
    frac = a.format.frac + b.format.frac if kind is Multiply else max(a.format.frac, b.format.frac)
    draft = kind(draw.tensor("met", a.shape, FixedPoint(64, frac)), a, b)
    need = draft.bounds(draw.reach[a], draw.reach[b]).format(frac)
    return replace(draft, output=replace(draft.output, format=need))


def moved(draw: Drawing, x: Tensor) -> Tensor:
    """Any numbers in any order, some of them repeated, some the constant."""
    source = draw.rng.integers(-1 if draw.rng.random() < 0.5 else 0, x.size, size=x.shape)
    if draw.rng.random() < 0.5:
        source = draw.rng.permutation(x.size).reshape(x.shape)
    finer = int(draw.rng.integers(0, 2)) if x.format.width < _WIDEST else 0
    fmt = FixedPoint(x.format.width + finer, x.format.frac + finer, x.format.signed)
    fill = int(draw.rng.integers(fmt.min_code, fmt.max_code, endpoint=True))
    return draw.add(Rearrange(draw.tensor("moved", x.shape, fmt), x, tuple(source.ravel().tolist()), fill))


def joined(draw: Drawing, x: Tensor) -> Tensor:
    """Beside what it is in another format, along any axis."""
    if x.size > 8:
        return moved(draw, x)
    parts = (x, draw.cast(x)) if draw.rng.random() < 0.5 else (draw.cast(x), x)
    axis = int(draw.rng.integers(0, len(x.shape)))
    shape = tuple(n * (2 if place == axis else 1) for place, n in enumerate(x.shape))
    try:
        fmt = covering([part.format for part in parts])
    except FixedPointError:
        return x
    return draw.add(Concat(draw.tensor("joined", shape, fmt), parts, axis))


def ranked(draw: Drawing, x: Tensor) -> Tensor:
    """The place of the largest, beside everything else."""
    fmt = ArgMax.indices(x)
    draw.add(ArgMax(draw.tensor("place", (1, *x.shape[1:]), fmt), x))
    return x
