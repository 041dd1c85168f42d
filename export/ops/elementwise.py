"""The ops that take several tensors element by element, and the place of the largest element.

All of a kind and a shape: a smaller operand is repeated by a :class:`~export.ops.movement.Rearrange` before.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from compress.fixed import Codes, FixedPoint, as_codes, magnitude
from export.arithmetic import shifted
from export.intervals import Bounds
from export.ir import Op, Tensor


@dataclass(frozen=True)
class Elementwise(Op):
    """Every element of the output depends on the elements of the inputs in its place."""

    def _check_shapes(self) -> None:
        for x in self.inputs:
            if x.shape != self.output.shape:
                raise self.fail(f"acts element by element: {x.name} is {x.shape}, the output {self.output.shape}")

    def _check_holds(self, *operands: Tensor) -> None:
        for x in operands:
            if not self.output.format.holds(x.format):
                raise self.fail(f"{self.output.format} does not hold {x}; widen it, or cast before")

    def _aligned(self, operands: tuple[Tensor, ...], codes: tuple[Codes, ...]) -> list[Codes]:
        """``codes`` of ``operands`` with the fraction bits of the output."""
        frac = self.output.format.frac
        return [shifted(x, frac - t.format.frac) for x, t in zip(codes, operands, strict=True)]


@dataclass(frozen=True)
class Pairwise(Elementwise):
    """Two operands."""

    a: Tensor
    b: Tensor

    def __post_init__(self) -> None:
        self._check_shapes()

    def _check_fraction(self, need: int, what: str) -> None:
        if self.output.format.frac < need:
            raise self.fail(
                f"the exact {what} has {need} fraction bits, {self.output.format} has {self.output.format.frac}; "
                "give it the fraction bits, and cast afterwards"
            )


@dataclass(frozen=True)
class Add(Pairwise):
    """``y = a + b``, exactly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_fraction(max(self.a.format.frac, self.b.format.frac), "sum")

    def eval(self, *codes: Codes) -> Codes:
        a, b = self._aligned(self.inputs, codes)
        return as_codes(_roomy(a, b) + b)

    def bounds(self, *bounds: Bounds) -> Bounds:
        return Bounds(self.eval(*(b.low for b in bounds)), self.eval(*(b.high for b in bounds)))


@dataclass(frozen=True)
class Subtract(Pairwise):
    """``y = a - b``, exactly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_fraction(max(self.a.format.frac, self.b.format.frac), "difference")

    def eval(self, *codes: Codes) -> Codes:
        a, b = self._aligned(self.inputs, codes)
        return as_codes(_roomy(a, b) - b)

    def bounds(self, *bounds: Bounds) -> Bounds:
        a, b = bounds
        return Bounds(self.eval(a.low, b.high), self.eval(a.high, b.low))


@dataclass(frozen=True)
class Multiply(Pairwise):
    """``y = a * b``, exactly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_fraction(self.product_frac, "product")

    @property
    def product_frac(self) -> int:
        return self.a.format.frac + self.b.format.frac

    def eval(self, *codes: Codes) -> Codes:
        a, b = codes
        wide = self.a.format.width + self.b.format.width > 62
        return as_codes(shifted((a.astype(object) if wide else a) * b, self.output.format.frac - self.product_frac))

    def bounds(self, *bounds: Bounds) -> Bounds:
        if self.a == self.b:  # a square
            (reach, _) = bounds
            ends = self.eval(*(np.stack([reach.low, reach.high]),) * 2)
            holds_zero = (reach.low <= 0) & (reach.high >= 0)
            return Bounds(as_codes(np.where(holds_zero, 0, ends.min(axis=0))), ends.max(axis=0))
        a, b = ((reach.low, reach.high) for reach in bounds)
        corners = np.stack([self.eval(one, other) for one, other in product(a, b)])
        return Bounds(as_codes(corners.min(axis=0)), as_codes(corners.max(axis=0)))


@dataclass(frozen=True)
class Maximum(Pairwise):
    """``y = max(a, b)``, in a format that holds both without a cast."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_holds(self.a, self.b)

    def eval(self, *codes: Codes) -> Codes:
        return np.maximum(*self._aligned(self.inputs, codes))

    def bounds(self, *bounds: Bounds) -> Bounds:
        return Bounds(self.eval(*(b.low for b in bounds)), self.eval(*(b.high for b in bounds)))


@dataclass(frozen=True)
class Minimum(Pairwise):
    """``y = min(a, b)``, in a format that holds both without a cast."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_holds(self.a, self.b)

    def eval(self, *codes: Codes) -> Codes:
        return np.minimum(*self._aligned(self.inputs, codes))

    def bounds(self, *bounds: Bounds) -> Bounds:
        return Bounds(self.eval(*(b.low for b in bounds)), self.eval(*(b.high for b in bounds)))


@dataclass(frozen=True)
class BySign(Elementwise):
    """``y = a`` where ``x >= 0``, else ``b``, in a format that holds both without a cast."""

    x: Tensor
    a: Tensor
    b: Tensor

    def __post_init__(self) -> None:
        self._check_shapes()
        self._check_holds(self.a, self.b)

    def eval(self, *codes: Codes) -> Codes:
        x, a, b = codes
        return as_codes(np.where(x >= 0, *self._aligned((self.a, self.b), (a, b))))

    def bounds(self, *bounds: Bounds) -> Bounds:
        x, a, b = bounds
        (a_low, b_low), (a_high, b_high) = (
            self._aligned((self.a, self.b), ends) for ends in ((a.low, b.low), (a.high, b.high))
        )
        never, always = x.high < 0, x.low >= 0
        low = np.where(never, b_low, np.where(always, a_low, np.minimum(a_low, b_low)))
        high = np.where(never, b_high, np.where(always, a_high, np.maximum(a_high, b_high)))
        return Bounds(as_codes(low), as_codes(high))


@dataclass(frozen=True)
class ArgMax(Op):
    """``y = `` the first channel whose element is the largest, for every place along the other axes.

    The output is an unsigned integer, and has one channel.
    """

    x: Tensor

    def __post_init__(self) -> None:
        expected = Tensor(self.name, (1, *self.x.shape[1:]), self.indices(self.x))
        fmt = self.output.format
        if self.output.shape != expected.shape or fmt.frac != 0 or fmt.signed or not fmt.holds(expected.format):
            raise self.fail(f"must be {expected}, or wider, got {self.output}")

    @staticmethod
    def indices(x: Tensor) -> FixedPoint:
        """The format of a channel of ``x``."""
        return FixedPoint.covering(0, x.shape[0] - 1, 0)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        return as_codes(np.argmax(x, axis=1, keepdims=True))

    def bounds(self, *bounds: Bounds) -> Bounds:
        """A channel can win where it can reach beyond what every other one has at least."""
        (reach,) = bounds
        channels = np.arange(len(reach.low)).reshape(-1, *(1,) * (reach.low.ndim - 1))
        best = reach.low.max(axis=0, keepdims=True)
        # At the very least of the winner's the first that has it wins.
        first = np.argmax(reach.low, axis=0)[None]
        can = (reach.high > best) | ((reach.high == best) & (channels <= first))
        low = np.where(can, channels, len(channels)).min(axis=0, keepdims=True)
        high = np.where(can, channels, -1).max(axis=0, keepdims=True)
        return Bounds(as_codes(low), as_codes(high))


def _roomy(codes: Codes, *others: Codes) -> Codes:
    """In a dtype that survives the addition of one of ``others``."""
    return codes.astype(object) if max(map(magnitude, (codes, *others))) >> 62 else codes
