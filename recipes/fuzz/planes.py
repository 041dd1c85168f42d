"""Random integer graphs over tensors with spatial axes: windows of every kind, and branches that meet again."""

from __future__ import annotations

import numpy as np

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Const, Graph, Op, Tensor
from export.ops import (
    Add,
    Affine,
    ArgMax,
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
    Subtract,
    SumPool,
    Table,
)
from export.ops.casts import covering
from export.ops.reuse import legal_reuse_factors
from export.ops.windows import Sliding, Window, adaptive
from recipes.fuzz.graphs import random_codes, random_modes


def random_plane(rng: np.random.Generator, name: str = "plane", longest: int = 12) -> Graph:
    """Up to about twelve ops over one or two spatial axes of up to ``longest`` elements; some end in a dense layer."""
    draw = _Draw(rng)
    shape = (int(rng.integers(1, 5)), *(int(n) for n in rng.integers(1, longest + 1, size=rng.integers(1, 3))))
    x = draw.add(Input(Tensor("x", shape, FixedPoint(int(rng.integers(2, 9)), 3)), random_modes(rng)))
    makers = (draw.cast, draw.affine, draw.relu, draw.pointwise, draw.conv, draw.conv, draw.max_pool, draw.sum_pool,
              draw.beside, draw.concat, draw.moved)  # fmt: skip
    for _ in range(rng.integers(2, 6)):
        x = makers[rng.integers(len(makers))](x)
    if rng.random() < 0.5:
        x = draw.dense(draw.add(Reshape(draw.tensor("flat", (x.size,), x.format), x)))
    read = {t for op in draw.ops for t in op.inputs}
    leaving = tuple(op.output for op in draw.ops if op.output not in read or rng.random() < 0.1)
    return Graph(name, tuple(draw.ops), leaving).verify()


class _Draw:
    """The ops so far. Every method adds some that read ``x``, and returns what the last one makes."""

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

    def const(self, shape: tuple[int, ...], width: int) -> Const:
        fmt = FixedPoint(width, int(self.rng.integers(0, width)))
        return Const(random_codes(self.rng, fmt, shape), fmt)

    def narrow(self, x: Tensor) -> Tensor:
        return x if x.format.width <= 10 else self.cast(x)

    def cast(self, x: Tensor) -> Tensor:
        if self.rng.random() < 0.3:
            width = self.rng.integers(1, 8, size=x.shape[0])
            formats = tuple(FixedPoint(int(w), x.format.frac - int(self.rng.integers(0, 3))) for w in width)
            own = self.tensor("own", x.shape, covering(formats))
            return self.add(ChannelCast(own, x, formats, random_modes(self.rng)))
        fmt = FixedPoint(int(self.rng.integers(2, 9)), x.format.frac - int(self.rng.integers(0, 4)))
        return self.add(Cast(self.tensor("cast", x.shape, fmt), x, random_modes(self.rng)))

    def affine(self, x: Tensor) -> Tensor:
        x = self.narrow(x)
        fmt = FixedPoint(9, x.format.frac)
        scale, offset = self.const(x.shape[:1], 5), self.const(x.shape[:1], 6)
        return self.add(Affine(self.tensor("affine", x.shape, fmt), x, scale, offset, random_modes(self.rng)))

    def relu(self, x: Tensor) -> Tensor:
        return self.add(ReLU(self.tensor("relu", x.shape, ReLU.positive(x.format)), x))

    def pointwise(self, x: Tensor) -> Tensor:
        """An op that looks at one position at a time, or at one number."""
        x = self.narrow(x)
        other, low, shape = self.cast(x), int(self.reach[x].low.min()), x.shape
        fmt = covering((x.format, other.format))
        wider = FixedPoint(fmt.width + 1, fmt.frac)
        entries = self.const((int(self.rng.choice([1, shape[0]])), int(self.reach[x].high.max()) - low + 1), 5)
        ends = np.sort(random_codes(self.rng, x.format, (2, shape[0])), axis=0)
        makers = (
            lambda: Subtract(self.tensor("less", shape, wider), x, other),
            lambda: Multiply(self.tensor("times", shape, FixedPoint(
                x.format.width + other.format.width, x.format.frac + other.format.frac)), x, other),
            lambda: Minimum(self.tensor("smaller", shape, fmt), x, other),
            lambda: BySign(self.tensor("by_sign", shape, fmt), other, x, other),
            lambda: ArgMax(self.tensor("place", (1, *shape[1:]), ArgMax.indices(x)), x),
            lambda: Table(self.tensor("looked_up", shape, entries.format), x, low, entries),
            lambda: Clip(self.tensor("clipped", shape, x.format), x, *(Const(codes, x.format) for codes in ends)),
        )  # fmt: skip
        return self.add(makers[self.rng.integers(len(makers))]())

    def axis(self, size: int) -> Sliding:
        """Any window that fits, some of them with padding wider than they span."""
        kernel, dilation = int(self.rng.integers(1, 4)), int(self.rng.integers(1, 3))
        before, after = (int(n) for n in self.rng.integers(0, 3, size=2))
        span = dilation * (kernel - 1) + 1
        return Sliding(size, kernel, int(self.rng.integers(1, 4)), dilation, before + max(0, span - size), after)

    def window(self, x: Tensor) -> Window:
        return Window(tuple(self.axis(size) for size in x.shape[1:]))

    def pooled(self, x: Tensor) -> Window:
        """A window that nowhere reads padding alone; now and then one over everything, or over uneven parts."""
        if (fate := self.rng.random()) < 0.2:
            return Window(tuple(Sliding(size, size) for size in x.shape[1:]))
        if fate < 0.35:
            return Window(tuple(adaptive(size, int(self.rng.integers(1, size + 1))) for size in x.shape[1:]))
        window = self.window(x)
        return window if window.counts.all() else Window(tuple(Sliding(size, 1) for size in x.shape[1:]))

    def conv(self, x: Tensor) -> Tensor:
        x = self.narrow(x)
        window, channels = self.window(x), x.shape[0]
        groups = int(self.rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
        made = groups * int(self.rng.integers(1, 4))
        weight, bias = self.const((made, channels // groups, *window.kernel), 4), self.const((made,), 5)
        zeros = self.rng.random(weight.shape) < self.rng.choice([0.0, 0.7])
        weight = Const(np.where(zeros, 0, weight.codes), weight.format)
        legal = legal_reuse_factors(channels // groups * window.taps, made)
        reuse = int(legal[self.rng.integers(len(legal))]) if self.rng.random() < 0.3 else 1
        shape = (made, *window.positions)
        wide = FixedPoint(64, max(x.format.frac + weight.format.frac, bias.format.frac))
        exact = Conv(self.tensor("conv", shape, wide), x, weight, bias, window=window)
        need, modes = exact.accumulator(self.reach[x]), None
        if self.rng.random() < 0.2:
            need, modes = FixedPoint(8, need.frac - 1), random_modes(self.rng)
        return self.add(Conv(self.tensor("conv", shape, need), x, weight, bias, modes, reuse, window=window))

    def max_pool(self, x: Tensor) -> Tensor:
        window = self.pooled(x)
        return self.add(MaxPool(self.tensor("max", (x.shape[0], *window.positions), x.format), x, window))

    def sum_pool(self, x: Tensor) -> Tensor:
        x = self.narrow(x)
        window = self.pooled(x)
        several = self.rng.random() < 0.3
        weight = Const(self.rng.integers(1, 8, size=window.counts.size if several else 1), FixedPoint(4, 2))
        shape = (x.shape[0], *window.positions)
        wide = SumPool(self.tensor("sum", shape, FixedPoint(64, x.format.frac + 2)), x, window, weight)
        return self.add(SumPool(self.tensor("sum", shape, wide.accumulator(self.reach[x])), x, window, weight))

    def beside(self, x: Tensor) -> Tensor:
        """A branch of its own shape that meets ``x`` again: the path beside a residual block."""
        x = self.narrow(x)
        other = self.cast(self.same(x))
        if self.rng.random() < 0.5:
            return self.add(Maximum(self.tensor("larger", x.shape, covering((x.format, other.format))), x, other))
        fmt = covering((x.format, other.format))
        return self.add(Add(self.tensor("added", x.shape, FixedPoint(fmt.width + 1, fmt.frac)), x, other))

    def same(self, x: Tensor) -> Tensor:
        """Convolutions that keep the shape, or one position repeated over all."""
        if self.rng.random() < 0.3:
            whole = Window(tuple(Sliding(size, size) for size in x.shape[1:]))
            one = self.add(MaxPool(self.tensor("max", (x.shape[0], *whole.positions), x.format), x, whole))
            source = np.broadcast_to(np.arange(x.shape[0])[:, None], (x.shape[0], x.size // x.shape[0]))
            return self.add(Rearrange(self.tensor("repeated", x.shape, x.format), one, tuple(source.ravel().tolist())))
        for _ in range(self.rng.integers(1, 3)):
            x = self.narrow(self.conv_of(x, Window(tuple(Sliding(size, 3, 1, 1, 1, 1) for size in x.shape[1:]))))
        return x

    def conv_of(self, x: Tensor, window: Window) -> Tensor:
        """As many channels as ``x`` has, exactly."""
        weight, bias = self.const((x.shape[0], x.shape[0], *window.kernel), 3), self.const(x.shape[:1], 3)
        wide = FixedPoint(64, max(x.format.frac + weight.format.frac, bias.format.frac))
        name, shape = f"same{len(self.ops)}", (x.shape[0], *window.positions)
        exact = Conv(Tensor(name, shape, wide), x, weight, bias, window=window)
        need = exact.accumulator(self.reach[x])
        return self.add(Conv(Tensor(name, shape, need), x, weight, bias, window=window))

    def concat(self, x: Tensor) -> Tensor:
        """Along the channels, or along an axis."""
        other, axis = self.cast(x), int(self.rng.integers(len(x.shape)))
        shape = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
        return self.add(Concat(self.tensor("both", shape, covering((x.format, other.format))), (x, other), axis))

    def moved(self, x: Tensor) -> Tensor:
        """Channels, or positions, in another order, left out or repeated; or everything in another order, with gaps."""
        places = np.arange(x.size).reshape(x.shape)
        fate = self.rng.random()
        if fate < 0.3:
            source = places[self.rng.integers(0, x.shape[0], size=x.shape[0])]
        elif fate < 0.5:  # cut, turned around and repeated, as nearest neighbours are
            axis = int(self.rng.integers(1, len(x.shape)))
            kept = places[..., :: int(self.rng.choice([-1, 1, 2]))]
            source = np.repeat(kept, 2, axis) if kept.shape[axis] < 6 else kept
        elif fate < 0.7:
            source = np.pad(places, ((0, 0), *[tuple(self.rng.integers(0, 2, size=2))] * (len(x.shape) - 1)),
                            constant_values=-1)  # fmt: skip
        else:
            source = np.where(self.rng.random(x.shape) < 0.2, -1, self.rng.permutation(places.ravel()).reshape(x.shape))
        fill = int(self.rng.choice([0, x.format.min_code, x.format.max_code]))
        y = self.tensor("moved", source.shape, x.format)
        return self.add(Rearrange(y, x, tuple(source.ravel().tolist()), fill))

    def dense(self, x: Tensor) -> Tensor:
        """With any reuse factor; some with sums that are cast."""
        weight, bias = self.const((4, x.size), 4), self.const((4,), 4)
        exact = Dense(self.tensor("fc", (4,), FixedPoint(64, 60)), x, weight, bias)
        need, modes = exact.accumulator(self.reach[x]), None
        if self.rng.random() < 0.2:
            need, modes = FixedPoint(8, need.frac - 1), random_modes(self.rng)
        legal = legal_reuse_factors(x.size, 4)
        reuse = int(legal[self.rng.integers(len(legal))]) if self.rng.random() < 0.7 else 1
        return self.add(Dense(self.tensor("fc", (4,), need), x, weight, bias, modes, reuse))
