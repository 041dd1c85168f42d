"""Array arithmetic without error: int64 or float64 where provably enough, Python integers and Fractions elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from compress.fixed import Codes, FixedPoint, as_codes, magnitude


def exact_matmul(x: Codes, weight: Codes) -> Codes:
    """``x @ weight.T``: x (batch, n_in), weight (n_out, n_in) -> (batch, n_out).

    Runs in float64 (BLAS) where no partial sum can leave its 53 bits, then int64, then Python integers.
    """
    largest = magnitude(x) * max(_heaviest(weight), 1)
    if largest < 1 << 53:
        return np.asarray(x.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.int64)
    if largest < 1 << 62:
        return np.asarray(x.astype(np.int64) @ weight.T.astype(np.int64))
    return as_codes(x.astype(object) @ weight.T.astype(object))


def _heaviest(weight: Codes) -> int:
    """The largest sum of magnitudes in a row."""
    if not weight.size:
        return 0
    fits = magnitude(weight) * weight.shape[1] < 1 << 62
    return int(np.abs(weight if fits else weight.astype(object)).sum(axis=1).max())


def shifted(codes: Codes, bits: int) -> Codes:
    """``codes * 2**bits`` for ``bits >= 0``."""
    if bits < 0:
        raise ValueError(f"a shift by {bits} would drop bits; cast instead")
    if bits == 0:
        return codes
    fits = bits < 62 and magnitude(codes) < 1 << (62 - bits)
    return codes << bits if fits else as_codes(codes.astype(object) << bits)


def roomy(codes: Codes, fmt: FixedPoint) -> Codes:
    """``codes`` of ``fmt`` in a dtype that survives one addition or multiplication by a code of its kind."""
    return codes.astype(object) if fmt.width > 62 else codes


def binary_places(values: Sequence[Fraction]) -> int | None:
    """The fewest fraction bits (at least 0) that hold every value; None if one is not a finite binary fraction."""
    if any(v.denominator & (v.denominator - 1) for v in values):
        return None
    return max(v.denominator.bit_length() - 1 for v in values)


def codes_of(values: Sequence[Fraction], frac: int) -> Codes:
    """Binary fractions as codes with ``frac`` fraction bits."""
    return np.array([int(v * Fraction(2) ** frac) for v in values], dtype=object)
