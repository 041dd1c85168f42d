"""The codes a quantizer may use, and the power-of-two ranges they divide."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: The smallest magnitude a parameter's scale is computed from: all-zero weights still have a scale (Brevitas's value).
SMALLEST_RANGE = 1e-10

#: float32 holds every integer of up to this many bits.
FLOAT32_BITS = 24

_MANTISSA_BITS = {torch.float32: 24, torch.float64: 53}
_MAX_EXPONENT = {torch.float32: 127, torch.float64: 1023}


class Steps(NamedTuple):
    """What rounds to a grid of a known scale: ``x + pivot - pivot``, then clipped to ``[low, high]``.

    The pivot is so large that the numbers around it are ``scale`` apart, so that the sum rounds, half to even, at the
    place where the grid does. Magnitudes for which it does not are far beyond the limits.
    """

    pivot: Tensor
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Grid:
    """The codes a quantizer may use, and where their binary point is.

    ``frac`` fixes the binary point: ``value = code * 2**-frac``. Without it the range is a power of two found from the
    data, ``[-2**e, 2**e)`` or ``[0, 2**e)``, and the codes divide it. A ``narrow`` grid leaves out the lowest code.
    One signed bit is ``binary``: its codes are -1 and +1, and the range is the scale.
    """

    width: int
    signed: bool = True
    narrow: bool = False
    frac: int | None = None
    #: Bits without the sign: a range of ``2**e`` has the scale ``2**(e - magnitude_bits)``.
    magnitude_bits: int = field(init=False, repr=False, compare=False)
    low: int = field(init=False, repr=False, compare=False)
    high: int = field(init=False, repr=False, compare=False)
    _steps: dict[tuple[int, torch.dtype], Steps | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bits = self.width - self.signed
        object.__setattr__(self, "magnitude_bits", bits)
        object.__setattr__(self, "low", -1 if self.binary else self.narrow - (1 << bits) if self.signed else 0)
        object.__setattr__(self, "high", 1 if self.binary else (1 << bits) - 1)
        object.__setattr__(self, "_steps", {})

    @property
    def binary(self) -> bool:
        """Whether the codes are -1 and +1, without a zero between them."""
        return self.signed and self.width == 1

    def limits(self, dtype: torch.dtype) -> tuple[int, int]:
        """The outermost codes that ``dtype`` can hold. Past 24 bits in float32 ``high`` itself would round outwards."""
        if self.magnitude_bits <= FLOAT32_BITS or dtype is not torch.float32:
            return self.low, self.high
        excess = self.magnitude_bits - FLOAT32_BITS
        low = -self.low >> excess << excess
        return -low, self.high >> excess << excess

    def steps(self, shift: int, dtype: torch.dtype) -> Steps | None:
        """How to round to multiples of ``2**shift``; None where a float has no room for a pivot beside the codes."""
        key = (shift, dtype)
        if key in self._steps:
            return self._steps[key]
        mantissa = _MANTISSA_BITS[dtype]
        fits = self.magnitude_bits < mantissa - 2 and abs(shift) + mantissa < _MAX_EXPONENT[dtype]
        pivot = torch.tensor(math.ldexp(1.5, shift + mantissa - 1) if fits else 0.0, dtype=dtype)
        steps = Steps(pivot, math.ldexp(self.low, shift), math.ldexp(self.high, shift)) if fits else None
        return self._steps.setdefault(key, steps)


def range_exponent(absmax: float, dtype: torch.dtype) -> int:
    """``ceil(log2(absmax))`` exactly as torch computes it in ``dtype``, for finite ``absmax``.

    float32's logarithm of a number just above a power of two may round down to a whole number. Away from that case the
    float's own exponent is the answer, and much faster; near it torch is asked.
    """
    mantissa, exponent = math.frexp(absmax)
    # Here the logarithm is at least 0.001 from a whole number; torch's is off by a few units in the last place at most.
    if 0.501 < mantissa < 0.999:
        return exponent
    return int(torch.tensor(absmax, dtype=dtype).log2().ceil())


@lru_cache(maxsize=256)
def open_interval(grid: Grid, dtype: torch.dtype, rectify: bool, shift: int | None) -> tuple[float, float]:
    """The open interval of ``x`` through which a gradient passes: all that rounds to a code of the grid.

    The scale is ``2**shift``, NaN if None. A tie goes to the even code. At the upper end that one is outside; at the
    lower end it is inside unless the grid is narrow, so the lower bound is moved down by one float. Rectified, the
    interval starts at zero, as the gradient of a ReLU does.
    """
    if shift is None:
        return math.nan, math.nan
    kind = np.float32 if dtype is torch.float32 else np.float64
    low, high = kind(grid.low - 0.5), kind(grid.high + 0.5)
    if grid.low % 2 == 0:
        low = np.nextafter(low, kind(-math.inf))
    return 0.0 if rectify else math.ldexp(low, shift), math.ldexp(high, shift)
