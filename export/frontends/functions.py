"""The functions between a sum and the quantizer behind it.

A saturating quantizer rises, so that a clip may be taken after it, the larger of two lines as the larger of two
quantized ones, and a curve, which rises or falls between its turning points, as comparisons or as a table
(:mod:`export.frontends.stairs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from export.frontends.curves import Curve


@dataclass(frozen=True)
class Clamp:
    """``min(max(x, low), high)``; None is no limit."""

    low: Fraction | None
    high: Fraction | None = None

    def of(self, number: Fraction) -> Fraction:
        raised = number if self.low is None else max(number, self.low)
        return raised if self.high is None else min(raised, self.high)

    def after(self, other: Clamp) -> Clamp:
        """Both clips, ``other`` first."""
        low = self.low if other.low is None else self.of(other.low)
        return Clamp(low, self.high if other.high is None else self.of(other.high))

    def __str__(self) -> str:
        return "relu" if (self.low, self.high) == (0, None) else "clip"


@dataclass(frozen=True)
class Leak:
    """``x`` where it is positive, else ``slope * x``; one slope, or one for each channel."""

    slopes: tuple[Fraction, ...]

    def __str__(self) -> str:
        return "leaky relu"


Function = Clamp | Leak | Curve


@dataclass(frozen=True)
class Activation:
    """``function(slope * x + offset)``, as a layer or a call of the user's says it."""

    function: Function
    slope: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)


RELU = Activation(Clamp(Fraction(0)))
RELU6 = Activation(Clamp(Fraction(0), Fraction(6)))
HARD_SIGMOID = Activation(Clamp(Fraction(0), Fraction(1)), Fraction(1, 6), Fraction(1, 2))
TANH = Activation(Curve.TANH)
SIGMOID = Activation(Curve.SIGMOID)
SILU = Activation(Curve.SILU)


def hard_tanh(low: float, high: float) -> Activation:
    return Activation(Clamp(Fraction(low), Fraction(high)))


def gelu(approximate: str) -> Activation:
    """As torch says it: "none" is the exact function, "tanh" the one that approximates it."""
    return Activation(Curve.GELU_TANH if approximate == "tanh" else Curve.GELU)


def leaky_relu(slope: float) -> Activation:
    """The slope is the decimal number that it prints as: 0.01 times 50 is 0.5, in floats too, and the float nearest to
    0.01 would make it more and round it up.
    """
    return Activation(Leak((Fraction(repr(float(slope))),)))
