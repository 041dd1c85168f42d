"""The ops that sum products of inputs and weights: what they share, and fully connected layers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from compress.fixed import MAX_WIDTH, Codes, FixedPoint, as_codes, code_width
from export.arithmetic import exact_matmul, roomy, shifted
from export.intervals import Bounds
from export.ir import Const, Op, Tensor
from export.modes import Modes
from export.ops.digits import OneDigit, one_digit
from export.ops.reuse import check_reuse, multipliers_used, side_by_side

#: Operands that are laid out at once; a batch with more of them is taken in parts.
_MOST_OPERANDS = 1 << 22


@dataclass(frozen=True)
class SumOfProducts(Op):
    """``y = W x + b`` for every channel of the output, and at every position if it has any.

    The outputs of one channel have the same row of weights and the same bias; what differs from position to position is
    which inputs they read (:meth:`operands`). The output's format is the accumulator's. With ``modes`` None the sum is
    exact: the law is that the accumulator holds every partial sum. Otherwise the bias, every product and every partial
    sum is cast into the accumulator, in the order of the row, as HLS does.
    """

    x: Tensor
    weight: Const
    bias: Const
    modes: Modes | None = None
    reuse_factor: int = 1

    @property
    @abstractmethod
    def matrix(self) -> Codes:
        """The weight codes as (channels, products of one output), zeros included."""

    @abstractmethod
    def operands(self, x: Codes) -> Codes:
        """What the products read of (batch, \\*x.shape): (batch, groups, positions, products of one output).

        The channels are divided evenly among the groups, in order.
        """

    @property
    def digit(self) -> OneDigit | None:
        """What the weights are if they are all of one size: then no product takes a multiplier, whatever shares it."""
        return one_digit(self.weight)

    @property
    def weight_bits(self) -> int:
        """Bits of a weight in a memory."""
        digit = self.digit
        return digit.bits if digit else self.weight.format.width

    @property
    def product_frac(self) -> int:
        return self.x.format.frac + self.weight.format.frac

    @property
    def exact_frac(self) -> int:
        """Fraction bits that an exact accumulator needs."""
        return max(self.product_frac, self.bias.format.frac)

    def _check(self) -> None:
        channels = len(self.matrix)
        if self.output.shape[0] != channels or self.bias.shape != (channels,):
            raise self.fail(f"{channels} outputs, but the bias is {self.bias.shape} and the output {self.output.shape}")
        width = self.x.format.width + self.weight.format.width
        if width > MAX_WIDTH:
            raise self.fail(
                f"a product of {self.x.format} and {self.weight.format} needs {width} bits, the limit is {MAX_WIDTH}; "
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

    def accumulator(self, reach: Bounds) -> FixedPoint:
        """The narrowest format that holds every partial sum exactly. Raises GraphError beyond 64 bits."""
        return self._narrowest(self.partial_sums(reach))

    def _narrowest(self, sums: Bounds) -> FixedPoint:
        if (width := code_width(*sums.range)) > MAX_WIDTH:
            raise self.fail(f"an exact accumulator needs {width} bits, the limit is {MAX_WIDTH}; use narrower formats")
        return sums.format(self.exact_frac)

    def eval(self, *codes: Codes) -> Codes:
        (x,) = codes
        made = self._exactly if self.modes is None else self._with_casts
        most = max(1, _MOST_OPERANDS // (self.output.size // len(self.matrix) * self.matrix.size))
        parts = [made(x[first : first + most]) for first in range(0, max(len(x), 1), most)]
        return as_codes(np.concatenate(parts).reshape(len(x), *self.output.shape))

    def _exactly(self, x: Codes) -> Codes:
        acc = self.output.format
        product = shifted(self._products(x, self.matrix), acc.frac - self.product_frac)
        return roomy(product, acc) + shifted(self.bias.codes, acc.frac - self.bias.format.frac)[:, None]

    def _with_casts(self, x: Codes) -> Codes:
        assert self.modes is not None
        acc = self.output.format
        operands = self.operands(x.astype(object) if self.x.format.width + self.weight.format.width > 62 else x)
        channels = len(self.matrix) // operands.shape[1]  # of a group
        total = self.modes.cast(self.bias.codes, self.bias.format.frac, acc)[:, None]
        for operand, weight in zip(np.moveaxis(operands, -1, 0), self.matrix.T, strict=True):
            read = np.repeat(operand, channels, axis=1)
            product = self.modes.cast(read * weight[:, None], self.product_frac, acc)
            total = self.modes.cast(roomy(total, acc) + product, acc.frac, acc)
        return np.broadcast_to(total, (len(x), len(self.matrix), operands.shape[2]))

    def _products(self, x: Codes, matrix: Codes) -> Codes:
        """The sums of (batch, \\*x.shape) with the weights ``matrix`` and no bias: (batch, channels, positions)."""
        operands = self.operands(x)
        batch, groups, positions, count = operands.shape
        sums = [
            exact_matmul(operands[:, group].reshape(batch * positions, count), rows)
            for group, rows in enumerate(np.split(matrix, groups))
        ]
        return np.concatenate(sums, axis=1).reshape(batch, positions, len(matrix)).swapaxes(1, 2)

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
            sums, acc = self.partial_sums(reach), self.output.format
            need = self._narrowest(sums)
            low, high = (code << (acc.frac - self.exact_frac) for code in sums.range)
            if low < acc.min_code or high > acc.max_code:
                raise self.fail(f"partial sums reach {need}, the accumulator is {acc}; widen it")

    def _sums(self, reach: Bounds, running: bool) -> Bounds:
        low, high = reach.low, reach.high
        positive, negative = np.maximum(self.matrix, 0), np.minimum(self.matrix, 0)
        if running:  # a product that cannot be zero has still not been added at first
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        bias = shifted(self.bias.codes, self.exact_frac - self.bias.format.frac)[:, None]
        shift = self.exact_frac - self.product_frac

        def total(for_positive: Codes, for_negative: Codes) -> Codes:
            parts = self._products(for_positive[None], positive), self._products(for_negative[None], negative)
            product = parts[0][0].astype(object) + parts[1][0]
            return as_codes(shifted(product, shift).astype(object) + bias).reshape(self.output.shape)

        return Bounds(total(low, high), total(high, low))


@dataclass(frozen=True)
class Linear(SumOfProducts):
    """Fully connected: every output reads every input."""

    def _check(self) -> None:
        n_in = self.matrix.shape[1]
        if self.x.shape != (n_in,):
            raise self.fail(f"the weights take {n_in} inputs, {self.x} has another shape; flatten it")
        super()._check()
        if len(self.output.shape) != 1:
            raise self.fail(f"makes one axis of outputs, not {self.output}")

    @property
    def interval(self) -> int:
        return self.reuse_factor

    def operands(self, x: Codes) -> Codes:
        return x[:, None, None, :]


@dataclass(frozen=True)
class Full(SumOfProducts):
    """With its zeros: ``reuse_factor`` products share one multiplier, as :mod:`export.ops.reuse` says."""

    def _check(self) -> None:
        super()._check()
        outputs, inputs = self.matrix.shape
        check_reuse(self.name, inputs, outputs, self.reuse_factor)

    @property
    def is_serial(self) -> bool:
        """Whether some outputs begin when others are done, R being more than its inputs (:mod:`export.ops.reuse`)."""
        return self.reuse_factor > self.matrix.shape[1]

    @property
    def multipliers(self) -> tuple[int, ...]:
        """The numbers of those that have a weight."""
        return multipliers_used(self.matrix, self.reuse_factor)

    @property
    def has_all_multipliers(self) -> bool:
        return len(self.multipliers) * self.reuse_factor == self.matrix.size


@dataclass(frozen=True)
class Dense(Full, Linear):
    """Fully connected; ``weight`` is (outputs, inputs). ``reuse_factor`` products share one multiplier."""

    def __post_init__(self) -> None:
        if len(self.weight.shape) != 2:
            raise self.fail(f"weights must have two axes (outputs, inputs), got shape {self.weight.shape}")
        self._check()

    @property
    def matrix(self) -> Codes:
        return self.weight.codes


@dataclass(frozen=True)
class Sparse(SumOfProducts):
    """In COO form: only non-zero weights, each with its place in the matrix: input (``rows``) and output (``cols``).

    ``weight`` is (non-zeros,); entries are sorted by input, then output, so that neighbours read the same input and add
    to different accumulators. Any number of them may share a multiplier.
    """

    rows: tuple[int, ...] = ()
    cols: tuple[int, ...] = ()

    @property
    @abstractmethod
    def places(self) -> tuple[int, int]:
        """How many inputs an output has, and how many outputs there are."""

    def _check(self) -> None:
        if not len(self.rows) == len(self.cols) == self.weight.codes.size:
            raise self.fail(f"{self.weight.codes.size} weights with {len(self.rows)} rows and {len(self.cols)} cols")
        if np.any(self.weight.codes == 0):
            raise self.fail("a stored weight is zero; leave it out")
        n_in, n_out = self.places
        if any(not 0 <= row < n_in for row in self.rows) or any(not 0 <= col < n_out for col in self.cols):
            raise self.fail(f"a row or col points outside the {n_in} inputs or {n_out} outputs")
        places = list(zip(self.rows, self.cols, strict=True))
        if places != sorted(set(places)):
            raise self.fail("entries must be sorted by input, then output, without repeats")
        super()._check()
        if not 1 <= self.reuse_factor <= max(1, len(self.rows)):
            raise self.fail(
                f"reuse factor {self.reuse_factor} for {len(self.rows)} non-zero weights; use 1 to {len(self.rows)}"
            )

    @property
    def matrix(self) -> Codes:
        n_in, n_out = self.places
        dense = np.zeros((n_out, n_in), dtype=self.weight.codes.dtype)
        dense[list(self.cols), list(self.rows)] = self.weight.codes
        return dense

    @property
    def digit(self) -> OneDigit | None:
        """As that of any layer; places that are left over hold a weight of zero."""
        found = super().digit
        return found and replace(found, has_zeros=True)

    @property
    def side_by_side(self) -> int:
        """How many entries of a step are of different outputs (:func:`export.ops.reuse.spread`)."""
        return side_by_side(self.cols, self.reuse_factor)


@dataclass(frozen=True)
class SparseDense(Sparse, Linear):
    """Fully connected in COO form."""

    def __post_init__(self) -> None:
        self._check()

    @property
    def places(self) -> tuple[int, int]:
        return self.x.size, self.output.size

    @classmethod
    def of(cls, dense: Dense, reuse_factor: int | None = None) -> SparseDense:
        """The same computation without its zeros."""
        rows, cols = np.nonzero(dense.weight.codes.T)
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
