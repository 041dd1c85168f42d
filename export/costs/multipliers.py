"""What a multiplication costs: by a constant nothing, an adder, lookup tables or DSP blocks; by a variable the latter.

The rules are read off modules that Vivado HLS and Vitis HLS synthesized (``benchmarks/estimate.py``): a product by a
constant becomes shifts and adds iff the constant has at most two signed digits, equal constants on one input share
their multiplier, and a DSP block is taken iff both factors have 5 bits or more, and 18 together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.fixed import Codes, FixedPoint

#: Bits of the two factors that one DSP block multiplies, both signed (DSP48E2; that of 7 series has 25 for 27).
_BLOCK = (18, 27)


def signed_digits(code: int) -> tuple[int, int]:
    """How many digits +1 and -1 the shortest sum of signed powers of two for ``code`` has (its canonical form)."""
    size = abs(code)
    plus, minus = (3 * size & ~size).bit_count(), (size & ~(3 * size)).bit_count()
    return (plus, minus) if code >= 0 else (minus, plus)


def constant_bits(code: int) -> int:
    """Bits of a constant factor, sign included, as Vitis HLS counts them (Vivado HLS: one less if positive)."""
    return (code if code >= 0 else ~code).bit_length() + 1


def dsp_blocks(a: int, b: int) -> int:
    """DSP blocks of one multiplier of ``a`` by ``b`` bits; 0 where lookup tables are taken."""
    narrow, wide = sorted((a, b))
    if narrow < 5 or narrow + wide < 18:
        return 0
    return -(-narrow // _BLOCK[0]) * -(-wide // _BLOCK[1])


def lut_of_multiplier(a: int, b: int) -> float:
    """Lookup tables of a multiplier without DSP block: 23 for 6 by 5 bits, 40 for 8 by 7, 62 for 10 by 5."""
    narrow, wide = sorted((a, b))
    return 0.63 * wide * min(wide, 2.5 * narrow)


@dataclass(frozen=True)
class Multipliers:
    """Multipliers by kind. ``shift_adds`` are of one adder each, ``dsp`` are blocks, not multipliers.

    ``negations`` are constants whose two digits are both negative: they take one adder more.
    """

    shift_adds: int = 0
    negations: int = 0
    in_lut: int = 0
    in_dsp: int = 0
    dsp: int = 0
    lut: float = 0.0

    @property
    def count(self) -> int:
        """Multipliers proper."""
        return self.in_lut + self.in_dsp

    def __add__(self, other: Multipliers) -> Multipliers:
        return Multipliers(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def times(self, copies: int) -> Multipliers:
        return Multipliers(*(copies * number for number in vars(self).values()))


def by_constants(matrix: Codes, x: FixedPoint) -> Multipliers:
    """Of a matrix (outputs, inputs) of codes with inputs of format ``x``, all products at once. Exact for the rules."""
    values, places = np.unique(matrix, return_inverse=True)
    inputs = np.broadcast_to(np.arange(matrix.shape[1]), matrix.shape)
    shared = np.unique(places.reshape(-1) * matrix.shape[1] + inputs.reshape(-1)) // max(1, matrix.shape[1])
    total = Multipliers()
    for value, copies in zip(values.tolist(), np.bincount(shared, minlength=len(values)).tolist(), strict=True):
        total += by_constant(value, x).times(copies)
    return total


def by_constant(code: int, x: FixedPoint) -> Multipliers:
    plus, minus = signed_digits(code)
    if plus + minus <= 1:
        return Multipliers()
    if plus + minus == 2:
        return Multipliers(shift_adds=1, negations=int(plus == 0))
    return by_variable(constant_bits(code), x.width)


def by_variable(a: int, b: int) -> Multipliers:
    """One multiplier of ``a`` by ``b`` bits."""
    blocks = dsp_blocks(a, b)
    return Multipliers(in_dsp=1, dsp=blocks) if blocks else Multipliers(in_lut=1, lut=lut_of_multiplier(a, b))
