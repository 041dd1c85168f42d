"""Random integer graphs and random quantized torch networks, small, seeded and covering.

``random_graph`` draws ops directly, so that it reaches what no frontend writes: all 7 x 4 modes everywhere, odd
formats, several readers and outputs. ``random_module`` draws what users train. Both can be lowered completely.
"""

from __future__ import annotations

from fractions import Fraction

import brevitas.nn as bnn
import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from compress.fixed import FixedPoint, Overflow, Rounding
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec, UncalibratedQuantizer
from compress.mask import Mask
from export.intervals import Bounds
from export.ir import Const, Graph, Op, Tensor
from export.ops import Affine, Cast, Dense, Flatten, Input, Modes, ReLU, Requantize, SparseDense, Threshold
from export.reuse import legal_reuse_factors

SATURATING = (Overflow.SAT, Overflow.SAT_SYM)


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
    for op in graph.inputs:
        low, high = graph.bounds[op.output].range
        drawn.append(np.clip(random_codes(rng, op.output.format, (samples, *op.output.shape)), low, high))
    return drawn


def random_graph(rng: np.random.Generator) -> Graph:
    """Up to about twelve ops, up to eight neurons wide, numbers of 1 to about 20 bits. Every one is read or leaves."""
    draw = _Draw(rng)
    x = draw.enter()
    makers = (draw.cast, draw.relu, draw.activation, draw.affine, draw.threshold, draw.requantize)
    for _ in range(rng.integers(1, 4)):
        x = draw.dense(draw.narrow(x))
        for _ in range(rng.integers(0, 4)):
            x = makers[rng.integers(len(makers))](x)
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
        several = self.rng.random() < 0.25
        shape = tuple(self.rng.integers(1, 4, size=self.rng.integers(2, 4))) if several else (self.rng.integers(1, 9),)
        x = self.add(Input(self.tensor("in", shape, random_format(self.rng, 12)), random_modes(self.rng)))
        if several:
            for make in (self.cast, self.relu, self.affine):
                x = make(x) if self.rng.random() < 0.3 else x
            x = self.add(Flatten(self.tensor("flat", (x.size,), x.format), x))
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

    def dense(self, x: Tensor) -> Tensor:
        n_in, n_out = x.size, int(self.rng.integers(1, 9))
        weight = self.constants((n_out, n_in), 8, zeros=self.rng.choice([0.0, 0.5, 0.9]))
        if self.rng.random() < 0.3:  # dead neurons
            dead = (self.rng.random((n_out, 1)) < 0.4) | (self.rng.random((1, n_in)) < 0.3)
            weight = Const(np.where(dead, 0, weight.codes), weight.format)
        bias = self.constants((n_out,), 12, zeros=0.2)
        widest = FixedPoint(64, max(x.format.frac + weight.format.frac, bias.format.frac))
        exact = Dense(self.tensor("dense", (n_out,), widest), x, weight, bias)
        need = exact.accumulator(self.reach[x])
        modes = random_modes(self.rng) if self.rng.random() < 0.5 else None
        if modes is None:
            spare = int(self.rng.integers(0, 3)) if need.width < 60 else 0
            acc = FixedPoint(need.width + spare, need.frac + int(self.rng.integers(0, spare + 1)), need.signed)
        else:
            acc = FixedPoint(int(self.rng.integers(1, 21)), need.frac - int(self.rng.integers(0, 6)), need.signed)
        legal = legal_reuse_factors(n_in, n_out)
        reuse = legal[self.rng.integers(len(legal))] if self.rng.random() < 0.4 else 1
        op = Dense(self.tensor("dense", (n_out,), acc), x, weight, bias, modes, reuse)
        nonzero = int(np.count_nonzero(weight.codes))
        if nonzero and self.rng.random() < 0.3:
            return self.add(SparseDense.of(op, reuse_factor=int(self.rng.integers(1, nonzero + 1))))
        return self.add(op)

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
        return self.add(Requantize(out, x, scale, offset, modes))

    def near(self, x: Tensor, what: str, widest: int = 14) -> Tensor:
        """An output whose binary point is not far from that of ``x``."""
        fmt = random_format(self.rng, widest)
        frac = x.format.frac + int(self.rng.integers(-4, 2))
        return self.tensor(what, x.shape, FixedPoint(fmt.width, frac, fmt.signed))


# ---------------------------------------------------------------------------------------------------------------------


def random_module(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    """A calibrated network in eval mode, and the shape of a sample. Redrawn where an activation never leaves zero."""
    while True:
        torch.manual_seed(int(rng.integers(1 << 31)))
        try:
            return _random_module(rng)
        except UncalibratedQuantizer:
            continue


def has_power_of_two_scales(model: nn.Module) -> bool:
    """Whether float64 arithmetic holds every number in it: then the module is exact, and the graph must equal it."""
    inexact = (nn.BatchNorm1d,)
    ours = (QuantLinear, QuantReLU, QuantIdentity)
    layers = [m for m in model.modules() if isinstance(m, bnn.QuantLinear | bnn.QuantReLU | bnn.QuantIdentity)]
    return all(isinstance(m, ours) for m in layers) and not any(isinstance(m, inexact) for m in model.modules())


def _random_module(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    brevitas = rng.random() < 0.4
    images = rng.random() < 0.2
    shape = tuple(int(n) for n in rng.integers(1, 4, size=3 if images else 1))
    if not images:
        shape = (int(rng.integers(1, 10)),)
    n = int(np.prod(shape))
    layers: list[nn.Module] = [QuantIdentity(spec=_spec(rng))]
    if images:
        layers.insert(int(rng.integers(0, 2)), nn.Flatten())
    depth = int(rng.integers(1, 4))
    for level in range(depth):
        last = level == depth - 1
        n_out = int(rng.integers(1, 9))
        linear = _linear(rng, n, n_out, brevitas)
        _sparsify(rng, linear)
        layers.append(linear)
        norm = rng.random() < 0.4
        if norm:
            layers.append(nn.BatchNorm1d(n_out, affine=bool(rng.random() < 0.8)))
        if rng.random() < 0.2:
            layers.append(nn.Dropout(0.3))
        if brevitas and not last:
            layers.append(bnn.QuantReLU(bit_width=int(rng.integers(2, 7))))
        elif not last or norm or brevitas:
            if rng.random() < 0.3:
                layers.append(nn.ReLU())
            layers.append(QuantReLU(spec=_spec(rng)) if rng.random() < 0.6 else QuantIdentity(spec=_spec(rng)))
        n = n_out
    model = nn.Sequential(*layers)
    x = torch.tensor(rng.normal(size=(64, *shape)) * 2, dtype=torch.float32)
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(x)
        for norm_layer in (m for m in model if isinstance(m, nn.BatchNorm1d)):
            _unsettle(rng, norm_layer)
        model.eval()(x)
    return model, shape


def _spec(rng: np.random.Generator) -> QuantSpec:
    return QuantSpec(
        weight_width=int(rng.integers(2, 9)),
        bias_width=int(rng.integers(2, 17)) if rng.random() < 0.7 else None,
        activation_width=int(rng.integers(1, 8)),
        input_width=int(rng.integers(2, 11)),
        activation_frac=int(rng.integers(-1, 5)) if rng.random() < 0.2 else None,
        input_frac=int(rng.integers(0, 5)) if rng.random() < 0.2 else None,
        weight_frac=int(rng.integers(1, 6)) if rng.random() < 0.2 else None,
        input_signed=bool(rng.random() < 0.8),
    )


def _linear(rng: np.random.Generator, n_in: int, n_out: int, brevitas: bool) -> nn.Module:
    bias = bool(rng.random() < 0.8)
    if not brevitas:
        return QuantLinear(n_in, n_out, bias=bias, spec=_spec(rng))
    return bnn.QuantLinear(
        n_in,
        n_out,
        bias=bias,
        weight_bit_width=int(rng.integers(2, 9)),
        weight_scaling_per_output_channel=bool(rng.random() < 0.5),
    )


def _sparsify(rng: np.random.Generator, linear: nn.Module) -> None:
    """Spread the magnitudes; mask some weights, now and then a whole layer."""
    with torch.no_grad():
        linear.weight.mul_(2.0 ** int(rng.integers(-3, 3)))
    if rng.random() < 0.6:
        kept = torch.tensor(rng.random(tuple(linear.weight.shape)) < rng.choice([0.0, 0.2, 0.6], p=[0.1, 0.5, 0.4]))
        parametrize.register_parametrization(linear, "weight", Mask(kept))


def _unsettle(rng: np.random.Generator, norm: nn.BatchNorm1d) -> None:
    """Statistics and parameters of any sign, a zero among them."""
    size = norm.num_features
    norm.running_mean.copy_(torch.tensor(rng.normal(size=size)))
    norm.running_var.copy_(torch.tensor(rng.random(size) * 2 + 0.1))
    if norm.affine:
        norm.weight.copy_(torch.tensor(np.where(rng.random(size) < 0.1, 0.0, rng.normal(size=size))))
        norm.bias.copy_(torch.tensor(rng.normal(size=size)))
