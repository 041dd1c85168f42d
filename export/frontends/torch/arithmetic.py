"""Sums, differences, products and comparisons of tensors, and of a tensor and a constant."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import torch

from compress.quantize.calls import ADD_CALLS, MULTIPLY_CALLS, SUBTRACT_CALLS
from export.frontends import pairs
from export.frontends.builder import rationals
from export.frontends.functions import Activation, Clamp, Leak
from export.frontends.torch.lowering import Constant, Operand, Site, of_call
from export.frontends.torch.movement import rearranged, sample_axis
from export.frontends.value import ONE, ZERO, Rationals, Raw, Value
from export.ir import Tensor
from export.ops.elementwise import ArgMax, Maximum, Minimum

#: What an operator of Python or a call of torch may stand between.
Number: TypeAlias = Operand | Constant | float


@of_call(*ADD_CALLS, constants=True)
def add(site: Site, x: Number, other: Number, *, alpha: float = 1) -> Value:
    return _linear(site, pairs.added, x, _times(site, other, alpha), ONE)


@of_call(*SUBTRACT_CALLS, constants=True)
def subtract(site: Site, x: Number, other: Number, *, alpha: float = 1) -> Value:
    return _linear(site, pairs.subtracted, x, _times(site, other, alpha), -ONE)


@of_call(torch.rsub, constants=True)
def subtract_from(site: Site, x: Number, other: Number, *, alpha: float = 1) -> Value:
    return subtract(site, other, _times(site, x, alpha))


@of_call(*MULTIPLY_CALLS, constants=True)
def multiply(site: Site, x: Number, other: Number) -> Value:
    if isinstance(x, Value | Raw) and isinstance(other, Value | Raw):
        return pairs.multiplied(site.build, site.label, site.settled(x), site.settled(other))
    if isinstance(x, Value | Raw):
        return _scaled(site, x, _constants(site, x, other))
    return multiply(site, other, x)


@of_call(operator.truediv, torch.div, torch.divide, torch.true_divide, "div", "div_", "divide", constants=True)
def divide(site: Site, x: Number, other: Number) -> Value:
    if not isinstance(x, Value | Raw) or isinstance(other, Value | Raw):
        raise site.refusal("divides by a tensor, which has no exact lowering; divide by a constant")
    divisors = _constants(site, x, other)
    if ZERO in divisors:
        raise site.refusal("divides by zero")
    return _scaled(site, x, tuple(1 / divisor for divisor in divisors))


@of_call(operator.neg, torch.neg, torch.negative, "neg", "neg_", "negative")
def negate(site: Site, x: Operand) -> Value:
    return _scaled(site, x, (-ONE,))


@of_call(operator.pos, torch.positive, "positive")
def posit(site: Site, x: Operand) -> Operand:
    return x


@of_call(operator.abs, abs, torch.abs, torch.absolute, "abs", "abs_", "absolute")
def absolute(site: Site, x: Operand) -> Value:
    """The larger of a number and its opposite, at once if it has a code."""
    value = site.build.with_precision(site.settled(x))
    if value.function is None and set(value.offset) != {ZERO}:
        value = site.build.exactly(value) or value
    if value.function is None and set(value.offset) == {ZERO}:
        return pairs.extreme(site.build, site.label, Maximum, value, _scaled(site, value, (-ONE,)))
    return site.build.pending(site.label, value, Activation(Leak((-ONE,))))


@of_call(operator.pow, torch.pow, "pow")
def power(site: Site, x: Operand, exponent: Any) -> Value:
    if exponent != 2 or not isinstance(x, Value | Raw):
        raise site.refusal(f"raises to the power {exponent}; only squares are lowered")
    return multiply(site, x, x)


@of_call(torch.square, "square")
def square(site: Site, x: Operand) -> Value:
    return multiply(site, x, x)


@of_call(torch.maximum, "maximum")
def larger(site: Site, x: Operand, other: Operand) -> Value:
    return pairs.extreme(site.build, site.label, Maximum, site.settled(x), site.settled(other))


@of_call(torch.minimum, "minimum")
def smaller(site: Site, x: Operand, other: Operand) -> Value:
    return pairs.extreme(site.build, site.label, Minimum, site.settled(x), site.settled(other))


@of_call(torch.max, "max")
def larger_of_two(site: Site, x: Operand, other: Any = None, **along: Any) -> Value:
    return larger(site, x, _second(site, other))


@of_call(torch.min, "min")
def smaller_of_two(site: Site, x: Operand, other: Any = None, **along: Any) -> Value:
    return smaller(site, x, _second(site, other))


def _second(site: Site, other: Any) -> Operand:
    if not isinstance(other, Value | Raw):
        raise site.refusal(
            "returns indices too, or looks through the whole batch; use amax(dim), amin(dim) or argmax(dim)"
        )
    return other


@of_call(torch.clamp, torch.clamp_, torch.clip, torch.clip_, "clamp", "clamp_", "clip", "clip_")
def clamp(site: Site, x: Operand, min: float | None = None, max: float | None = None) -> Value:
    low, high = (None if limit is None else _number(site, limit) for limit in (min, max))
    if low is None and high is None:
        raise site.refusal("clamps without a limit")
    if low is not None and high is not None and low > high:  # torch: the upper limit, everywhere
        low = high
    return site.build.activate(site.label, site.settled(x), Activation(Clamp(low, high)))


@of_call(torch.clamp_min, "clamp_min")
def clamp_below(site: Site, x: Operand, min: float) -> Value:
    return clamp(site, x, min=min)


@of_call(torch.clamp_max, "clamp_max")
def clamp_above(site: Site, x: Operand, max: float) -> Value:
    return clamp(site, x, max=max)


@of_call(torch.argmax, "argmax")
def arg_max(site: Site, x: Operand, dim: int | None = None, keepdim: bool = False) -> Value:
    """The first of several equal ones, as torch does; one number for a sample stays one of one axis."""
    if dim is None:
        raise site.refusal("looks through the whole batch; say along which axis, argmax(dim=1)")
    axis = sample_axis(site, x, dim) + 1
    value = site.build.with_precision(site.settled(x))
    if not _keeps_order(value):
        value = site.build.exactly(value) or value
    if not _keeps_order(value):
        raise site.refusal(
            f"compares numbers of {value.label}, which are scaled and not quantized; put a QuantIdentity between them"
        )
    first = rearranged(site, value, lambda counted: counted.movedim(axis, 1))
    label = site.build.unique(site.label)
    index = ArgMax(Tensor(label, (1, *first.tensor.shape[1:]), ArgMax.indices(first.tensor)), first.tensor)
    found = Value(site.build.add(index), site.label)
    if keepdim:
        return rearranged(site, found, lambda counted: counted.movedim(1, axis))
    return found if len(found.tensor.shape) == 1 else rearranged(site, found, lambda counted: counted.squeeze(1))


def _keeps_order(value: Value) -> bool:
    """Whether codes compare as the numbers do."""
    return value.function is None and len(set(value.lines)) == 1 and value.scale[0] > 0


def _linear(site: Site, combine: Callable[..., Value], x: Number, other: Number, sign: Fraction) -> Value:
    """``x + sign * other``: of two tensors by ``combine``, or with a constant on either side."""
    if isinstance(x, Value | Raw) and isinstance(other, Value | Raw):
        return combine(site.build, site.label, site.settled(x), site.settled(other))
    if isinstance(x, Value | Raw):
        shift = tuple(sign * c for c in _constants(site, x, other))
        return site.build.affine(site.label, site.settled(x), (ONE,), shift, site.precision)
    assert isinstance(other, Value | Raw), "a call on constants alone"
    shift = _constants(site, other, x)
    return site.build.affine(site.label, site.settled(other), (sign,), shift, site.precision)


def _times(site: Site, x: Number, factor: float) -> Number:
    if factor == 1:
        return x
    if isinstance(x, Constant):
        return Constant(x.name, x.values * factor)
    if isinstance(x, Value | Raw):
        return _scaled(site, x, (_number(site, factor),))
    return x * factor


def _scaled(site: Site, x: Operand, factors: Rationals) -> Value:
    return site.build.affine(site.label, site.settled(x), factors, (ZERO,), site.precision)


def _constants(site: Site, x: Operand, constant: Any) -> Rationals:
    """One number for all channels of ``x``, or one for each."""
    if not isinstance(constant, Constant):
        return (_number(site, constant),)
    shape = site.settled(x).tensor.shape
    values = constant.values
    if values.ndim > len(shape) and len(values) == 1:  # one for all samples
        values = values[0]
    try:
        spread = np.broadcast_to(values, shape).reshape(shape[0], -1)
    except ValueError:
        raise site.refusal(f"{constant.name} of shape {values.shape} does not go with samples of {shape}") from None
    if (spread != spread[:, :1]).any():
        raise site.refusal(f"{constant.name} differs within a channel; use one number, or one per channel")
    return rationals(spread[:, 0] if len(np.unique(spread)) > 1 else spread[0, :1])


def _number(site: Site, constant: Any) -> Fraction:
    """The decimal that a number of Python prints as: 0.1 times 5 is 0.5, in floats too."""
    if not isinstance(constant, int | float) or constant != constant or constant in (float("inf"), -float("inf")):
        raise site.refusal(f"takes {constant!r}, where a finite number is needed")
    return Fraction(repr(constant)) if isinstance(constant, float) else Fraction(constant)
