"""The curves that activations are: real functions whose values no fraction says, enclosed as closely as it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from enum import Enum
from fractions import Fraction
from functools import cache

#: Decimal digits beyond those asked for: the rounding errors of a thousand operations are no matter then.
_GUARD = 20

#: Of the tanh approximation of GELU: x * sigmoid(2 sqrt(2 / pi) (x + x**3 * this)).
_CUBIC = Fraction(44715, 1000000)


class Curve(Enum):
    """A function of one real number. At no fraction but zero is its value a fraction.

    Those with a ``turn`` fall before it and rise behind it; the others rise everywhere. Why they do:
    the derivative of SiLU has the sign of 1 + x + exp(x), which rises; that of GELU, Phi(x) + x phi(x), is negative
    up to -sqrt(2), positive from 0 on, and rises in between; that of its approximation x sigmoid(v(x)) has the sign of
    1 + exp(v) + x v', which rises.
    """

    TANH = "tanh"
    SIGMOID = "sigmoid"
    SILU = "silu"
    GELU = "gelu"
    GELU_TANH = "gelu (tanh approximation)"

    @property
    def turn(self) -> tuple[Fraction, Fraction] | None:
        """Two fractions, 10**-30 apart, with the least value between them."""
        if (start := _TURNS.get(self)) is None:
            return None
        return Fraction(start), Fraction(start) + Fraction(1, 10**30)

    @property
    def negative(self) -> bool:
        """Whether negative numbers have negative results; else no number has."""
        return self is not Curve.SIGMOID

    def between(self, x: Fraction, digits: int) -> tuple[Fraction, Fraction]:
        """Two fractions at most 2 * 10**-digits apart, with the value at ``x`` strictly between; at zero both are it.

        Computed with 20 digits more, of numbers that are at most 5 * digits: each operation is right within one unit of
        the last digit, exp(x) then within |x| such units more, and there are fewer than 1000 operations.
        """
        if x == 0:
            exact = Fraction(0) if self.negative else Fraction(1, 2)
            return exact, exact
        error = Fraction(1, 10**digits)
        low, high = self._range(x)
        # The function and its line are closer than exp(-|x| / 2), and 5 digits / 2 > digits * ln(10).
        near = self._line(x) if abs(x) > 5 * digits else _VALUES[self](x, digits)
        return max(near - error, low), min(near + error, high)

    def settled(self, x: Fraction) -> Fraction | None:
        """0, 1, -1 or ``x``, where that is what float64 has for the value at ``x``; None where it tells them apart.

        That is so where it calls 1 + exp(-x), erf or tanh their limit, at the same ``x`` in whatever library.
        """
        below, above = _SETTLED[self]
        return None if below < x < above else self._line(x)

    def near(self, x: float) -> float:
        """The value as floats have it, for guesses."""
        if abs(x) > 500:
            return float(self._line(Fraction(x)))
        match self:
            case Curve.TANH:
                return math.tanh(x)
            case Curve.SIGMOID:
                return 1 / (1 + math.exp(-x))
            case Curve.SILU:
                return x / (1 + math.exp(-x))
            case Curve.GELU:
                return x * math.erfc(-x / math.sqrt(2)) / 2
            case Curve.GELU_TANH:
                return x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + float(_CUBIC) * x**3))) / 2

    def _line(self, x: Fraction) -> Fraction:
        """What the function comes arbitrarily close to as the magnitude of ``x`` grows."""
        match self:
            case Curve.TANH:
                return Fraction(1 if x > 0 else -1)
            case Curve.SIGMOID:
                return Fraction(x > 0)
        return max(x, Fraction(0))

    def _range(self, x: Fraction) -> tuple[Fraction, Fraction]:
        """Fractions that the value at ``x`` is known to lie strictly between."""
        zero, one = Fraction(0), Fraction(1)
        match self:
            case Curve.TANH:
                return (zero, one) if x > 0 else (-one, zero)
            case Curve.SIGMOID:
                return zero, one
        return (zero, x) if x > 0 else (x, zero)

    def __str__(self) -> str:
        return self.value


_TURNS = {
    Curve.SILU: "-1.278464542761073795109358739023",
    Curve.GELU: "-0.751791524693564457457904946780",
    Curve.GELU_TANH: "-0.752461422071016258487954443289",
}

#: Up to the first number, and from the second on, float64 has the line. Where 1 - tanh(x) is 2**-54, half of its last
#: place; exp(-x) its largest number, and 2**-53, which added to 1 is lost; 1 - erf(-x / sqrt(2)) as tanh below, and
#: 3 * 2**-54 above, where 2 - 2**-53 is made 2; and the tanh of the approximation likewise.
_SETTLED = {
    Curve.TANH: (Fraction("-19.06154746539849599509609553229"), Fraction("19.06154746539849599509609553229")),
    Curve.SIGMOID: (Fraction("-709.7827128933839967877345411419"), Fraction("36.73680056967710139911330243728")),
    Curve.SILU: (Fraction("-709.7827128933839967877345411419"), Fraction("36.73680056967710139911330243728")),
    Curve.GELU: (Fraction("-8.374388923067456451026748923631"), Fraction("8.244009839272802689108853757336")),
    Curve.GELU_TANH: (Fraction("-7.200040557303351857676976489566"), Fraction("7.112562466571520488942654504276")),
}


def _context(digits: int) -> Context:
    # Operators of Decimal, the sign among them, round to the digits of the thread's context; so they are not used.
    return Context(prec=digits + _GUARD, Emax=MAX_EMAX, Emin=MIN_EMIN)


def _decimal(x: Fraction, context: Context) -> Decimal:
    return context.divide(Decimal(x.numerator), Decimal(x.denominator))


def _logistic(x: Decimal, context: Context) -> Decimal:
    return context.divide(Decimal(1), context.add(Decimal(1), context.exp(context.minus(x))))


def _tanh(x: Fraction, digits: int) -> Fraction:
    context = _context(digits)
    return 2 * Fraction(_logistic(_decimal(2 * x, context), context)) - 1


def _sigmoid(x: Fraction, digits: int) -> Fraction:
    context = _context(digits)
    return Fraction(_logistic(_decimal(x, context), context))


def _silu(x: Fraction, digits: int) -> Fraction:
    return x * _sigmoid(x, digits)


def _gelu_tanh(x: Fraction, digits: int) -> Fraction:
    if x * x > 5 * digits:  # closer to its line than |x| exp(-1.59 |x| - 0.071 |x|**3)
        return max(x, Fraction(0))
    context = _context(digits)
    root = context.sqrt(_decimal(8 / _pi(digits), context))
    return x * Fraction(_logistic(context.multiply(root, _decimal(x + _CUBIC * x**3, context)), context))


def _gelu(x: Fraction, digits: int) -> Fraction:
    """``x Phi(x)``, with Phi(x) = 1/2 + phi(x) (x + x**3 / 3 + x**5 / (3 * 5) + ...), a series of one sign."""
    if x * x > 5 * digits:  # closer to its line than phi(x) < exp(-x**2 / 2)
        return max(x, Fraction(0))
    context = _context(digits)
    square = _decimal(x * x, context)
    term = total = _decimal(x, context)
    divisor = 1
    # Once a term is less than half of the one before, all that follow are less than it together.
    while term.adjusted() > total.adjusted() - context.prec or 2 * x * x > divisor:
        divisor += 2
        term = context.divide(context.multiply(term, square), Decimal(divisor))
        total = context.add(total, term)
    density = context.divide(
        context.exp(_decimal(-x * x / 2, context)), context.sqrt(_decimal(2 * _pi(digits), context))
    )
    return x * (Fraction(1, 2) + Fraction(context.multiply(density, total)))


_VALUES: dict[Curve, Callable[[Fraction, int], Fraction]] = {
    Curve.TANH: _tanh,
    Curve.SIGMOID: _sigmoid,
    Curve.SILU: _silu,
    Curve.GELU: _gelu,
    Curve.GELU_TANH: _gelu_tanh,
}


@cache
def _pi(digits: int) -> Fraction:
    """Pi to ``digits`` and as many more as a context has, by Machin's formula."""
    unit = 10 ** (digits + _GUARD + 10)
    return Fraction(16 * _arctan(5, unit) - 4 * _arctan(239, unit), unit)


def _arctan(n: int, unit: int) -> int:
    """``unit * arctan(1 / n)``, an alternating series, within two for each of its terms."""
    total, power, divisor = 0, unit // n, 1
    while power:
        total += power // divisor if divisor % 4 == 1 else -(power // divisor)
        power //= n * n
        divisor += 2
    return total
