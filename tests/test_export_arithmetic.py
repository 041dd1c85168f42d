"""Products and sums are those of Python's integers, whatever numpy computes them with."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compress.fixed import as_codes
from export.arithmetic import exact_matmul

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
