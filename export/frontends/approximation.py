"""A curve of stated precision behind float layers, the classic way: a table whose error is known beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from compress.fixed import FixedPoint, Overflow, Rounding
from export.frontends.curves import Curve
from export.frontends.precision import Precision
from export.frontends.stairs import Quantized, stairs, tabulated
from export.frontends.value import Value
from export.ir import Tensor
from export.modes import Modes

if TYPE_CHECKING:
    from export.frontends.builder import Builder

_NEAREST = Modes(Rounding.RND_CONV, Overflow.SAT)
_DIGITS = 20


def approximated(build: Builder, x: Value, curve: Curve, precision: Precision) -> Value:
    """``curve`` of ``x`` in the format of the precision's result: the real function, rounded to nearest and saturated.

    It is read from a table by the ``precision.table_width`` upper bits of ``x``, below the bit from which on the result
    stays the same; a note says how far the result can be from the function of the exact ``x``.
    """
    function = Quantized(curve, precision.result, _NEAREST)
    low, high = build.reach(x.tensor).range
    numbers = sorted(scale * x.tensor.format.lsb * code + offset for scale, offset in x.lines for code in (low, high))
    read = x.tensor
    if not x.unscaled or high - low >= 1 << precision.table_width:
        index = _index(function, precision.table_width, numbers[0], numbers[-1])
        bare = Value(x.tensor, x.label, x.scale, x.offset)
        read = build.cast(f"{x.label}.index", bare, index, _NEAREST).tensor
    lsb = read.format.lsb
    low, high = build.reach(read).range
    made = stairs(function, lsb, Fraction(0), low, high)
    output = Tensor(build.unique(x.label), x.tensor.shape, precision.result)
    tensor = build.add(tabulated(output, read, [made] * output.shape[0]))
    half = Fraction(0) if read == x.tensor else lsb / 2

    def bucket(code: int) -> tuple[Fraction, Fraction]:
        """The numbers that read the entry of ``code``; what lies beyond the last ones reads those."""
        first = numbers[0] if half and code == low else code * lsb - half
        return first, numbers[-1] if half and code == high else code * lsb + half

    error = max(
        _distance(curve, result * precision.result.lsb, *bucket(code))
        for code, result in zip(range(low, high + 1), made.listed(low, high), strict=True)
    )
    build.note(
        f"{x.label}: a table of {high - low + 1} entries of {precision.result.width} bits, within {upward(error)} of "
        f"the real {curve} for every input"
    )
    return Value(tensor, x.label)


def upward(error: Fraction) -> str:
    """A bound as a decimal of three digits that is not below it."""
    if error == 0:
        return "0"
    power = Fraction(1)
    while error / power < 100:
        power /= 10
    while error / power >= 999:
        power *= 10
    return f"{float(-(-error // power) * power):.3g}"


def _index(function: Quantized, width: int, low: Fraction, high: Fraction) -> FixedPoint:
    """As many bits before the point as tell different results apart, or as the numbers have; the rest behind."""
    signed, integer = low < 0, 0
    limits = {end: function.code(end) for end in (low, high)}
    while not all(
        abs(end) < (reached := Fraction(2) ** (integer - signed))
        or function.code(reached if end > 0 else -reached) == code
        for end, code in limits.items()
    ):
        integer += 1
    return FixedPoint(width, width - integer, signed)


def _distance(curve: Curve, result: Fraction, low: Fraction, high: Fraction) -> Fraction:
    """How far ``result`` is from the curve between two numbers, at most."""
    return max(abs(result - end) for number in _extremes(curve, low, high) for end in curve.between(number, _DIGITS))


def _extremes(curve: Curve, low: Fraction, high: Fraction) -> Iterator[Fraction]:
    """Where the largest and the smallest value between two numbers lie."""
    yield low
    yield high
    if curve.turn is not None:
        yield from (turn for turn in curve.turn if low < turn < high)
