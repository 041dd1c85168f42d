"""Random integer graphs, small, seeded and covering.

``random_graph`` draws ops directly, so that it reaches what no frontend writes: all 7 x 4 modes everywhere, odd
formats, several readers and outputs. Beside it, :mod:`recipes.fuzz.planes` draws what has spatial axes, and
:mod:`recipes.fuzz.modules` what users train.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from compress.fixed import FixedPoint, FixedPointError, Overflow, Rounding
from export.intervals import Bounds
from export.ir import Const, Graph, Op, Tensor
from export.ops import (
    Affine,
    BinaryDense,
    Cast,
    ChannelCast,
    Clip,
    Conv,
    Dense,
    Input,
    Maximum,
    MaxPool,
    Modes,
    ReLU,
    Requantize,
    Reshape,
    SparseConv,
    SparseDense,
    SumOfProducts,
    SumPool,
    Table,
    Threshold,
)
from export.ops.binary import SIGN
from export.ops.casts import covering
from export.ops.reuse import by_step, legal_reuse_factors
from export.ops.windows import Adaptive, Sliding, Window, adaptive
from recipes.fuzz.meetings import joined, met, moved, ranked

SATURATING = (Overflow.SAT, Overflow.SAT_SYM)
MEETINGS = (met, met, met, moved, joined, ranked)


def random_modes(rng: np.random.Generator, overflows: tuple[Overflow, ...] = tuple(Overflow)) -> Modes:
    return Modes(list(Rounding)[rng.integers(7)], overflows[rng.integers(len(overflows))])


def random_format(rng: np.random.Generator, widest: int = 20) -> FixedPoint:
    width = int(rng.integers(1, widest + 1))
    return FixedPoint(width, int(rng.integers(-3, width + 4)), bool(rng.integers(2)))


def random_codes(rng: np.random.Generator, fmt: FixedPoint, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform codes, with the ends of the range and zero drawn far more often than chance would."""
    codes = rng.integers(fmt.min_code, fmt.max_code, size=shape, endpoint=True)
    special = rng.choice([fmt.min_code, fmt.max_code, 0], size=shape)
    return np.where(rng.random(shape) < 0.15, special, codes)


def random_inputs(rng: np.random.Generator, graph: Graph, samples: int) -> list[np.ndarray]:
    """Codes for each input of the graph, within its bounds."""
    drawn = []
    for op in graph:
        if not isinstance(op, Input):
            continue
        low, high = graph.bounds[op.output].range
        codes = np.clip(random_codes(rng, op.output.format, (samples, *op.output.shape)), low, high)
        drawn.append(op.settled(codes))
    return drawn


def random_graph(rng: np.random.Generator) -> Graph:
    """Up to about twelve ops, up to eight neurons wide, numbers of 1 to about 20 bits. Every one is read or leaves."""
    draw = _Draw(rng)
    x = draw.enter()
    makers = (draw.cast, draw.by_channel, draw.relu, draw.clip, draw.activation, draw.affine, draw.threshold,
              draw.table, draw.requantize, draw.maximum)  # fmt: skip
    for _ in range(rng.integers(1, 4)):
        x = (draw.counted if rng.random() < 0.1 else draw.dense)(draw.narrow(x))
        for _ in range(rng.integers(0, 4)):
            x = makers[rng.integers(len(makers))](x)
        if rng.random() < 0.6:
            x = MEETINGS[rng.integers(len(MEETINGS))](draw, x)
        if rng.random() < 0.15:  # somebody else reads it too
            draw.cast(x)
    read = {t for op in draw.ops for t in op.inputs}
    return Graph("random", tuple(draw.ops), tuple(op.output for op in draw.ops if op.output not in read))


class _Draw:
    """The ops so far. Every method adds one that reads ``x``, and returns what it makes."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.ops: list[Op] = []
        self.reach: dict[Tensor, Bounds] = {}

    def add(self, op: Op) -> Tensor:
        self.reach[op.output] = op.bounds(*(self.reach[t] for t in op.inputs))
        self.ops.append(op)
        return op.output

    def tensor(self, what: str, shape: tuple[int, ...], fmt: FixedPoint) -> Tensor:
        return Tensor(f"{what}{len(self.ops)}", shape, fmt)

    def enter(self) -> Tensor:
        """An input; one with several axes is cast or scaled there, then flattened."""
        several = self.rng.random() < 0.4
        size = self.rng.integers(1, 5, size=self.rng.integers(2, 4)) if several else [self.rng.integers(1, 9)]
        shape = tuple(int(n) for n in size)
        formats = self.formats(shape[0]) if self.rng.random() < 0.25 else None
        fmt = random_format(self.rng, 12) if formats is None else covering(formats)
        fmt = replace(fmt, width=max(fmt.width, 4)) if several and formats is None else fmt
        x = self.add(Input(self.tensor("in", shape, fmt), random_modes(self.rng), formats))
        if several:
            for make in (self.cast, self.conv, self.relu, self.affine, self.max_pool, self.sum_pool):
                x = make(x) if self.rng.random() < (0.6 if make == self.conv else 0.3) else x
            x = self.add(Reshape(self.tensor("flat", (x.size,), x.format), x))
        return x

    def narrow(self, x: Tensor) -> Tensor:
        """What a layer can read without its sums exceeding 64 bits."""
        return x if x.format.width <= 20 else self.cast(x)

    def cast(self, x: Tensor) -> Tensor:
        target, fate = random_format(self.rng), self.rng.random()
        if fate < 0.6:  # near the number's own binary point, or nothing would be left of it
            target = FixedPoint(target.width, x.format.frac + int(self.rng.integers(-4, 3)), target.signed)
        elif fate < 0.8 and x.format.width < 18:  # changes little or nothing
            more = int(self.rng.integers(0, 3))
            finer = int(self.rng.integers(0, more + 1))
            target = FixedPoint(x.format.width + more, x.format.frac + finer, x.format.signed)
        return self.add(Cast(self.tensor("cast", x.shape, target), x, random_modes(self.rng)))

    def formats(self, channels: int, frac: int = 2) -> tuple[FixedPoint | None, ...]:
        """One per channel, near a binary point, some the same, some absent."""
        widths, fracs = self.rng.integers(1, 7, size=3), frac + self.rng.integers(-3, 3, size=3)
        kinds = [FixedPoint(w, f, bool(self.rng.integers(2))) for w, f in zip(widths, fracs, strict=True)]
        return tuple(kinds[k] if k < 3 else None for k in self.rng.integers(0, 4, size=channels))

    def by_channel(self, x: Tensor) -> Tensor:
        formats = self.formats(x.shape[0], x.format.frac)
        return self.add(ChannelCast(self.tensor("own", x.shape, covering(formats)), x, formats, random_modes(self.rng)))

    def clip(self, x: Tensor) -> Tensor:
        if x.format.width > 50:
            return self.cast(x)
        ends = np.sort(random_codes(self.rng, x.format, (2, x.shape[0])), axis=0)
        low, high = (Const(codes, x.format) for codes in ends)
        return self.add(Clip(self.tensor("clip", x.shape, x.format), x, low, high))

    def maximum(self, x: Tensor) -> Tensor:
        """Of two casts, as a leaky relu is."""
        a, b = self.cast(x), self.cast(x)
        try:
            fmt = covering((a.format, b.format))
        except FixedPointError:
            return a
        return self.add(Maximum(self.tensor("max", x.shape, fmt), a, b))

    def table(self, x: Tensor) -> Tensor:
        """Any results at all, for all channels or for each."""
        low, high = self.reach[x].range
        if high - low >= 1 << 9:
            return self.cast(x)
        fmt, rows = random_format(self.rng, 8), 1 if self.rng.random() < 0.5 else x.shape[0]
        entries = Const(random_codes(self.rng, fmt, (rows, high - low + 1)), fmt)
        return self.add(Table(self.tensor("table", x.shape, fmt), x, low, entries))

    def relu(self, x: Tensor) -> Tensor:
        return self.add(ReLU(self.tensor("relu", x.shape, ReLU.positive(x.format)), x))

    def activation(self, x: Tensor) -> Tensor:
        """A relu and the unsigned quantizer that makes it idle."""
        r = self.relu(x)
        target = FixedPoint(int(self.rng.integers(1, 9)), x.format.frac - int(self.rng.integers(0, 5)), False)
        return self.add(Cast(self.tensor("activation", x.shape, target), r, random_modes(self.rng, SATURATING)))

    def constants(self, shape: tuple[int, ...], widest: int, zeros: float) -> Const:
        fmt = random_format(self.rng, widest)
        return Const(np.where(self.rng.random(shape) < zeros, 0, random_codes(self.rng, fmt, shape)), fmt)

    def weights(self, shape: tuple[int, ...], widest: int, zeros: float) -> Const:
        """Numbers, or signs alone."""
        drawn = self.constants(shape, widest, zeros)
        if drawn.format.width == 1 or self.rng.random() >= 0.15:
            return drawn
        fmt, kind = replace(drawn.format, signed=True), self.rng.integers(2)
        signs = np.sign(drawn.codes) if kind else np.where(drawn.codes > 0, 1, -1)
        return Const(signs << int(self.rng.integers(0, fmt.width - 1)), fmt)

    def window(self, x: Tensor, padding: int) -> Window | None:
        """Over all axes but the first, with so much padding on a side at most; None if a window were nothing else."""
        axes: list[Sliding | Adaptive] = []
        for size in x.shape[1:]:
            kernel, dilation = int(self.rng.integers(1, 4)), int(self.rng.integers(1, 3))
            before, after = (int(n) for n in self.rng.integers(0, min(padding, kernel - 1) + 1, size=2))
            kernel = min(kernel, (before + size + after - 1) // dilation + 1)
            axes.append(Sliding(size, kernel, int(self.rng.integers(1, 3)), dilation, before, after))
        window = Window(tuple(axes))
        return window if window.counts.all() else None

    def conv(self, x: Tensor) -> Tensor:
        """Grouped or not."""
        x, window = self.narrow(x), self.window(x, padding=2)
        if window is None:
            return x
        divisors = [n for n in range(1, x.shape[0] + 1) if x.shape[0] % n == 0]
        groups, made = divisors[self.rng.integers(len(divisors))], int(self.rng.integers(1, 4))
        weight = self.weights((groups * made, x.shape[0] // groups, *window.kernel), 6, zeros=0.4)
        shape = (groups * made, *window.positions)
        op = self.products("conv", x, weight, shape, partial(Conv, window=window))
        return self.add(self.sparse(op, SparseConv) if self.rng.random() < 0.2 else op)

    def max_pool(self, x: Tensor) -> Tensor:
        window = self.pooling(x)
        if window is None:
            return x
        return self.add(MaxPool(self.tensor("max", (x.shape[0], *window.positions), x.format), x, window))

    def sum_pool(self, x: Tensor) -> Tensor:
        window = self.pooling(x)
        if window is None or x.format.width > 40:
            return x
        count = window.counts.size if self.rng.random() < 0.5 else 1
        weight = Const(self.rng.integers(1, 16, size=count), FixedPoint(4, int(self.rng.integers(-1, 4)), False))
        widest = FixedPoint(64, x.format.frac + weight.format.frac)
        draft = SumPool(self.tensor("sum", (x.shape[0], *window.positions), widest), x, window, weight)
        return self.add(replace(draft, output=replace(draft.output, format=draft.accumulator(self.reach[x]))))

    def pooling(self, x: Tensor) -> Window | None:
        if self.rng.random() < 0.5:
            return self.window(x, padding=1)
        return Window(tuple(adaptive(size, int(self.rng.integers(1, size + 2))) for size in x.shape[1:]))

    def dense(self, x: Tensor) -> Tensor:
        n_in, n_out = x.size, int(self.rng.integers(1, 9))
        weight = self.weights((n_out, n_in), 8, zeros=self.rng.choice([0.0, 0.5, 0.9]))
        if self.rng.random() < 0.3:  # dead neurons
            dead = (self.rng.random((n_out, 1)) < 0.4) | (self.rng.random((1, n_in)) < 0.3)
            weight = Const(np.where(dead, 0, weight.codes), weight.format)
        op = self.products("dense", x, weight, (n_out,), Dense)
        if op.reuse_factor > 1 and self.rng.random() < 0.3:  # multipliers without any weight
            steps = by_step(np.arange(weight.codes.size).reshape(n_out, n_in), op.reuse_factor)
            idle = steps[:, self.rng.random(steps.shape[1]) < 0.5]
            codes = weight.codes.copy()
            codes.flat[idle.ravel()] = 0
            op = replace(op, weight=(weight := Const(codes, weight.format)))
        return self.add(self.sparse(op, SparseDense) if self.rng.random() < 0.3 else op)

    def sparse(self, op: Any, kind: type[SparseConv | SparseDense]) -> Op:
        """Without its zeros, with any reuse factor; as it is if nothing else is there."""
        nonzero = int(np.count_nonzero(op.weight.codes))
        if not nonzero:
            return op
        reuse = int(self.rng.integers(1, nonzero + 1))
        return kind.of(replace(op, reuse_factor=1), reuse_factor=reuse)

    def counted(self, x: Tensor) -> Tensor:
        """Signs, and how many of them agree with those of the weights."""
        n_out = int(self.rng.integers(1, 9))
        level, step = Const(random_codes(self.rng, x.format, (x.size, 1)), x.format), self.rng.choice([-1, 1], x.size)
        signs = self.tensor("signs", x.shape, SIGN)
        starts, steps = Const((step < 0).astype(np.int64), SIGN), Const(step, FixedPoint(2, 0))
        bits = self.add(Threshold(signs, x, level, starts, steps))
        weight, frac = Const(self.rng.integers(0, 2, (n_out, x.size)), SIGN), int(self.rng.integers(-2, 4))
        offset = self.constants((n_out,), 6, zeros=0.2)
        exact = max(frac, offset.format.frac)
        wide = BinaryDense(self.tensor("counted", (n_out,), FixedPoint(40, exact)), bits, weight, offset, frac)
        return self.add(replace(wide, output=replace(wide.output, format=wide.bounds(self.reach[bits]).format(exact))))

    def products(
        self, what: str, x: Tensor, weight: Const, shape: tuple[int, ...], make: Callable[..., SumOfProducts]
    ) -> Any:
        """A sum of products, exact or with modes, in a format that is legal for it, with any legal reuse factor."""
        bias = self.constants(shape[:1], 12, zeros=0.2)
        widest = FixedPoint(64, max(x.format.frac + weight.format.frac, bias.format.frac))
        exact = make(self.tensor(what, shape, widest), x, weight, bias)
        need = exact.accumulator(self.reach[x])
        modes = random_modes(self.rng) if self.rng.random() < 0.5 else None
        if modes is None:
            spare = int(self.rng.integers(0, 3)) if need.width < 60 else 0
            acc = FixedPoint(need.width + spare, need.frac + int(self.rng.integers(0, spare + 1)), need.signed)
        else:
            acc = FixedPoint(int(self.rng.integers(1, 21)), need.frac - int(self.rng.integers(0, 6)), need.signed)
        legal = legal_reuse_factors(exact.matrix.shape[1], shape[0])
        reuse = legal[self.rng.integers(len(legal))] if self.rng.random() < 0.4 else 1
        return make(self.tensor(what, shape, acc), x, weight, bias, modes, reuse)

    def affine(self, x: Tensor) -> Tensor:
        if x.format.width > 32:
            return self.cast(x)
        channels = x.shape[:1]
        scale = self.constants(channels, 8, zeros=0.1)
        if self.rng.random() < 0.3:
            scale = Const(np.ones(channels, dtype=np.int64), FixedPoint(2, int(self.rng.integers(-2, 5))))
        offset = self.constants(channels, 12, zeros=0.2)
        return self.add(Affine(self.near(x, "affine"), x, scale, offset, random_modes(self.rng)))

    def threshold(self, x: Tensor) -> Tensor:
        """Any staircase that stays within its format, up or down, on levels that may coincide."""
        low, high = self.reach[x].range
        channels, steps = x.shape[0], int(self.rng.integers(1, 6))
        if x.format.width > 50:
            return self.cast(x)
        level = np.sort(self.rng.integers(low, high + 1, size=(channels, steps), endpoint=True), axis=1)
        level = np.clip(level, x.format.min_code, x.format.max_code)
        out = random_format(self.rng, 8)
        out = FixedPoint(max(out.width, 4), out.frac, out.signed)
        step = self.rng.choice([-1, 1], size=channels)
        start = np.where(step > 0, out.min_code, out.max_code) + step * self.rng.integers(0, 4, size=channels)
        tensor = self.tensor("steps", x.shape, out)
        up = Const(step, FixedPoint(2, out.frac))
        return self.add(Threshold(tensor, x, Const(level, x.format), Const(start, out), up))

    def requantize(self, x: Tensor) -> Tensor:
        """Rational constants: any at all before a narrow saturating cast, short binary ones before any other."""
        if x.format.width > 28:
            return self.cast(x)
        channels = x.shape[0]
        if self.rng.random() < 0.6:
            out, modes = self.near(x, "requantize", widest=7), random_modes(self.rng, SATURATING)
            denominator = int(self.rng.choice([3, 7, 6, 96, 1000, 12345]))
        else:
            out, modes = self.near(x, "requantize"), random_modes(self.rng)
            denominator = int(self.rng.choice([1, 4, 64]))
        size = (1 / out.format.lsb) * x.format.lsb  # about one step of the output for each 2**drop codes of the input
        drop = Fraction(2) ** int(self.rng.integers(0, max(1, x.format.width)))
        numerators = self.rng.integers(-2 * denominator, 4 * denominator, size=channels)
        scale = tuple(Fraction(int(n), denominator) / (size * drop) for n in numerators)
        offsets = self.rng.integers(-8 * denominator, 8 * denominator, size=channels)
        offset = tuple(Fraction(int(n), denominator) * out.format.lsb for n in offsets)
        if self.rng.random() < 0.3 and modes.overflow in SATURATING:
            formats = self.formats(channels, out.format.frac)
            own = self.tensor("requantize", x.shape, covering(formats))
            return self.add(Requantize(own, x, scale, offset, modes, formats))
        return self.add(Requantize(out, x, scale, offset, modes))

    def near(self, x: Tensor, what: str, widest: int = 14) -> Tensor:
        """An output whose binary point is not far from that of ``x``."""
        fmt = random_format(self.rng, widest)
        frac = x.format.frac + int(self.rng.integers(-4, 2))
        return self.tensor(what, x.shape, FixedPoint(fmt.width, frac, fmt.signed))
