"""What each op compares with what, and how far a sample is from the other side of it.

A comparison is described by its *margin*, an integer that is positive exactly where the condition holds. Margins come
from codes, so that the same few lines say what a sample reaches and, at the ends of what a tensor can be, what no
sample reaches: a margin rises or falls with each of the few numbers that it depends on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch
from itertools import product
from typing import TypeAlias

import numpy as np

from compress.fixed import Codes, FixedPoint, Overflow, as_codes, magnitude, rescaled
from export.arithmetic import shifted
from export.intervals import Bounds, spanned
from export.ir import Op, Tensor
from export.modes import Modes
from export.ops import (
    Add,
    Affine,
    ArgMax,
    BinaryDense,
    BySign,
    Cast,
    ChannelCast,
    Clip,
    Concat,
    Input,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Rearrange,
    ReLU,
    Reshape,
    Softmax,
    Subtract,
    SumOfProducts,
    SumPool,
    Table,
    Threshold,
)
from export.ops.casts import along_channels
from export.ops.softmax import TO_INDEX, TO_MANTISSA
from export.ops.windows import PADDING

#: What a kernel's ``select`` chooses between: the numbers of a tensor, or numbers of a format that are no tensor's.
Chosen: TypeAlias = Tensor | FixedPoint


class UnlistedError(TypeError):
    """Nobody has written down what an op compares."""


@dataclass(frozen=True, eq=False)
class Margin:
    """``values``, (batch, sites), are positive where ``condition`` holds.

    ``chosen`` is between what the kernel's ``select`` chooses by it; nothing for what a cast compares.
    """

    condition: str
    values: Codes
    chosen: tuple[Chosen, ...] = ()


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


@margins.register
def _(op: SumOfProducts, *codes: Codes) -> Iterator[Margin]:
    if op.modes is not None and op.modes.overflow is not Overflow.WRAP:
        (x,) = codes
        yield from _saturations(op, Bounds(x, x))[0]


@margins.register
def _(op: BinaryDense, *codes: Codes) -> Iterator[Margin]:
    """Each input is compared with every weight that it meets; those are of two kinds at most."""
    (x,) = codes
    for bit, sign in enumerate(("-1", "+1")):
        met = (op.weight.codes == bit).any(axis=0)
        if met.any():
            yield Margin(f"x agrees with a weight of {sign}", x[:, met] if bit else 1 - x[:, met], (op.count,))


@margins.register
def _(op: ArgMax, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    yield from _duels(op, x, x)


@margins.register
def _(op: Softmax, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    distance = (x.max(axis=1, keepdims=True) if op.high is None else op.high.codes) - _roomy(x)
    terms = op.exponentials.codes[TO_INDEX.cast(distance, op.x.format.frac, op.index)]
    total = terms.sum(axis=1)
    yield from _of_softmax(op, (x, x), distance, total, terms * op.reciprocal(total)[:, None])


@margins.register
def _(op: ReLU, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    yield Margin("x > 0", _sites(x), (op.x,))


@margins.register
def _(op: Clip, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    low, high = (along_channels(c.codes, op.x.shape) for c in (op.low, op.high))
    yield Margin("x < low", _sites(low - _roomy(x)), (op.output,))
    yield Margin("x > high", _sites(_roomy(x) - high), (op.output,))


@margins.register(Maximum)
@margins.register(Minimum)
def _(op: Maximum | Minimum, *codes: Codes) -> Iterator[Margin]:
    a, b = (shifted(_roomy(x), op.output.format.frac - t.format.frac) for x, t in zip(codes, op.inputs, strict=True))
    larger = isinstance(op, Maximum)
    yield Margin("a > b" if larger else "a < b", _sites(a - b if larger else b - a), (op.output,))


@margins.register
def _(op: BySign, *codes: Codes) -> Iterator[Margin]:
    yield Margin("x >= 0", _sites(_roomy(codes[0]) + 1), (op.output,))


@margins.register
def _(op: MaxPool, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    yield _largest_yet(op, x, x)


@margins.register
def _(op: Threshold, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    for step, level in enumerate(op.level.codes.T):
        yield Margin(f"x >= level {step}", _sites(_roomy(x) - along_channels(level, op.x.shape) + 1), (op.output,))


@margins.register
def _(op: Cast, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    yield from _limits(x, op.x.format.frac, op.output.format, op.modes)


@margins.register
def _(op: ChannelCast, *codes: Codes) -> Iterator[Margin]:
    (x,) = codes
    for channel, fmt in enumerate(op.formats):
        if fmt is not None:
            yield from _limits(x[:, channel : channel + 1], op.x.format.frac, fmt, op.modes, f"channel {channel}")


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
    return Margin("a tap > those before", _sites(margin[..., compared[:, 1:]]), (op.x,))


def _duels(op: ArgMax, ahead: Codes, behind: Codes) -> Iterator[Margin]:
    """The two halves of each part of the tree against each other."""

    def parts(first: int, count: int) -> Iterator[Codes]:
        if count > 1:
            half = count // 2
            one, other = ahead[:, first : first + half], behind[:, first + half : first + count]
            yield _sites(_roomy(one).max(axis=1) - other.max(axis=1) + 1)
            yield from parts(first, half)
            yield from parts(first + half, count - half)

    if op.x.shape[0] > 1:
        every = np.concatenate(list(parts(0, op.x.shape[0])), axis=1)
        yield Margin("a part of the channels >= the next", every, (op.x, op.output))


def _of_softmax(op: Softmax, x: tuple[Codes, Codes], distance: Codes, total: Codes, result: Codes) -> Iterator[Margin]:
    """``x`` as each is compared and as those before it are; the others are numbers on the way."""
    if op.high is None:
        later, earlier = map(_roomy, x)
        yield Margin("x > those before", later[:, 1:] - np.maximum.accumulate(earlier, axis=1)[:, :-1], (op.x,))
    yield from _limits(distance, op.x.format.frac, op.index, TO_INDEX, "the distance")
    for octave in op.octaves[1:]:
        least = 1 << max(0, op.sums.frac + octave)
        yield Margin(f"the sum >= 2**{octave}", total[:, None] - least + 1, (op.reciprocals.format,))
    yield from _limits(result, op.product_frac, op.output.format, op.modes, "the result")


def _saturations(op: SumOfProducts, reach: Bounds) -> tuple[list[Margin], list[Margin]]:
    """Every product and every sum of a row against the ends of the accumulator, where it is least and greatest.

    ``reach`` carries a batch axis.
    """
    assert op.modes is not None
    acc, modes = op.output.format, op.modes
    wide = op.x.format.width + op.weight.format.width > 62
    operands = [op.operands(x.astype(object) if wide else x) for x in (reach.low, reach.high)]
    channels = len(op.matrix) // operands[0].shape[1]  # of a group
    bias = modes.cast(op.bias.codes, op.bias.format.frac, acc)[:, None]
    total = Bounds(bias, bias)
    found: tuple[dict[str, list[Codes]], dict[str, list[Codes]]] = (defaultdict(list), defaultdict(list))
    for k, weights in enumerate(op.matrix.T):
        ends = [np.repeat(x[..., k], channels, axis=1) * weights[:, None] for x in operands]
        exact = Bounds(np.minimum(*ends), np.maximum(*ends))
        added = modes.bounds(exact, op.product_frac, acc)
        sums = Bounds(_roomy(total.low) + added.low, _roomy(total.high) + added.high)
        total = modes.bounds(sums, acc.frac, acc)
        for what, frac, numbers in (("a product", op.product_frac, exact), ("a partial sum", acc.frac, sums)):
            for end, codes in zip(found, (numbers.low, numbers.high), strict=True):
                for margin in _limits(codes, frac, acc, modes, what):
                    end[margin.condition].append(margin.values)
    least, greatest = ([Margin(name, np.concatenate(parts, axis=1)) for name, parts in end.items()] for end in found)
    return least, greatest


def _limits(x: Codes, frac: int, target: FixedPoint, modes: Modes, what: str = "x") -> Iterator[Margin]:
    """What a cast compares with the ends of its range, if it does."""
    if modes.overflow is not Overflow.WRAP:
        low, high = target.ends(modes.overflow)
        rounded = _roomy(rescaled(x, frac, target.frac, modes.rounding))
        yield Margin(f"{what} is above {high}", _sites(rounded - high))
        yield Margin(f"{what} is below {low}", _sites(low - rounded))


def _roomy(codes: Codes) -> Codes:
    """In a dtype that survives the difference of two codes."""
    return codes if codes.dtype != object and magnitude(codes) < 1 << 61 else codes.astype(object)


def _sites(values: Codes) -> Codes:
    return np.asarray(values).reshape(len(values), -1)


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


@extremes.register
def _(op: ArgMax, *bounds: Bounds) -> Iterator[list[Margin]]:
    low, high = _ends(bounds[0])
    yield list(_duels(op, low, high))
    yield list(_duels(op, high, low))


@extremes.register
def _(op: SumOfProducts, *bounds: Bounds) -> Iterator[list[Margin]]:
    if op.modes is not None and op.modes.overflow is not Overflow.WRAP:
        yield from _saturations(op, Bounds(*_ends(bounds[0])))


@extremes.register
def _(op: Softmax, *bounds: Bounds) -> Iterator[list[Margin]]:
    """Number by number on the way, each as far as those before it and its table let it go."""
    low, high = _ends(bounds[0])
    near, far = _distances(op, low[0], high[0])
    places = (TO_INDEX.cast(d, op.x.format.frac, op.index) for d in (near, far))
    terms = spanned(np.broadcast_to(op.exponentials.codes, (op.x.size, len(op.exponentials.codes))), *places)
    least, most = int(terms.low.sum()), int(terms.high.sum())
    if op.high is None:  # whichever is the largest x adds one
        least += int(op.exponentials.codes[0] - terms.low.max())
    smallest, largest = _reciprocals(op, least, most)
    yield list(_of_softmax(op, (low, high), near[None], as_codes([least]), (terms.low * smallest)[None]))
    yield list(_of_softmax(op, (high, low), far[None], as_codes([most]), (terms.high * largest)[None]))


def _distances(op: Softmax, low: Codes, high: Codes) -> tuple[Codes, Codes]:
    """The least and the greatest distance of each x from the largest, or from what none exceeds."""
    low, high = _roomy(low), _roomy(high)
    if op.high is not None:
        return op.high.codes - high, op.high.codes - low
    near, far = (
        [max(0, int(np.delete(others, i).max(initial=others.min()) - one)) for i, one in enumerate(x)]
        for x, others in ((high, low), (low, high))
    )
    return as_codes(near), as_codes(far)


def _reciprocals(op: Softmax, low: int, high: int) -> tuple[int, int]:
    """The least and the greatest entry that sums from ``low`` to ``high`` read."""
    found: list[int] = []
    for row, octave in zip(op.reciprocals.codes, op.octaves, strict=True):
        frac = max(0, op.sums.frac + octave)
        first = low if octave == op.octaves[0] else max(low, 1 << frac)
        last = min(high, (2 << frac) - 1)
        if first <= last:
            begin, end = TO_MANTISSA.cast(as_codes([first, last]), frac, op.mantissa).tolist()
            found += row[begin : end + 1].tolist() if first >> frac else row.tolist()
    return min(found), max(found)


def _ends(bounds: Bounds) -> tuple[Codes, Codes]:
    return bounds.low[None], bounds.high[None]
