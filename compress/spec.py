"""QuantSpec: how many bits each kind of number in a layer gets, and how its scale is found."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from compress.fakequant import Grid
from compress.fixed import FixedPoint

MAX_QUANT_WIDTH = 32
#: Beyond this many fraction bits, either way, float32 cannot hold a 32-bit grid without leaving its normal range.
MAX_QUANT_FRAC = 64
#: The codes of a wider accumulator have no float64 each.
MAX_ACCUMULATOR_WIDTH = 53


class QuantSpecError(ValueError):
    """A specification that no layer can have."""


class Scale(Enum):
    """What the step between two codes may be."""

    POWER_OF_TWO = "power_of_two"  # the numbers are fixed-point numbers
    FLOAT = "float"  # any positive number: the rescaling constant (alpha) that the hardware multiplies with


class Range(Enum):
    """Where the range of weights comes from, before a power-of-two scale rounds it up."""

    LARGEST = "largest"  # the largest magnitude, anew at every step
    AVERAGE = "average"  # the mean magnitude, anew at every step; whatever is beyond saturates
    LEARNED = "learned"  # a parameter, trained with the weights


@dataclass(frozen=True, kw_only=True)
class QuantSpec:
    """Widths in bits, 1 to 32, optional constant binary points and kinds of scales, for a layer or a whole model.

    ==============  =======================================================================================
    weights         signed, without their lowest code (symmetric); the range is the next power of two above
                    the largest magnitude, found anew at every step. ``weight_range`` takes it from elsewhere,
                    ``weight_scale`` leaves it unrounded, ``weight_per_channel`` gives each output channel its own
    biases          signed, with a power-of-two range of their own from the largest magnitude;
                    ``bias_width=None`` leaves them floats, which the hardware then has to be given a format for
    activations     what leaves a ReLU (unsigned) or another activation layer (signed if it can be negative),
                    with a learned range, rounded up to a power of two unless ``activation_scale`` is FLOAT
    inputs          what enters the model, or a ``QuantIdentity`` anywhere: signed unless ``input_signed`` is
                    False, with a learned range likewise
    outputs         with ``output_width``, what leaves a linear or convolutional layer: signed, with a learned
                    power-of-two range
    accumulators    with ``accumulator``, the exact sum of such a layer is stored in this format before
                    anything else happens to it, truncated and wrapped: the vendors' default modes
    ==============  =======================================================================================

    One signed bit is binary, {-1, +1} times the scale, and zero counts as +1; the range of binary weights is their mean
    magnitude unless stated. Two bits are ternary, {-1, 0, +1} times the scale. Binary weights have no zero to prune to.

    A ``*_frac`` fixes the binary point instead: ``weight_width=16, weight_frac=10`` is ``ap_fixed<16,6>``, all its
    codes in use (with two bits also the lowest, -2).
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
    weight_scale: Scale = Scale.POWER_OF_TWO
    weight_range: Range | None = None  # None: AVERAGE for one bit, else LARGEST
    weight_per_channel: bool = False
    activation_scale: Scale = Scale.POWER_OF_TWO
    input_scale: Scale = Scale.POWER_OF_TWO
    output_width: int | None = None
    output_frac: int | None = None
    accumulator: FixedPoint | None = None

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
        for name in ("weight_width", "bias_width", "activation_width", "input_width", "output_width"):
            width = getattr(self, name)
            if width is None and name in ("bias_width", "output_width"):
                continue
            if not _is_int(width) or not 1 <= width <= MAX_QUANT_WIDTH:
                raise QuantSpecError(f"{name} is a whole number of bits from 1 to {MAX_QUANT_WIDTH}, got {width!r}")
        for name in ("weight_frac", "bias_frac", "activation_frac", "input_frac", "output_frac"):
            frac = getattr(self, name)
            if frac is not None and (not _is_int(frac) or abs(frac) > MAX_QUANT_FRAC):
                raise QuantSpecError(
                    f"{name} is a whole number of fraction bits from -{MAX_QUANT_FRAC} to {MAX_QUANT_FRAC}, "
                    f"or None for a range found from the data; got {frac!r}"
                )
        for name in ("input_signed", "weight_per_channel"):
            if not isinstance(getattr(self, name), bool):
                raise QuantSpecError(f"{name} is True or False, got {getattr(self, name)!r}")
        for name in ("weight_scale", "activation_scale", "input_scale"):
            _check_member(name, getattr(self, name), Scale)
        if self.weight_range is not None:
            _check_member("weight_range", self.weight_range, Range)
        self._check_constants()
        if self.bias_width == 1:
            raise QuantSpecError("bias_width=1: binary biases have no zero; use at least 2 bits, or no bias")
        accumulator = self.accumulator
        if accumulator is not None and not isinstance(accumulator, FixedPoint):
            raise QuantSpecError(f"accumulator is a FixedPoint(width, frac, signed) or None, got {accumulator!r}")
        if accumulator is not None and accumulator.width > MAX_ACCUMULATOR_WIDTH:
            raise QuantSpecError(
                f"accumulator={accumulator}: a float64 holds the codes of at most {MAX_ACCUMULATOR_WIDTH} bits; "
                "use fewer, or None for one that is always wide enough"
            )

    def _check_constants(self) -> None:
        """A constant binary point leaves nothing to be found."""
        for name in ("bias", "output"):
            width, frac = getattr(self, f"{name}_width"), getattr(self, f"{name}_frac")
            if width is None and frac is not None:
                what = "a float bias" if name == "bias" else "outputs that are not quantized"
                raise QuantSpecError(f"{name}_frac={frac} for {what}; give {name}_width too, or drop {name}_frac")
        for name in ("weight", "activation", "input"):
            frac, scale = getattr(self, f"{name}_frac"), getattr(self, f"{name}_scale")
            if frac is not None and scale is Scale.FLOAT:
                raise QuantSpecError(
                    f"{name}_frac={frac} is a power-of-two scale, but {name}_scale is FLOAT; drop one of the two"
                )
        for name, found in (("weight_range", self.weight_range), ("weight_per_channel", self.weight_per_channel)):
            if self.weight_frac is not None and found:
                raise QuantSpecError(
                    f"weight_frac={self.weight_frac} fixes the range of all weights, but {name}={found}; "
                    "drop one of the two"
                )

    @property
    def weight_grid(self) -> Grid:
        return Grid(self.weight_width, signed=True, narrow=self.weight_frac is None, frac=self.weight_frac)

    @property
    def bias_grid(self) -> Grid | None:
        return None if self.bias_width is None else Grid(self.bias_width, signed=True, frac=self.bias_frac)

    @property
    def activation_grid(self) -> Grid:
        """Of an activation that is never negative."""
        return Grid(self.activation_width, signed=False, frac=self.activation_frac)

    @property
    def signed_activation_grid(self) -> Grid:
        """Of an activation that may be negative."""
        return _signed_grid(self.activation_width, self.activation_frac)

    @property
    def input_grid(self) -> Grid:
        if self.input_signed:
            return _signed_grid(self.input_width, self.input_frac)
        return Grid(self.input_width, signed=False, frac=self.input_frac)

    @property
    def output_grid(self) -> Grid | None:
        return None if self.output_width is None else _signed_grid(self.output_width, self.output_frac)

    @property
    def range_of_weights(self) -> Range | None:
        """``weight_range`` with its default filled in; None where ``weight_frac`` is the range."""
        if self.weight_frac is not None:
            return None
        return self.weight_range or (Range.AVERAGE if self.weight_width == 1 else Range.LARGEST)


def _signed_grid(width: int, frac: int | None) -> Grid:
    """Two bits are ternary, unless their binary point is a constant: then they are the vendors' type of two bits."""
    return Grid(width, signed=True, narrow=width == 2 and frac is None, frac=frac)


def _check_member(name: str, value: object, kind: type[Enum]) -> None:
    if not isinstance(value, kind):
        members = ", ".join(str(member) for member in kind)
        raise QuantSpecError(f"{name} is one of {members}, got {value!r}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
