"""Two values element by element: their sum, difference, product, the larger or the smaller, exactly or refused.

Values are ``scale * tensor + offset``. Where the scales of two differ by a ratio of small integers and a power of two,
integer multipliers bring them to one scale, which the result keeps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from compress.fixed import MAX_WIDTH, FixedPoint, code_width
from export.arithmetic import binary_places, codes_of
from export.frontends.moving import Move, moved
from export.frontends.value import ONE, ZERO, Rationals, UnsupportedLayer, Value, spread
from export.ir import Const, GraphError, Tensor
from export.modes import Modes
from export.ops import Affine
from export.ops.casts import covering
from export.ops.elementwise import Add, Maximum, Minimum, Multiply, Pairwise, Subtract

if TYPE_CHECKING:
    from export.frontends.builder import Builder

#: Bits of the odd part of a ratio of scales beyond which two values have to be quantized before they meet.
MAX_RATIO_WIDTH = 8

_CURE = "put a QuantIdentity behind each operand"


def added(build: Builder, label: str, a: Value, b: Value) -> Value:
    return _combined(build, label, Add, a, b)


def subtracted(build: Builder, label: str, a: Value, b: Value) -> Value:
    return _combined(build, label, Subtract, a, b)


def extreme(build: Builder, label: str, kind: type[Maximum] | type[Minimum], a: Value, b: Value) -> Value:
    """The larger or the smaller."""
    a, b = (_bare(build, label, x) for x in (a, b))
    if a.lines != b.lines:
        a, b = (build.exactly(x) or x for x in (a, b))
    return _combined(build, label, kind, a, b)


def multiplied(build: Builder, label: str, a: Value, b: Value) -> Value:
    a, b = (_bare(build, label, x) for x in (a, b))
    a, b = (x if set(x.offset) == {ZERO} else build.exactly(x) or x for x in (a, b))
    for x in (a, b):
        if set(x.offset) != {ZERO}:
            raise UnsupportedLayer(f"{label}: multiplies {x.label}, which is shifted and not quantized; {_CURE}")
    a, b = _of_one_shape(build, label, a, b)
    tensor = _made(build, label, Multiply, a.tensor, b.tensor, a.tensor.format.frac + b.tensor.format.frac)
    channels = tensor.shape[0] if max(len(a.scale), len(b.scale)) > 1 else 1
    pairs = zip(spread(a.scale, channels), spread(b.scale, channels), strict=True)
    return Value(tensor, label, tuple(s * t for s, t in pairs))


def _combined(build: Builder, label: str, kind: type[Pairwise], a: Value, b: Value) -> Value:
    """All but the product: one of numbers on one scale."""
    a, b = (_bare(build, label, x) for x in (a, b))
    a, b = _of_one_shape(build, label, a, b)
    is_choice = issubclass(kind, Maximum | Minimum)
    channels = a.tensor.shape[0] if max(map(len, (a.scale, b.scale, a.offset, b.offset))) > 1 else 1
    offsets = zip(spread(a.offset, channels), spread(b.offset, channels), strict=True)
    if is_choice and spread(a.offset, channels) != spread(b.offset, channels):
        raise _refusal(label, a, b, "are shifted in different ways")
    sign = -1 if kind is Subtract else 1
    offset = tuple(o if is_choice else o + sign * p for o, p in offsets)
    scale, for_a, for_b = _common(label, a, b, channels, positive=is_choice)
    x, y = _scaled(build, f"{label}.a", a.tensor, for_a), _scaled(build, f"{label}.b", b.tensor, for_b)
    return Value(_made(build, label, kind, x, y, max(x.format.frac, y.format.frac)), label, scale, offset)


def _common(label: str, a: Value, b: Value, channels: int, positive: bool) -> tuple[Rationals, Rationals, Rationals]:
    """For each channel one scale, and what brings the two tensors to it."""
    scales, for_a, for_b = [], [], []
    for s, t in zip(spread(a.scale, channels), spread(b.scale, channels), strict=True):
        unit = s or t or ONE
        unit = abs(unit) if positive else unit
        ratio = (t or unit) / unit
        if max(_odd(ratio.numerator), _odd(ratio.denominator)).bit_length() > MAX_RATIO_WIDTH:
            raise _refusal(label, a, b, f"have the scales {float(s)} and {float(t)}")
        unit /= _odd(ratio.denominator)
        scales.append(unit)
        for_a.append(s / unit)
        for_b.append(t / unit)
    return tuple(scales), tuple(for_a), tuple(for_b)


def _odd(n: int) -> int:
    """``n`` without its factors of two, which move the binary point."""
    n = abs(n)
    return n // (n & -n)


def _scaled(build: Builder, label: str, x: Tensor, factors: Rationals) -> Tensor:
    """``factors * x``, exactly; binary fractions, one or one per channel."""
    if set(factors) == {ONE}:
        return x
    factors = spread(factors, x.shape[0])
    places = binary_places(factors)
    assert places is not None, "a factor that is no binary fraction"
    scale, offset = Const.fitting(codes_of(factors, places), places), Const.fitting([0] * len(factors), 0)
    output = Tensor(build.unique(label), x.shape, FixedPoint(MAX_WIDTH, x.format.frac + places))
    draft = Affine(output, x, scale, offset, Modes())
    need = draft.exact_sums(build.reach(x)).format(draft.exact_frac)
    return build.add(replace(draft, output=replace(output, format=need)))


def _made(build: Builder, label: str, kind: type[Pairwise], a: Tensor, b: Tensor, frac: int) -> Tensor:
    """The op in the narrowest format that holds all it can reach."""
    name = build.unique(label)
    reaches = build.reach(a), build.reach(b)
    try:
        if issubclass(kind, Maximum | Minimum):
            return build.add(kind(Tensor(name, a.shape, covering((a.format, b.format))), a, b))
        draft = kind(Tensor(name, a.shape, FixedPoint(MAX_WIDTH, frac)), a, b)
        low, high = draft.bounds(*reaches).range
        if (width := code_width(low, high)) > MAX_WIDTH:
            raise GraphError(f"{name}: needs {width} bits, the limit is {MAX_WIDTH}")
        return build.add(replace(draft, output=replace(draft.output, format=FixedPoint.covering(low, high, frac))))
    except ValueError as error:
        raise UnsupportedLayer(f"{label}: {a} and {b} have no exact result ({error}); quantize one of them") from None


def _bare(build: Builder, label: str, x: Value) -> Value:
    x = build.with_precision(x)
    if x.function is not None:
        raise UnsupportedLayer(f"{label}: reads {x.label}, a {x.function} that no quantizer follows; {_CURE}")
    return x


def _of_one_shape(build: Builder, label: str, a: Value, b: Value) -> tuple[Value, Value]:
    """Both repeated where they have one element and the other several, as in torch."""
    one, other = a.tensor.shape, b.tensor.shape
    try:
        shape = np.broadcast_shapes(one, other)
    except ValueError:
        shape = ()
    if len(one) != len(other) or not shape:
        raise UnsupportedLayer(
            f"{label}: {a.label} is {one} and {b.label} {other}, without the batch; give both the same axes, each of "
            "the same size or of one element"
        )
    return _repeated(build, f"{label}.a", a, shape), _repeated(build, f"{label}.b", b, shape)


def _repeated(build: Builder, label: str, x: Value, shape: tuple[int, ...]) -> Value:
    if x.tensor.shape == shape:
        return x
    places = np.arange(x.tensor.size).reshape(x.tensor.shape)
    result = moved(build, label, x, Move(np.broadcast_to(places, shape)))
    assert isinstance(result, Value)
    return result


def _refusal(label: str, a: Value, b: Value, why: str) -> UnsupportedLayer:
    return UnsupportedLayer(f"{label}: {a.label} and {b.label} {why}; {_CURE}")
