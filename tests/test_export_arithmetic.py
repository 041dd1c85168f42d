"""Products and sums are those of Python's integers, whatever numpy computes them with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.fixed import FixedPoint, as_codes, magnitude
from export.arithmetic import exact_matmul, roomy, shifted

#: Near zero, and near where float64, then int64, no longer hold a number or a sum.
CODES = st.one_of(
    st.integers(-4, 4),
    st.sampled_from([s * (1 << k) + d for k in (26, 31, 52, 53, 61, 62, 63) for s in (-1, 1) for d in (-1, 0, 1)]),
).filter(lambda code: -(1 << 63) <= code < 1 << 63)


@given(st.data())
def test_a_product_of_matrices_is_exact(data: st.DataObject) -> None:
    inputs = data.draw(st.integers(1, 5))
    rows = st.lists(st.lists(CODES, min_size=inputs, max_size=inputs), min_size=1, max_size=3)
    x, weight = (np.array(data.draw(rows), dtype=object) for _ in range(2))
    got = exact_matmul(as_codes(x), as_codes(weight))
    assert got.astype(object).tolist() == (x @ weight.T).tolist()


def test_nothing_times_nothing_is_nothing() -> None:
    assert exact_matmul(np.zeros((2, 0), dtype=np.int64), np.zeros((3, 0), dtype=np.int64)).tolist() == [[0] * 3] * 2
    assert exact_matmul(np.zeros((2, 3), dtype=np.int64), np.zeros((0, 3), dtype=np.int64)).shape == (2, 0)


def test_exact_matmul_in_every_magnitude() -> None:
    rng = np.random.default_rng(0)
    for bits_x, bits_w in ((8, 8), (26, 26), (31, 30), (40, 40), (63, 62)):
        x = np.array([[int(v) for v in rng.integers(-(2**bits_x), 2**bits_x - 1, size=3)] for _ in range(4)])
        w = np.array([[int(v) for v in rng.integers(-(2**bits_w), 2**bits_w - 1, size=3)] for _ in range(2)])
        expected = [[sum(int(a) * int(b) for a, b in zip(r, c, strict=True)) for c in w] for r in x]
        assert exact_matmul(x, w).tolist() == expected
    assert exact_matmul(np.zeros((0, 3), dtype=np.int64), np.ones((2, 3), dtype=np.int64)).shape == (0, 2)


def test_shifted_never_wraps() -> None:
    for code in (0, 1, -1, 2**31, 2**62, -(2**63)):
        for bits in (0, 1, 31, 62, 63, 64, 100):
            assert shifted(np.array([code]), bits).tolist() == [code << bits]
    with pytest.raises(ValueError) as error:
        shifted(np.array([1]), -2)
    assert str(error.value) == "a shift by -2 would drop bits; cast instead"
    assert (roomy(np.array([2**62]), FixedPoint(63, 0, False)) + 2**62).tolist() == [2**63]
    assert magnitude(np.array([-5, 3])) == 5 and magnitude(np.zeros(0)) == 0
