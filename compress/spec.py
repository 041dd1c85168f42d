"""QuantSpec: how many bits each kind of number in a layer gets, and where their binary points are."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from typing import Any

from compress.fakequant import Grid

MAX_QUANT_WIDTH = 32
#: Beyond this many fraction bits, either way, float32 cannot hold a 32-bit grid without leaving its normal range.
MAX_QUANT_FRAC = 64


class QuantSpecError(ValueError):
    """A specification that no layer can have."""


@dataclass(frozen=True, kw_only=True)
class QuantSpec:
    """Widths in bits, 1 to 32, and optional constant binary points, for one layer or a whole model.

    ==============  =======================================================================================
    weights         signed, without their lowest code (symmetric); the range is the next power of two above
                    the largest magnitude, found anew at every step
    biases          signed, with a range of their own found in the same way; ``bias_width=None`` leaves them
                    floats, which the hardware then has to be given a format for
    activations     what leaves a ReLU: unsigned, with a learned power-of-two range
    inputs          what enters the model, or a ``QuantIdentity`` anywhere: signed unless ``input_signed`` is
                    False, with a learned power-of-two range
    ==============  =======================================================================================

    A ``*_frac`` fixes the binary point instead: ``weight_width=16, weight_frac=10`` is ``ap_fixed<16,6>``, all its
    codes in use. One signed bit holds 0 and -1 only, so it is refused wherever numbers are signed.
    """

    weight_width: int = 8
    bias_width: int | None = 16
    activation_width: int = 8
    input_width: int = 16
    weight_frac: int | None = None
    bias_frac: int | None = None
    activation_frac: int | None = None
    input_frac: int | None = None
    input_signed: bool = True

    def __new__(cls, **given: Any) -> QuantSpec:
        """Refuses a field that does not exist, naming the one that was probably meant."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                cure = f"did you mean {close[0]}?" if close else f"its fields are {', '.join(known)}"
                raise QuantSpecError(f"QuantSpec has no field {name!r}; {cure}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name in ("weight_width", "bias_width", "activation_width", "input_width"):
            width = getattr(self, name)
            if width is None and name == "bias_width":
                continue
            if not _is_int(width) or not 1 <= width <= MAX_QUANT_WIDTH:
                raise QuantSpecError(f"{name} is a whole number of bits from 1 to {MAX_QUANT_WIDTH}, got {width!r}")
        for name in ("weight_frac", "bias_frac", "activation_frac", "input_frac"):
            frac = getattr(self, name)
            if frac is not None and (not _is_int(frac) or abs(frac) > MAX_QUANT_FRAC):
                raise QuantSpecError(
                    f"{name} is a whole number of fraction bits from -{MAX_QUANT_FRAC} to {MAX_QUANT_FRAC}, "
                    f"or None for a range found from the data; got {frac!r}"
                )
        if not isinstance(self.input_signed, bool):
            raise QuantSpecError(f"input_signed is True or False, got {self.input_signed!r}")
        if self.weight_width == 1:
            raise QuantSpecError(
                "weight_width=1: a signed bit holds 0 and -1 only, and binary weights {-1, +1} have no zero to prune "
                "to; use weight_width=2, whose codes are -1, 0 and +1"
            )
        if self.bias_width == 1:
            raise QuantSpecError("bias_width=1: a signed bit holds 0 and -1 only; use at least 2 bits, or no bias")
        if self.input_width == 1 and self.input_signed:
            raise QuantSpecError(
                "input_width=1: a signed bit holds 0 and -1 only; use 2 bits, or input_signed=False for inputs 0 and 1"
            )
        if self.bias_width is None and self.bias_frac is not None:
            raise QuantSpecError(f"bias_frac={self.bias_frac} for a float bias; give bias_width too, or drop bias_frac")

    @property
    def weight_grid(self) -> Grid:
        return Grid(self.weight_width, signed=True, narrow=self.weight_frac is None, frac=self.weight_frac)

    @property
    def bias_grid(self) -> Grid | None:
        return None if self.bias_width is None else Grid(self.bias_width, signed=True, frac=self.bias_frac)

    @property
    def activation_grid(self) -> Grid:
        return Grid(self.activation_width, signed=False, frac=self.activation_frac)

    @property
    def input_grid(self) -> Grid:
        return Grid(self.input_width, signed=self.input_signed, frac=self.input_frac)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
