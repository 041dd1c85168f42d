"""The ops of the integer graph. Each owns its law, its meaning in integers, and what it can reach.

``eval`` is the reference that the C++ kernel of the same name must equal bit for bit. Channels are the first axis of
a sample, as in torch; per-channel constants have shape (channels,).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from compress.fixed import Codes, FixedPoint, Overflow, Rounding, as_codes, cast, encode, round_ratio
from export.arithmetic import exact_matmul, roomy, shifted
from export.intervals import Bounds
from export.ir import Const, Op, Tensor
from export.reuse import check_reuse


@dataclass(frozen=True, slots=True)
class Modes:
    """How a number is fitted into a format: vendors' rounding and overflow."""

    rounding: Rounding = Rounding.TRN
    overflow: Overflow = Overflow.WRAP

    def cast(self, codes: Codes, frac: int, target: FixedPoint) -> Codes:
        return cast(codes, frac, target, self.rounding, self.overflow)

    def bounds(self, reach: Bounds, frac: int, target: FixedPoint) -> Bounds:
        """What a cast of everything in ``reach`` can give. Rounding and saturation keep the order of numbers."""
        wide = Modes(self.rounding, Overflow.SAT)
        widest = FixedPoint(64, target.frac)
        ends = Bounds(wide.cast(reach.low, frac, widest), wide.cast(reach.high, frac, widest))
        inside = ends.range[0] >= target.min_code and ends.range[1] <= target.max_code
        if inside or self.overflow in (Overflow.SAT, Overflow.SAT_SYM):
            return Bounds(self.cast(reach.low, frac, target), self.cast(reach.high, frac, target))
        return Bounds.everywhere(reach.low.shape, target.min_code, target.max_code)


@dataclass(frozen=True)
class Input(Op):
    """Where data enters. ``modes`` say how a real number becomes a code of the output's format."""

    modes: Modes = Modes(Rounding.RND_CONV, Overflow.SAT)

    def encode(self, values: np.typing.ArrayLike) -> Codes:
        """Real numbers of shape (batch, \\*shape) to codes."""
        reals = np.asarray(values)
        if reals.shape[1:] != self.output.shape:
            raise self.fail(f"expects samples of shape {self.output.shape}, got an array of shape {reals.shape}")
        return encode(reals, self.output.format, self.modes.rounding, self.modes.overflow)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        if x.shape[1:] != self.output.shape:
            raise self.fail(f"expects samples of shape {self.output.shape}, got codes of shape {x.shape}")
        fmt = self.output.format
        if x.size and (int(x.min()) < fmt.min_code or int(x.max()) > fmt.max_code):
            raise self.fail(f"codes from {int(x.min())} to {int(x.max())} do not fit {fmt}; encode() the values")
        return x

    def bounds(self, *bounds: Bounds) -> Bounds:
        fmt = self.output.format
        symmetric = self.modes.overflow is Overflow.SAT_SYM and fmt.signed and fmt.width > 1
        return Bounds.everywhere(self.output.shape, -fmt.max_code if symmetric else fmt.min_code, fmt.max_code)


@dataclass(frozen=True)
class Cast(Op):
    """``y = x`` in another format, rounded and limited by ``modes``, element by element."""

    x: Tensor
    modes: Modes

    def __post_init__(self) -> None:
        _same_shape(self, self.x)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        return self.modes.cast(x, self.x.format.frac, self.output.format)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        return self.modes.bounds(reach, self.x.format.frac, self.output.format)


@dataclass(frozen=True)
class ReLU(Op):
    """``y = max(0, x)``, in a format with the same fraction bits that holds it."""

    x: Tensor

    def __post_init__(self) -> None:
        _same_shape(self, self.x)
        have, need = self.output.format, self.x.format
        if have.frac != need.frac or have.max_code < need.max_code:
            raise self.fail(f"{have} does not hold max(0, x) of {need}; use {self.positive(need)}")

    @staticmethod
    def positive(fmt: FixedPoint) -> FixedPoint:
        """The unsigned format of the non-negative values of ``fmt``."""
        return FixedPoint.covering(0, fmt.max_code, fmt.frac)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        return np.maximum(x, 0)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        return Bounds(np.maximum(reach.low, 0), np.maximum(reach.high, 0))


@dataclass(frozen=True)
class Flatten(Op):
    """The same codes, row-major, as one axis."""

    x: Tensor

    def __post_init__(self) -> None:
        if self.output.shape != (self.x.size,) or self.output.format != self.x.format:
            raise self.fail(f"must be {self.x.format}[{self.x.size}], got {self.output}")

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        return x.reshape(len(x), -1)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        return reach.reshaped(self.output.shape)


@dataclass(frozen=True)
class Linear(Op):
    """``y = W x + b``. The output's format is the accumulator's.

    With ``modes`` None the sum is exact: the law is that the accumulator holds every partial sum. Otherwise the bias,
    every product and every partial sum is cast into the accumulator, inputs ascending, as HLS does.
    """

    x: Tensor
    weight: Const
    bias: Const
    modes: Modes | None = None
    reuse_factor: int = 1

    @property
    @abstractmethod
    def matrix(self) -> Codes:
        """The weight codes as (outputs, inputs), zeros included."""

    @property
    def product_frac(self) -> int:
        return self.x.format.frac + self.weight.format.frac

    @property
    def exact_frac(self) -> int:
        """Fraction bits that an exact accumulator needs."""
        return max(self.product_frac, self.bias.format.frac)

    def _check(self) -> None:
        n_out, n_in = self.matrix.shape
        if self.x.shape != (n_in,):
            raise self.fail(f"the weights take {n_in} inputs, {self.x} has another shape; flatten it")
        if self.output.shape != (n_out,) or self.bias.shape != (n_out,):
            raise self.fail(f"{n_out} outputs, but the bias is {self.bias.shape} and the output {self.output.shape}")
        width = self.x.format.width + self.weight.format.width
        if width > 64:
            raise self.fail(
                f"a product of {self.x.format} and {self.weight.format} needs {width} bits, the limit is 64; "
                "use narrower inputs or weights"
            )
        if self.modes is None and self.output.format.frac < self.exact_frac:
            raise self.fail(
                f"the exact sum has {self.exact_frac} fraction bits, the accumulator {self.output.format.frac}; "
                "give it the fraction bits or state its modes"
            )

    def partial_sums(self, reach: Bounds) -> Bounds:
        """What the accumulator can hold at any moment, in codes of ``exact_frac``: bias, then products in any order."""
        return self._sums(reach, running=True)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        acc = self.output.format
        if self.modes is None:
            product = exact_matmul(x, self.matrix)
            return shifted(product, acc.frac - self.product_frac) + shifted(
                self.bias.codes, acc.frac - self.bias.format.frac
            )
        total = np.broadcast_to(
            self.modes.cast(self.bias.codes, self.bias.format.frac, acc), (len(x), *self.output.shape)
        )
        wide = x.astype(object) if self.x.format.width + self.weight.format.width > 62 else x
        for column, weight in zip(wide.T, self.matrix.T, strict=True):
            product = self.modes.cast(column[:, None] * weight[None, :], self.product_frac, acc)
            total = self.modes.cast(roomy(total, acc) + product, acc.frac, acc)
        return as_codes(total)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        acc = self.output.format
        if self.modes is not None:
            return Bounds.everywhere(self.output.shape, acc.min_code, acc.max_code)
        exact = self._sums(reach, running=False)
        shift = acc.frac - self.exact_frac
        return Bounds(shifted(exact.low, shift), shifted(exact.high, shift))

    def verify(self, *bounds: Bounds) -> None:
        (reach,) = bounds
        if self.modes is None:
            need = self.partial_sums(reach).format(self.exact_frac)
            if need.width > 64:
                raise self.fail(f"an exact accumulator needs {need.width} bits, the limit is 64; use narrower formats")
            if not self.output.format.holds(need):
                raise self.fail(f"partial sums reach {need}, the accumulator is {self.output.format}; widen it")

    def _sums(self, reach: Bounds, running: bool) -> Bounds:
        low, high = (roomy(v, self.x.format) for v in (reach.low, reach.high))
        positive, negative = np.maximum(self.matrix, 0), np.minimum(self.matrix, 0)
        if running:  # a product that cannot be zero has still not been added at first
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        bias = shifted(self.bias.codes, self.exact_frac - self.bias.format.frac)
        shift = self.exact_frac - self.product_frac

        def total(for_positive: Codes, for_negative: Codes) -> Codes:
            product = exact_matmul(for_positive[None, :], positive) + exact_matmul(for_negative[None, :], negative)
            return as_codes(shifted(product[0], shift).astype(object) + bias)

        return Bounds(total(low, high), total(high, low))


@dataclass(frozen=True)
class Dense(Linear):
    """Fully connected; ``weight`` is (outputs, inputs). ``reuse_factor`` products share one multiplier."""

    def __post_init__(self) -> None:
        if len(self.weight.shape) != 2:
            raise self.fail(f"weights must have two axes (outputs, inputs), got shape {self.weight.shape}")
        self._check()
        check_reuse(self.name, *self.weight.shape[::-1], self.reuse_factor)

    @property
    def matrix(self) -> Codes:
        return self.weight.codes


@dataclass(frozen=True)
class SparseDense(Linear):
    """Fully connected in COO form: only non-zero weights, each with its input (``rows``) and output (``cols``).

    ``weight`` is (non-zeros,); entries are sorted by output, then input.
    """

    rows: tuple[int, ...] = ()
    cols: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.rows) == len(self.cols) == self.weight.codes.size:
            raise self.fail(f"{self.weight.codes.size} weights with {len(self.rows)} rows and {len(self.cols)} cols")
        if np.any(self.weight.codes == 0):
            raise self.fail("a stored weight is zero; leave it out")
        places = list(zip(self.cols, self.rows, strict=True))
        if places != sorted(set(places)):
            raise self.fail("entries must be sorted by output, then input, without repeats")
        self._check()
        if not 1 <= self.reuse_factor <= max(1, len(self.rows)):
            raise self.fail(
                f"reuse factor {self.reuse_factor} for {len(self.rows)} non-zero weights; use 1 to {len(self.rows)}"
            )

    @classmethod
    def of(cls, dense: Dense, reuse_factor: int | None = None) -> SparseDense:
        """The same computation without its zeros."""
        cols, rows = np.nonzero(dense.weight.codes)
        return cls(
            output=dense.output,
            x=dense.x,
            weight=Const(dense.weight.codes[cols, rows], dense.weight.format),
            rows=tuple(rows.tolist()),
            cols=tuple(cols.tolist()),
            bias=dense.bias,
            modes=dense.modes,
            reuse_factor=dense.reuse_factor if reuse_factor is None else reuse_factor,
        )

    @property
    def matrix(self) -> Codes:
        dense = np.zeros((*self.output.shape, *self.x.shape), dtype=self.weight.codes.dtype)
        dense[list(self.cols), list(self.rows)] = self.weight.codes
        return dense


@dataclass(frozen=True)
class Affine(Op):
    """``y = cast(x * scale + offset)`` per channel in integers, one rounding at the end."""

    x: Tensor
    scale: Const
    offset: Const
    modes: Modes

    def __post_init__(self) -> None:
        _same_shape(self, self.x)
        _per_channel(self, scale=self.scale.shape, offset=self.offset.shape)
        product = FixedPoint(min(64, self.x.format.width + self.scale.format.width), self.product_frac)
        integer = max(self.x.format.integer + self.scale.format.integer, self.offset.format.integer) + 1
        width = integer + max(product.frac, self.offset.format.frac)
        if width > 64:
            raise self.fail(f"x * scale + offset needs {width} bits, the limit is 64; use a narrower format before it")

    @property
    def product_frac(self) -> int:
        return self.x.format.frac + self.scale.format.frac

    def _exact(self, x: Codes) -> tuple[Codes, int]:
        """Codes before the cast, and their fraction bits. ``x`` carries a batch axis."""
        frac = max(self.product_frac, self.offset.format.frac)
        scale, offset = (along_channels(c.codes, self.x.shape) for c in (self.scale, self.offset))
        product = shifted(x * scale, frac - self.product_frac)
        return product + shifted(offset, frac - self.offset.format.frac), frac

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        exact, frac = self._exact(x)
        return self.modes.cast(exact, frac, self.output.format)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        (a, frac), (b, _) = self._exact(reach.low[None]), self._exact(reach.high[None])
        return self.modes.bounds(Bounds(np.minimum(a, b)[0], np.maximum(a, b)[0]), frac, self.output.format)


@dataclass(frozen=True)
class Threshold(Op):
    """``y = start + step * #{k: x >= level[k]}`` per channel: any monotone step function, exactly.

    ``level`` is (channels, steps) with the fraction bits of x; ``start`` and ``step`` are codes of the output.
    """

    x: Tensor
    level: Const
    start: Const
    step: Const

    def __post_init__(self) -> None:
        _same_shape(self, self.x)
        _per_channel(self, level=self.level.shape[:1], start=self.start.shape, step=self.step.shape)
        if self.level.format.frac != self.x.format.frac:
            raise self.fail(f"levels have {self.level.format.frac} fraction bits, x has {self.x.format.frac}")
        if np.any(np.diff(self.level.codes, axis=1) < 0):
            raise self.fail("levels must ascend within a channel")

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        y = np.empty_like(x)
        for channel, levels in enumerate(self.level.codes):
            passed = np.searchsorted(levels, x[:, channel].ravel(), side="right").reshape(x[:, channel].shape)
            y[:, channel] = self.start.codes[channel] + self.step.codes[channel] * passed
        return y

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        ends = self.eval(np.stack([reach.low, reach.high]))
        return Bounds(ends.min(axis=0), ends.max(axis=0))


@dataclass(frozen=True)
class Requantize(Op):
    """``y = cast(x * scale + offset)`` with exact rational constants: what training says, not yet hardware.

    Batch normalisation, float scales and float biases before a quantizer all come together here. It has no kernel:
    :mod:`export.passes.lower_requantize` proves an integer op equal to it and puts that in its place.
    """

    has_kernel: ClassVar[bool] = False

    x: Tensor
    scale: tuple[Fraction, ...]
    offset: tuple[Fraction, ...]
    modes: Modes

    def __post_init__(self) -> None:
        _same_shape(self, self.x)
        _per_channel(self, scale=(len(self.scale),), offset=(len(self.offset),))

    def ratio(self, channel: int) -> tuple[int, int, int]:
        """Integers p, q, d > 0 such that the output code before rounding is (p * code + q) / d."""
        unit = 1 / self.output.format.lsb
        scale, offset = self.scale[channel] * self.x.format.lsb * unit, self.offset[channel] * unit
        d = int(np.lcm.reduce(np.array([scale.denominator, offset.denominator], dtype=object)))
        return int(scale * d), int(offset * d), d

    def rounded(self, codes: Codes, channel: int) -> Codes:
        """Output codes of one channel before the overflow mode is applied."""
        p, q, d = self.ratio(channel)
        return round_ratio(codes.astype(object) * p + q, d, self.modes.rounding)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        rounded = np.empty(x.shape, dtype=object)
        for channel in range(len(self.scale)):
            rounded[:, channel] = self.rounded(x[:, channel], channel)
        return self.modes.cast(rounded, self.output.format.frac, self.output.format)

    def bounds(self, *bounds: Bounds) -> Bounds:
        (reach,) = bounds
        low, high = np.empty(reach.low.shape, dtype=object), np.empty(reach.low.shape, dtype=object)
        for channel in range(len(self.scale)):
            ends = self.rounded(reach.low[channel], channel), self.rounded(reach.high[channel], channel)
            low[channel], high[channel] = np.minimum(*ends), np.maximum(*ends)
        fmt = self.output.format
        return self.modes.bounds(Bounds(as_codes(low), as_codes(high)), fmt.frac, fmt)


def along_channels(values: Codes, shape: tuple[int, ...]) -> Codes:
    """Per-channel constants shaped to broadcast against (batch, \\*shape)."""
    return values.reshape((-1,) + (1,) * (len(shape) - 1))


def _same_shape(op: Op, x: Tensor) -> None:
    if op.output.shape != x.shape:
        raise op.fail(f"acts element by element, but x is {x.shape} and the output {op.output.shape}")


def _per_channel(op: Op, **shapes: tuple[int, ...]) -> None:
    channels = op.output.shape[:1]
    for what, shape in shapes.items():
        if shape != channels:
            raise op.fail(f"{what} has shape {shape} for {channels[0]} channels; give one per channel")
