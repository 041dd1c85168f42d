"""Softmax for any frontend: its tables, as long as its format needs, and the bound on its error."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from compress.fixed import FixedPoint, Overflow, Rounding
from export.arithmetic import codes_of
from export.frontends.approximation import upward
from export.frontends.precision import Precision
from export.frontends.value import UnsupportedLayer, Value
from export.intervals import Bounds
from export.ir import Const, Tensor
from export.modes import Modes
from export.ops.softmax import Softmax, exponential, mantissas

if TYPE_CHECKING:
    from export.frontends.builder import Builder

#: Probabilities where nothing else is said: 16 bits, all of them behind the point.
PROBABILITY = FixedPoint(16, 16, signed=False)

_NEAREST = Modes(Rounding.RND_CONV, Overflow.SAT)

#: Bits behind the point of an exponential beyond which the fast way is not worth its name.
_FINEST_TERM = 36


def softmax(build: Builder, label: str, x: Value, precision: Precision | None) -> Value:
    """Over the one axis of ``x``, into the format of the precision's result or of :data:`PROBABILITY`."""
    x = build.with_precision(x)
    if x.function is not None or len(set(x.scale)) != 1 or len(set(x.offset)) != 1 or x.scale[0] <= 0:
        raise UnsupportedLayer(
            f"{label}: reads {x.label}, whose numbers have scales or offsets by channel; put a QuantIdentity before it"
        )
    if len(x.tensor.shape) != 1:
        raise UnsupportedLayer(f"{label}: a softmax over one of the several axes of {x.tensor}; flatten it first")
    stated = precision or Precision(result=PROBABILITY)
    output, reach = Tensor(build.unique(label), x.tensor.shape, stated.result), build.reach(x.tensor)
    op = tables(output, x.tensor, x.scale[0], reach, stated)
    tensor = build.add(op)
    build.note(
        f"{label}: {'stable' if op.high is None else 'fast'} softmax from {op.exponentials.codes.size} exponentials "
        f"and {op.reciprocals.codes.size} reciprocals, within {upward(op.error(reach))} of the real softmax for every "
        "input, not equal to it; where only the largest output matters, leave it out and take the largest input"
    )
    return Value(tensor, label)


def tables(output: Tensor, x: Tensor, scale: Fraction, reach: Bounds, stated: Precision) -> Softmax:
    """Softmax of ``scale * x``: at most 2**table_width exponentials, and as many reciprocals in each octave."""
    fmt, size = x.format, x.size
    low, high = reach.range
    span = high - low
    # Terms so fine that their roundings, all together, are half a unit of the output.
    frac = max(1, output.format.frac) + (size - 1).bit_length()
    octaves = range((size - 1).bit_length() + 1)
    if not stated.stable:  # the sum may be as small as n times the least term, which is to have as many bits
        lost = _octaves_below(span * fmt.lsb * scale)
        frac += lost
        octaves = range(-lost, octaves.stop)
        if frac > _FINEST_TERM:
            raise UnsupportedLayer(
                f"{output.name}: x spans {float(span * fmt.lsb * scale):.3g}, for which the fast softmax needs terms "
                f"of {frac} bits, the limit is {_FINEST_TERM}; use the stable one, or a QuantIdentity of less range"
            )
    # A term beyond exp(-(frac + 1) ln 2) rounds to zero.
    needed = min(span, int(Fraction(7, 10) * (frac + 1) / (fmt.lsb * scale)) + 1)
    dropped = max(0, needed.bit_length() - stated.table_width)
    index = FixedPoint(max(1, needed.bit_length() - dropped), fmt.frac - dropped, signed=False)
    step = index.lsb * scale
    terms = [_rounded(exponential(-place * step), frac) for place in range(1 << index.width)]
    exponentials = Const(np.array(terms, dtype=object), FixedPoint(frac + 1, frac, signed=False))
    sums = FixedPoint.covering(0, size << frac, frac)
    mantissa_bits = min(stated.table_width, max(1, output.format.frac) + 1, frac)
    finest = mantissa_bits + 1 + octaves.stop
    rows = [
        [_rounded(2 / (first + last), finest) for first, last in mantissas(octave, mantissa_bits, sums)]
        for octave in octaves
    ]
    powers = codes_of([Fraction(2) ** -octave for octave in octaves], octaves[-1])
    top = None if stated.stable else Const(np.array([high], dtype=object), fmt)
    reciprocals = Const.fitting(np.array(rows, dtype=object), finest)
    return Softmax(
        output, x, index, exponentials, reciprocals, Const.fitting(powers, octaves[-1]), _NEAREST, scale, top
    )


def _octaves_below(span: Fraction) -> int:
    """How many times exp(-span) has to be doubled until it is 1 or more."""
    least = exponential(-span)
    octaves = 0
    while least * 2**octaves < 1:
        octaves += 1
    return octaves


def _rounded(number: Fraction, frac: int) -> int:
    return round(number * 2**frac)
