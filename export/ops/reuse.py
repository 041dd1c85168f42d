"""Legal reuse factors: how many products may share one multiplier so that the wiring stays static.

A fully connected layer of ``n_in * n_out`` products with reuse factor R has ``M = n_in * n_out / R`` multipliers and
starts a new sample every R cycles. Products are taken in input-major order, M per cycle. Each accumulator is then fed
by fixed multipliers iff M is a multiple of ``n_out`` (R divides ``n_in``) or divides it (R = n_in * d, d | n_out).
"""

from __future__ import annotations


def legal_reuse_factors(n_in: int, n_out: int) -> tuple[int, ...]:
    """All of them, ascending."""
    within_inputs = {r for r in range(1, n_in + 1) if n_in % r == 0}
    across_outputs = {n_in * d for d in range(1, n_out + 1) if n_out % d == 0}
    return tuple(sorted(within_inputs | across_outputs))


def check_reuse(name: str, n_in: int, n_out: int, reuse_factor: int) -> None:
    """Raise ValueError for an illegal reuse factor, naming the nearest legal ones."""
    legal = legal_reuse_factors(n_in, n_out)
    if reuse_factor not in legal:
        below = [r for r in legal if r < reuse_factor][-1:]
        above = [r for r in legal if r > reuse_factor][:1]
        nearest = " or ".join(map(str, below + above))
        raise ValueError(
            f"{name}: reuse factor {reuse_factor} is not legal for {n_in} inputs and {n_out} outputs; use {nearest}"
        )
