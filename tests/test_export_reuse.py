from __future__ import annotations

import pytest

from export.ops.reuse import check_reuse, legal_reuse_factors


@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (1, 7), (6, 1), (6, 4), (16, 64), (5, 3)])
def test_legal_means_each_accumulator_keeps_its_multipliers(n_in, n_out):
    """Products in input-major order, M per cycle: multiplier m must meet one output only, cycle after cycle, or, where
    all outputs fit into a cycle, one output by its place."""
    legal = []
    for reuse in range(1, n_in * n_out + 1):
        if n_in * n_out % reuse:
            continue
        m = n_in * n_out // reuse
        # Output of the product that multiplier k computes in cycle c.
        outputs = [[(c * m + k) % n_out for c in range(reuse)] for k in range(m)]
        if all(len(set(of_one)) == 1 for of_one in outputs) or n_out % m == 0:
            legal.append(reuse)
    assert list(legal_reuse_factors(n_in, n_out)) == legal


def test_the_ends_are_always_legal():
    assert legal_reuse_factors(16, 5)[0] == 1 and legal_reuse_factors(16, 5)[-1] == 80


@pytest.mark.parametrize(
    ("n_in", "n_out", "reuse", "nearest"),
    [(16, 5, 3, "2 or 4"), (16, 5, 17, "16 or 80"), (16, 5, 81, "80"), (16, 5, 0, "1"), (4, 6, 5, "4 or 8")],
)
def test_the_error_names_the_nearest(n_in, n_out, reuse, nearest):
    with pytest.raises(ValueError) as error:
        check_reuse("fc1", n_in, n_out, reuse)
    assert str(error.value) == (
        f"fc1: reuse factor {reuse} is not legal for {n_in} inputs and {n_out} outputs; use {nearest}"
    )


def test_a_legal_one_passes():
    for reuse in legal_reuse_factors(6, 4):
        check_reuse("fc1", 6, 4, reuse)
