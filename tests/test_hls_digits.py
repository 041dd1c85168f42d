"""Binary and ternary weights of shared hardware: what a multiplier would give, on every number type, in every mode."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import kernel_programs
import layer_kernels
import numpy as np
import pytest
from cxx import AC, AP, FLAVOURS, LANES, OWN, SANITIZE, Flavour, build, run
from kernel_programs import N_IN, Kernel, Type, array, assert_equal, braces, expected_of, program
from layer_kernels import ACCUMULATORS, BIAS, N_OUT, WEIGHT, dense_reference

from compress.fixed import Codes, FixedPoint
from export.ops.digits import OneDigit
from export.ops.reuse import by_step, spread

DIGITS = {"binary": OneDigit(WEIGHT.fmt.frac, has_zeros=False), "ternary": OneDigit(WEIGHT.fmt.frac, has_zeros=True)}
SHARED, SERIAL, COO = 3, 12, 4


@cache
def weights(kind: str) -> Codes:
    """(N_OUT, N_IN) of them."""
    return np.random.default_rng(3).choice([-1, 1] if kind == "binary" else [-1, 0, 1], size=(N_OUT, N_IN))


def kernels() -> dict[str, Kernel]:
    found = {}
    for name, acc in ACCUMULATORS.items():
        for kind in DIGITS:
            reference = dense_reference(acc, weights(kind))
            calls = {
                "reuse": f"dense_reuse<{SHARED}>(x, y, {kind}_{SHARED}, bias)",
                "serial": f"dense_serial<{SERIAL}>(x, y, {kind}_{SERIAL}, bias_{SERIAL})",
            }
            if kind == "ternary":
                calls["coo"] = f"sparse_dense_reuse<{COO}>(x, y, entries, bias)"
            found |= {f"{kind}_{how}_{name}": Kernel(call, acc, N_OUT, reference) for how, call in calls.items()}
    return found


def entries(flavour: Flavour) -> str:
    """The ternary weights in COO form, places that are left over being zero."""
    rows, cols = np.nonzero(weights("ternary").T)
    numbers, outputs = spread(cols.tolist(), N_OUT, COO)
    assert (numbers < 0).any()
    steps = [
        [(rows[k], j, weights("ternary")[j, rows[k]]) if k >= 0 else (0, j, 0) for k, j in zip(*step, strict=True)]
        for step in zip(numbers.tolist(), outputs.tolist(), strict=True)
    ]
    unit = 2.0**-WEIGHT.fmt.frac
    body = braces(braces(braces((i, j, float(w * unit))) for i, j, w in step) for step in steps)
    kind = f"qapsule::coo<{spelled(flavour, 'ternary')}, unsigned char>"
    return f"static const {kind} entries[{COO}][{len(steps[0])}] = {body};"


def spelled(flavour: Flavour, kind: str) -> str:
    digit = DIGITS[kind]
    return f"qapsule::{kind}<{Type(digit.format).spell(flavour, scalar=True)}, {digit.frac}>"


def design(flavour: Flavour) -> str:
    bias = layer_kernels.constants()["bias"]
    lines = [array(flavour, "bias", BIAS, bias), array(flavour, f"bias_{SERIAL}", BIAS, bias.reshape(2, -1))]
    for kind in DIGITS:
        for r in (SHARED, SERIAL):
            steps = by_step(weights(kind), r) / 2**WEIGHT.fmt.frac
            table = f"{kind}_{r}[{len(steps)}][{len(steps[0])}]"
            lines.append(f"static const {spelled(flavour, kind)} {table} = {braces(map(braces, steps.tolist()))};")
    return program(flavour, ("digits", "dense", "sparse_dense", "trace"), [*lines, entries(flavour)], kernels())


@pytest.fixture(scope="module")
def expected() -> dict[str, Codes]:
    return expected_of(kernels())


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.name)
def test_a_sign_gives_what_its_product_gives(flavour: Flavour, expected: dict[str, Codes], tmp_path: Path) -> None:
    assert_equal(kernel_programs.outputs(design(flavour), kernels(), flavour, tmp_path), expected)


@pytest.mark.parametrize("flavour", [OWN, LANES, AC], ids=lambda flavour: flavour.name)
def test_nothing_of_it_is_undefined(flavour: Flavour, expected: dict[str, Codes], tmp_path: Path) -> None:
    assert_equal(kernel_programs.outputs(design(flavour), kernels(), flavour, tmp_path, *SANITIZE), expected)


@pytest.mark.parametrize("flavour", [OWN, AP, AC], ids=lambda flavour: flavour.name)
def test_a_binary_weight_is_a_bit_and_zero_is_minus(flavour: Flavour, tmp_path: Path) -> None:
    """Its word in a memory, which redundant copies hold too, back and forth."""
    number = Type(FixedPoint(2, 4)).spell(flavour, scalar=True)
    source = f"""
#include "qapsule/digits.h"
#include "qapsule/voter.h"
int main() {{
    typedef qapsule::binary<{number}, 4> binary;
    typedef qapsule::ternary<{number}, 4> ternary;
    static_assert(binary::width == 1, "one bit");
    for (unsigned code = 0; code < 2; ++code) {{
        binary w(0.0);
        qapsule::detail::restore(w, code);
        put(w.raw());
        put(w.raw() == binary(code ? 0.0625 : -0.0625).raw());
    }}
    for (unsigned code = 0; code < 4; ++code) {{
        if (code == 2) continue;
        ternary w(0.0);
        qapsule::detail::restore(w, code);
        put(w.number() == ternary(code == 0 ? 0.0 : code == 1 ? 0.0625 : -0.0625).number());
    }}
}}
"""
    got = run(build(source, tmp_path / "bits", flavour), np.zeros(0, dtype=np.uint64))
    assert got.tolist() == [0, 1, 1, 1, 1, 1, 1]
