"""The ops that sum products: fully connected layers, dense or in coordinate form."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from compress.fixed import MAX_WIDTH, Codes, FixedPoint, as_codes, code_width
from export.arithmetic import exact_matmul, roomy, shifted
from export.intervals import Bounds
from export.ir import Const, Op, Tensor
from export.modes import Modes
from export.reuse import check_reuse


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
        acc = self.output.format
        if self.modes is None:
            product = shifted(exact_matmul(x, self.matrix), acc.frac - self.product_frac)
            return as_codes(roomy(product, acc) + shifted(self.bias.codes, acc.frac - self.bias.format.frac))
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
        bias = shifted(self.bias.codes, self.exact_frac - self.bias.format.frac)
        shift = self.exact_frac - self.product_frac

        def total(for_positive: Codes, for_negative: Codes) -> Codes:
            parts = exact_matmul(for_positive[None, :], positive), exact_matmul(for_negative[None, :], negative)
            product = parts[0][0].astype(object) + parts[1][0]
            return as_codes(shifted(product, shift).astype(object) + bias)

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

    ``weight`` is (non-zeros,); entries are sorted by input, then output, so that neighbours read the same input and add
    to different accumulators.
    """

    rows: tuple[int, ...] = ()
    cols: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.rows) == len(self.cols) == self.weight.codes.size:
            raise self.fail(f"{self.weight.codes.size} weights with {len(self.rows)} rows and {len(self.cols)} cols")
        if np.any(self.weight.codes == 0):
            raise self.fail("a stored weight is zero; leave it out")
        n_in, n_out = self.x.size, self.output.size
        if any(not 0 <= row < n_in for row in self.rows) or any(not 0 <= col < n_out for col in self.cols):
            raise self.fail(f"a row or col points outside the {n_in} inputs or {n_out} outputs")
        places = list(zip(self.rows, self.cols, strict=True))
        if places != sorted(set(places)):
            raise self.fail("entries must be sorted by input, then output, without repeats")
        self._check()
        if not 1 <= self.reuse_factor <= max(1, len(self.rows)):
            raise self.fail(
                f"reuse factor {self.reuse_factor} for {len(self.rows)} non-zero weights; use 1 to {len(self.rows)}"
            )

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

    @property
    def matrix(self) -> Codes:
        dense = np.zeros((*self.output.shape, *self.x.shape), dtype=self.weight.codes.dtype)
        dense[list(self.cols), list(self.rows)] = self.weight.codes
        return dense
