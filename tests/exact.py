"""What a quantized torch module means, one number at a time in exact fractions, read off its layers alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
from reference import cast, limited, rounded, value
from torch import Tensor, nn

from compress.fixed import FixedPoint, Overflow
from compress.layers import (
    BinaryQuantizer,
    Kind,
    QuantizedArray,
    accumulator_of,
    activation_of,
    bias_of,
    kind,
    output_of,
    slopes_of,
    weight_of,
)
from compress.learned.frozen import FrozenActivation, FrozenLinear

_CONTEXT = Context(prec=60)
_PI = Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798214808651328"
)


Row = list[Fraction]


def evaluate(model: nn.Sequential, samples: np.ndarray) -> np.ndarray:
    """The results for ``samples`` (n, ...), flattened, as an object array of fractions."""
    rows = [[Fraction(float(v)) for v in sample] for sample in samples.reshape(len(samples), -1)]
    for layer in model:
        meaning = _meaning(layer)
        rows = [meaning(row) for row in rows]
    return np.array(rows, dtype=object)


def _meaning(layer: nn.Module) -> Callable[[Row], Row]:
    """What a layer does to one sample; all that there is to read off it is read once."""
    match layer:
        case nn.Flatten() | nn.Dropout():
            return lambda x: x
        case FrozenActivation():
            return _by_channel(layer)
        case FrozenLinear():
            matrix = list(zip(_rows(layer.weight_codes()), _values(layer.bias_codes(), layer), strict=True))
            return lambda x: [_dot(weights, x, bias) for weights, bias in matrix]
        case nn.BatchNorm1d():
            return _normalising(layer)
        case nn.ReLU() if kind(layer) is None:
            return lambda x: [max(v, Fraction(0)) for v in x]
    known = kind(layer)
    assert known is not None, layer
    quantizer = output_of(layer) if known is Kind.LINEAR else activation_of(layer)
    register = accumulator_of(layer) if known is Kind.LINEAR else None
    matrix = []
    if known is Kind.LINEAR:
        matrix = list(zip(_rows(weight_of(layer)), _values(bias_of(layer), layer), strict=True))

    def meaning(x: Row) -> Row:
        if known is Kind.LINEAR:
            y = [_dot(weights, x, bias) for weights, bias in matrix]
        else:
            y = [function(known, v, layer) for v in x]
        stored = y if register is None else [_stored(v, register) for v in y]
        return stored if quantizer is None else [_quantized(v, quantizer) for v in stored]

    return meaning


def _dot(weights: Row, x: Row, bias: Fraction) -> Fraction:
    return sum((w * v for w, v in zip(weights, x, strict=True) if w and v), bias)


def _rows(array: QuantizedArray) -> list[Row]:
    scales = array.scale * len(array.codes) if len(array.scale) == 1 else array.scale
    return [[int(code) * scale for code in row] for row, scale in zip(array.codes, scales, strict=True)]


def _values(bias: QuantizedArray | np.ndarray | None, layer: nn.Module) -> Row:
    if bias is None:
        return [Fraction(0)] * layer.out_features
    if isinstance(bias, QuantizedArray):
        return [int(code) * bias.scale[0] for code in bias.codes]
    return [Fraction(float(b)) for b in bias]


def _by_channel(layer: FrozenActivation) -> Callable[[Row], Row]:
    learned = layer.channel_formats()

    def fitted(x: Fraction, fmt: FixedPoint | None) -> Fraction:
        if fmt is None:
            return Fraction(0)
        rectified = max(x, Fraction(0)) if layer.rectify else x
        return value(cast(rectified, fmt, learned.rounding, learned.overflow), fmt)

    return lambda x: list(map(fitted, x, learned.formats))


def _normalising(norm: nn.BatchNorm1d) -> Callable[[Row], Row]:
    def values(tensor: Tensor) -> Row:
        return [Fraction(v) for v in tensor.double().tolist()]

    scale = [Fraction(float(v)) for v in 1 / np.sqrt(norm.running_var.double().numpy() + norm.eps)]
    ones, zeros = [Fraction(1)] * len(scale), [Fraction(0)] * len(scale)
    gamma, beta = (values(norm.weight), values(norm.bias)) if norm.affine else (ones, zeros)
    columns = list(zip(values(norm.running_mean), scale, gamma, beta, strict=True))
    return lambda x: [(v - mean) * s * gamma + beta for v, (mean, s, gamma, beta) in zip(x, columns, strict=True)]


def function(which: Kind, x: Fraction, layer: nn.Module | None = None) -> Fraction:
    """A function of one number, as float64 settles it far away; ``layer`` holds its constants, where it has some."""
    match which:
        case Kind.IDENTITY:
            return x
        case Kind.RELU:
            return max(x, Fraction(0))
        case Kind.RELU6:
            return min(max(x, Fraction(0)), Fraction(6))
        case Kind.LEAKY_RELU:
            return max(x, x * Fraction(str(layer.negative_slope)))
        case Kind.PRELU:
            (slope,) = slopes_of(layer).codes
            return x if x >= 0 else x * int(slope) * slopes_of(layer).scale[0]
        case Kind.HARD_TANH:
            return min(max(x, Fraction(layer.min_val)), Fraction(layer.max_val))
        case Kind.HARD_SIGMOID:
            return min(max(x + 3, Fraction(0)), Fraction(6)) / 6
    factor = _factor(which, float(x), layer)
    if which is Kind.TANH:
        return Fraction(factor) if abs(factor) == 1 else real(which, x)
    if factor not in (0, 1):
        return real(which, x, layer)
    return Fraction(factor) if which is Kind.SIGMOID else x * Fraction(factor)


def _factor(which: Kind, x: float, layer: nn.Module | None) -> float:
    """What x is multiplied with, or the result itself, in the operations of a library of float64."""
    match which:
        case Kind.TANH:
            return math.tanh(x)
        case Kind.GELU if layer.approximate == "tanh":
            return (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
        case Kind.GELU:
            return (1 + math.erf(x / math.sqrt(2))) / 2
    with np.errstate(over="ignore"):
        return float(1 / (1 + np.exp(np.float64(-x))))


def real(which: Kind, x: Fraction, layer: nn.Module | None = None) -> Fraction:
    """The real function, to about 50 digits."""
    match which:
        case Kind.TANH:
            return 2 * _sigmoid(2 * x) - 1
        case Kind.SIGMOID:
            return _sigmoid(x)
        case Kind.SILU:
            return x * _sigmoid(x)
        case Kind.GELU:
            near = _sigmoid(_gelu_argument(x)) if layer.approximate == "tanh" and abs(x) <= 20 else _normal(x)
            return x * near
    raise AssertionError(which)


def _gelu_argument(x: Fraction) -> Fraction:
    """That of the sigmoid in torch's tanh form."""
    return 2 * Fraction(_CONTEXT.sqrt(_CONTEXT.divide(Decimal(2), _PI))) * (x + Fraction(44715, 10**6) * x**3)


def _normal(x: Fraction) -> Fraction:
    """The share of a normal distribution below ``x``: an alternating series, with digits enough for each term."""
    if abs(x) > 20:
        return Fraction(1, 10**80) if x < 0 else 1 - Fraction(1, 10**80)
    context = Context(prec=300)
    number = context.divide(Decimal(x.numerator), Decimal(x.denominator))
    term, total, k = number, number, 0
    while abs(term) > Decimal(10) ** -200:
        k += 1
        term = context.divide(context.multiply(context.multiply(term, number), context.minus(number)), Decimal(2 * k))
        total = context.add(total, context.divide(term, Decimal(2 * k + 1)))
    return Fraction(1, 2) + Fraction(context.divide(total, context.sqrt(context.multiply(Decimal(2), _PI))))


def _sigmoid(x: Fraction) -> Fraction:
    """To 50 digits: as far from a tie as an integer can bring it, that decides every rounding."""
    power = _CONTEXT.exp(_CONTEXT.divide(Decimal(-x.numerator), Decimal(x.denominator)))
    return 1 / (1 + Fraction(power))


def _stored(x: Fraction, register: FixedPoint) -> Fraction:
    code = x // register.lsb
    return limited(int(code), register, Overflow.WRAP) * register.lsb


def _quantized(x: Fraction, quantizer: object) -> Fraction:
    if isinstance(quantizer, BinaryQuantizer):
        return quantizer.scale if x >= 0 else -quantizer.scale
    overflow = Overflow.SAT_SYM if quantizer.narrow else Overflow.SAT
    code = rounded(x / quantizer.scale, quantizer.rounding)
    return limited(code, FixedPoint(quantizer.width, 0, quantizer.signed), overflow) * quantizer.scale
