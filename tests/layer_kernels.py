"""The kernels of fully connected layers in every variant, and what they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
from cxx import Flavour
from kernel_programs import N_IN, Kernel, Type, X, array, braces

from compress.fixed import Codes, FixedPoint, Overflow, Rounding
from export.ops.reuse import by_step, multipliers_used, side_by_side, spread

F = FixedPoint.of
N_OUT = 4
WEIGHT = Type(F(5, 1))
BIAS = Type(F(7, 2))
#: Holds every sum; has no fraction to spare, so that each product loses bits; overflows half-way, and is clipped there.
ACCUMULATORS = {
    "exact": Type(F(16, 8), Rounding.TRN, None),
    "rounded": Type(F(10, 6), Rounding.RND_CONV, Overflow.WRAP),
    "clipped": Type(F(7, 3), Rounding.RND, Overflow.SAT),
    "wrapped": Type(F(6, 3), Rounding.TRN, Overflow.WRAP),
    "zeroed": Type(F(7, 3), Rounding.TRN_ZERO, Overflow.SAT_ZERO),
    "symmetric": Type(F(6, 3), Rounding.RND_INF, Overflow.SAT_SYM),
}
REUSE = {"reuse": (1, 2, 3, 6), "serial": (6, 12, 24)}
SPARSE_REUSE = (2, 3, 4, 7)


@cache
def constants() -> dict[str, Codes]:
    """Codes of the weights and biases."""
    draw = np.random.default_rng(5)
    weight = draw.integers(WEIGHT.fmt.min_code, WEIGHT.fmt.max_code + 1, (N_OUT, N_IN))
    weight[draw.random((N_OUT, N_IN)) < 0.4] = 0
    weight[0, 0] = WEIGHT.fmt.min_code
    return {"weight": weight, "bias": draw.integers(BIAS.fmt.min_code, BIAS.fmt.max_code + 1, N_OUT)}


def shared() -> Iterable[tuple[str, int]]:
    return ((kind, r) for kind, factors in REUSE.items() for r in factors)


def pruned(r: int) -> Codes:
    """The weights without those of a third of the multipliers, or of one; one alone is left."""
    number = N_IN * N_OUT // r
    gone = np.random.default_rng(r).permutation(number)[: max(number // 3, number > 1)]
    blocks = by_step(np.arange(24).reshape(N_OUT, N_IN), r)[:, gone]
    return np.where(np.isin(np.arange(24), blocks).reshape(N_OUT, N_IN), 0, constants()["weight"])


def places() -> tuple[list[int], list[int]]:
    """The inputs and the outputs of the weights that are not zero, by input."""
    rows, cols = np.nonzero(constants()["weight"].T)
    return rows.tolist(), cols.tolist()


def dense_reference(acc: Type, weight: Codes | None = None) -> Callable[[list[int]], list[int]]:
    """The definition in dense.h, one integer at a time."""
    biases = constants()["bias"]
    weight = constants()["weight"] if weight is None else weight

    def reference(x: list[int]) -> list[int]:
        y = []
        for j in range(N_OUT):
            total = acc.cast(int(biases[j]), BIAS.fmt.frac)
            for i in range(N_IN):
                term = acc.cast(x[i] * int(weight[j, i]), X.fmt.frac + WEIGHT.fmt.frac)
                total = acc.cast(total + term, acc.fmt.frac)
            y.append(total)
        return y

    return reference


def kernels() -> dict[str, Kernel]:
    """By name."""
    found = {}
    nonzero = int(np.count_nonzero(constants()["weight"]))
    for name, acc in ACCUMULATORS.items():
        reference = dense_reference(acc)
        found[f"dense_{name}"] = Kernel("dense(x, y, weight, bias)", acc, N_OUT, reference)
        for kind, r in shared():
            call = f"dense_{kind}<{r}>(x, y, weight_{r}, {'bias' if kind == 'reuse' else f'bias_{r}'})"
            found[f"dense_{kind}_{r}_{name}"] = Kernel(call, acc, N_OUT, reference)
            used = f"qapsule::multipliers<{', '.join(map(str, multipliers_used(pruned(r), r)))}>"
            call = call.replace(f"{r}>", f"{r}, {used}>").replace("weight_", "pruned_")
            found[f"dense_{kind}_{r}_pruned_{name}"] = Kernel(call, acc, N_OUT, dense_reference(acc, pruned(r)))
        found[f"sparse_dense_{name}"] = Kernel("sparse_dense(x, y, by_col, bias)", acc, N_OUT, reference)
        for r in (*SPARSE_REUSE, nonzero):
            call = f"sparse_dense_reuse<{r}>(x, y, in_steps_{r}, bias)"
            found[f"sparse_dense_reuse_{r}_{name}"] = Kernel(call, acc, N_OUT, reference)
            call = call.replace(f"{r}>", f"{r}, {side_by_side(places()[1], r)}>")
            found[f"sparse_dense_reuse_{r}_side_by_side_{name}"] = Kernel(call, acc, N_OUT, reference)
    return found


def tables(flavour: Flavour) -> list[str]:
    """The constants."""
    named = constants()

    def entry(i: int, j: int, weight: int) -> str:
        return braces((i, j, weight / 2**WEIGHT.fmt.frac))

    def entries(name: str, rows: list[str]) -> str:
        kind = WEIGHT.spell(flavour, scalar=True)
        index = {"ap": "ap_uint<3>", "ac": "ac_int<3, false>"}.get(flavour.name, "unsigned char")
        return f"static const qapsule::coo<{kind}, {index}> {name} = {braces(rows)};"

    def in_steps(r: int) -> str:
        steps = zip(*(found.tolist() for found in spread(places()[1], N_OUT, r)), strict=True)
        rows = [[by_row[k] if k >= 0 else entry(0, j, 0) for k, j in zip(*step, strict=True)] for step in steps]
        return entries(f"in_steps_{r}[{r}][{len(rows[0])}]", list(map(braces, rows)))

    def existing(r: int) -> Codes:
        return by_step(pruned(r), r)[:, list(multipliers_used(pruned(r), r))]

    by_row = [entry(i, j, named["weight"][j, i]) for i, j in zip(*places(), strict=True)]
    by_col = [by_row[k] for k in np.argsort(places()[1], kind="stable")]
    factors = sorted({r for _, r in shared()})
    return [
        array(flavour, "weight", WEIGHT, named["weight"]),
        *(array(flavour, f"weight_{r}", WEIGHT, by_step(named["weight"], r)) for r in factors),
        *(array(flavour, f"pruned_{r}", WEIGHT, existing(r)) for r in factors),
        array(flavour, "bias", BIAS, named["bias"]),
        *(array(flavour, f"bias_{r}", BIAS, named["bias"].reshape(r // N_IN, -1)) for r in REUSE["serial"]),
        entries(f"by_col[{len(by_row)}]", by_col),
        *map(in_steps, (*SPARSE_REUSE, len(by_row))),
    ]
