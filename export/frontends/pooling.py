"""Pooling: of what has a scale or waits for a quantizer too, as far as that is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING

import numpy as np

from compress.fixed import MAX_WIDTH, FixedPoint
from export.frontends.curves import Curve
from export.frontends.functions import Function, Leak
from export.frontends.precision import Precision
from export.frontends.value import ZERO, UnsupportedLayer, Value
from export.ir import Const, Tensor
from export.ops import MaxPool, SumPool
from export.ops.windows import Window

if TYPE_CHECKING:
    from export.frontends.builder import Builder


def largest(build: Builder, label: str, x: Value, window: Window) -> Value:
    """The largest number of each window. A scale and a function that rise may be applied afterwards."""
    x = build.with_precision(x)
    if not _rises(x.function):
        raise UnsupportedLayer(
            f"{label}: pools {x.label}, a {x.function} that no quantizer follows and that does not rise everywhere; "
            "put a QuantIdentity between them"
        )
    x = _rising(build, label, x)
    output = Tensor(build.unique(label), (x.tensor.shape[0], *window.positions), x.tensor.format)
    return replace(x, tensor=build.add(MaxPool(output, x.tensor, window)), label=label)


def averaged(
    build: Builder, label: str, x: Value, window: Window, divisors: Sequence[int], precision: Precision | None = None
) -> Value:
    """The sum of each window over the divisor of its position, one for each, row-major.

    The sums are exact; what is left of the divisors is applied by the next quantizer.
    """
    x = build.with_precision(x)
    if x.function is not None:
        raise UnsupportedLayer(
            f"{label}: averages {x.label}, a {x.function} that no quantizer follows; put a quantizer between them"
        )
    shares = [Fraction(int(count), divisor) for count, divisor in zip(window.counts.flat, divisors, strict=True)]
    if set(x.offset) != {ZERO} and len(set(shares)) > 1:
        raise UnsupportedLayer(
            f"{label}: averages {x.label}, which is shifted and not quantized, with padding that counts at some "
            "positions; use count_include_pad=False, or put a QuantIdentity between them"
        )
    common = lcm(*divisors)
    weights = [common // divisor for divisor in divisors]
    places = (common & -common).bit_length() - 1
    codes = np.array(weights if len(set(weights)) > 1 else weights[:1], dtype=object)
    weight = Const.fitting(codes, places)
    shape = (x.tensor.shape[0], *window.positions)
    widest = FixedPoint(MAX_WIDTH, x.tensor.format.frac + weight.format.frac)
    name = build.unique(label if precision is None else f"{label}.sum")
    draft = SumPool(Tensor(name, shape, widest), x.tensor, window, weight)
    total = build.add(replace(draft, output=replace(draft.output, format=draft.accumulator(build.reach(x.tensor)))))
    rest = Fraction(1, common >> places)
    offset = tuple(o * shares[0] for o in x.offset)
    made = Value(total, label, tuple(s * rest for s in x.scale), offset, precision=precision)
    if made.plain and precision is not None:
        return build.cast(label, made, precision.result, precision.modes)
    return made


def _rising(build: Builder, label: str, x: Value) -> Value:
    """The same with no negative scale: the numbers of such channels change their sign instead."""
    if all(scale >= 0 for scale in x.scale):
        return x
    signs = tuple(Fraction(-1 if scale < 0 else 1) for scale in x.scale)
    turned = build.exactly(Value(x.tensor, f"{label}.turned", signs))
    if turned is None:
        raise UnsupportedLayer(
            f"{label}: pools {x.label}, whose scale is negative in some channel, and -x needs more than {MAX_WIDTH} "
            "bits; quantize it to fewer before"
        )
    return replace(x, tensor=turned.tensor, scale=tuple(map(abs, x.scale)))


def _rises(function: Function | None) -> bool:
    match function:
        case Leak(slopes):
            return all(slope >= 0 for slope in slopes)
        case Curve():
            return function.turn is None
    return True
