"""What a tensor of the user's model is, in terms of the integer graph, while a frontend walks through the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from compress.fixed import FixedPoint
from export.frontends.functions import Function
from export.frontends.precision import Precision
from export.ir import GraphError, Tensor

if TYPE_CHECKING:
    from export.frontends.moving import Move

ONE, ZERO = Fraction(1), Fraction(0)

#: One rational for every channel (length one), or one each.
Rationals = tuple[Fraction, ...]


class UnsupportedLayer(GraphError):
    """A layer or call that has no exact lowering. The message says where it is and what to do."""


@dataclass(frozen=True)
class Raw:
    """The model's input before anything has quantized it.

    ``entering`` is the shape of a sample, ``shape`` what it is after ``moves``, each with the label of its place.
    """

    name: str
    entering: tuple[int, ...]
    shape: tuple[int, ...]
    moves: tuple[tuple[str, Move], ...] = ()


@dataclass(frozen=True)
class Value:
    """The user's number is ``scale * tensor + offset`` per channel, and ``function`` of that where there is one.

    Float scales, float biases and batch normalisation gather here as exact rationals until a quantizer turns them into
    codes again. ``label`` is the layer it belongs to, ``precision`` the format to fall back to without a quantizer.
    """

    tensor: Tensor
    label: str
    scale: Rationals = (ONE,)
    offset: Rationals = (ZERO,)
    function: Function | None = None
    precision: Precision | None = None

    @property
    def plain(self) -> bool:
        """Whether the tensor is the user's number itself."""
        return self.unscaled and self.function is None

    @property
    def unscaled(self) -> bool:
        return set(self.scale) == {ONE} and set(self.offset) == {ZERO}

    @property
    def lines(self) -> tuple[tuple[Fraction, Fraction], ...]:
        """Scale and offset of each channel."""
        channels = self.tensor.shape[0]
        return tuple(zip(spread(self.scale, channels), spread(self.offset, channels), strict=True))

    def mapped(self, scale: Rationals, offset: Rationals) -> Value:
        """``scale * self + offset``."""
        n = max(map(len, (self.scale, self.offset, scale, offset)))
        old_scale, old_offset, scale, offset = (spread(v, n) for v in (self.scale, self.offset, scale, offset))
        return replace(
            self,
            scale=tuple(a * s for a, s in zip(scale, old_scale, strict=True)),
            offset=tuple(a * o + b for a, o, b in zip(scale, old_offset, offset, strict=True)),
        )


def spread(values: Rationals, n: int) -> Rationals:
    """One value each, where there may be one for all."""
    return values * n if len(values) == 1 else values


def exponent_of(scale: Fraction) -> int | None:
    """e if ``scale`` is 2**e."""
    n, d = scale.numerator, scale.denominator
    if n <= 0 or n & (n - 1) or d & (d - 1):
        return None
    return n.bit_length() - d.bit_length()


def fixed_part(width: int, signed: bool, scale: Fraction) -> tuple[FixedPoint, Fraction]:
    """The format of integer codes with ``scale``, and what of the scale the format does not say."""
    exponent = exponent_of(scale)
    return (FixedPoint(width, 0, signed), scale) if exponent is None else (FixedPoint(width, -exponent, signed), ONE)
