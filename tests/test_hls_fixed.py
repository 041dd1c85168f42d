"""The number type of hls_lib equals the vendors' types and compress.fixed, code for code."""

from __future__ import annotations

import operator
import random
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from cxx import AC, AP, FLAVOURS, LANES, OWN, SANITIZE, Flavour, build, codes_of, run, try_build, words_of

from compress.fixed import Codes, FixedPoint, Overflow, Rounding, cast, encode

F = FixedPoint.of
MODES = tuple(product(Rounding, Overflow))


@dataclass(frozen=True)
class Case:
    """``target(expression)`` of operands a and b, on given codes. ``a`` is a C++ double where its format is None."""

    expression: str
    a: FixedPoint | None
    b: FixedPoint
    target: FixedPoint
    rounding: Rounding
    overflow: Overflow
    a_codes: Codes
    b_codes: Codes

    def expected(self) -> Codes:
        if self.a is None:
            return encode(self.a_codes, self.target, self.rounding, self.overflow)
        codes, frac = exact(self.expression, self.a_codes.astype(object), self.a, self.b_codes.astype(object), self.b)
        return cast(codes, frac, self.target, self.rounding, self.overflow)

    def words(self) -> np.ndarray:
        first = self.a_codes.view(np.uint64) if self.a is None else words_of(self.a_codes)
        return np.stack([first, words_of(self.b_codes)], axis=1).ravel()


SUMS: dict[str, Callable[[Codes, Codes], Codes]] = {"a + b": operator.add, "a - b": operator.sub}
COMPARISONS: dict[str, Callable[[Codes, Codes], Codes]] = {
    "a < b": operator.lt, "a <= b": operator.le, "a > b": operator.gt, "a >= b": operator.ge,
    "a == b": operator.eq, "a != b": operator.ne,
}  # fmt: skip


def exact(expression: str, a: Codes, a_fmt: FixedPoint, b: Codes, b_fmt: FixedPoint) -> tuple[Codes, int]:
    """The codes and the fraction bits of an expression, in integers without bound."""
    if expression == "a":
        return a, a_fmt.frac
    if expression == "-a":
        return -a, a_fmt.frac
    if expression == "a * b":
        return a * b, a_fmt.frac + b_fmt.frac
    frac = max(a_fmt.frac, b_fmt.frac)
    a, b = a * 2 ** (frac - a_fmt.frac), b * 2 ** (frac - b_fmt.frac)
    if expression in SUMS:
        return SUMS[expression](a, b), frac
    return COMPARISONS[expression](a, b).astype(np.int64), 0


def program(cases: list[Case], flavour: Flavour) -> str:
    """Evaluates each case on its pairs of words."""
    calls = []
    for index, case in enumerate(cases):
        target = flavour.spell(case.target, case.rounding, case.overflow)
        result = case.expression
        if result in COMPARISONS:
            result = f"select({result}, one, target(0))"
        one = "const target one = 1;" if case.expression in COMPARISONS else ""
        a = "double" if case.a is None else flavour.spell(case.a)
        calls.append(
            f"struct case_{index} {{\n"
            f"    typedef {a} first; typedef {flavour.spell(case.b)} second; typedef {target} target;\n"
            f"    static target of(const first& a, const second& b) {{\n"
            f"        (void)a; (void)b; {one} return target({result});\n"
            f"    }}\n}};"
        )
    runs = "\n".join(f"    each<case_{i}>({len(case.b_codes)});" for i, case in enumerate(cases))
    return (
        """
#include <cstring>
inline void pack(const std::uint64_t* bits, double& x) { std::memcpy(&x, bits, sizeof x); }
template <class CASE> void each(int count) {
    for (int done = 0; done < count; done += LANES) {
        std::uint64_t words[3][LANES] = {};
        for (int k = 0; k < LANES && done + k < count; ++k) words[0][k] = get(), words[1][k] = get();
        typename CASE::first a;
        typename CASE::second b;
        pack(words[0], a);
        pack(words[1], b);
        unpack(CASE::of(a, b), words[2]);
        for (int k = 0; k < LANES && done + k < count; ++k) put(words[2][k]);
    }
}
"""
        + "\n".join(calls)
        + f"\nint main() {{\n{runs}\n}}\n"
    )


def check(cases: list[Case], flavour: Flavour, folder: Path, *flags: str, cxx: str = "g++") -> None:
    """Every case gives the expected codes in this flavour."""
    words = run(
        build(program(cases, flavour), folder / "cases", flavour, *flags, cxx=cxx),
        np.concatenate([case.words() for case in cases]),
    )
    assert len(words) == sum(len(case.b_codes) for case in cases)
    for case in cases:
        got, words = codes_of(words[: len(case.b_codes)], case.target), words[len(case.b_codes) :]
        wrong = np.flatnonzero(got != case.expected())
        assert not len(wrong), (
            f"{flavour.name}: {case.expression} of {case.a} and {case.b} to {case.target} {case.rounding}"
            f" {case.overflow}: a={case.a_codes[wrong[0]]} b={case.b_codes[wrong[0]]} gave {got[wrong[0]]},"
            f" expected {case.expected()[wrong[0]]}; {len(wrong)} of {len(got)} differ"
        )


def every_code(fmt: FixedPoint) -> Codes:
    return np.arange(fmt.min_code, fmt.max_code + 1)


# Signs mixed, fractions dropped and gained, more dropped than there are, binary points outside the bits, single bits.
SWEEPS = (
    (F(8, 4), F(5, 3)), (F(8, 4), F(5, 3, False)), (F(8, 4, False), F(5, 3)), (F(8, 4, False), F(4, 2, False)),
    (F(6, 3), F(4, -1)), (F(6, 9), F(5, 4)), (F(6, 9, False), F(7, 6, False)), (F(6, -1, False), F(4, 2)),
    (F(5, 0), F(4, 4)), (F(5, -1), F(4, 4)), (F(5, -2), F(4, 4)), (F(5, -4, False), F(4, 4)),
    (F(6, 2), F(1, 1)), (F(6, 2), F(1, 1, False)), (F(5, 2), F(8, 4)), (F(5, 2), F(5, 2)),
)  # fmt: skip


def sweep_cases() -> list[Case]:
    return [
        Case("a", a, a, target, *modes, every_code(a), every_code(a)) for a, target in SWEEPS for modes in MODES
    ]


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda f: f.name)
def test_every_code_under_every_mode(flavour: Flavour, tmp_path: Path) -> None:
    check(sweep_cases(), flavour, tmp_path, "-O0")


def test_every_code_under_every_mode_optimised_by_clang(tmp_path: Path) -> None:
    check(sweep_cases(), LANES, tmp_path, "-O1", cxx="clang++")


def random_codes(fmt: FixedPoint, draw: random.Random, count: int = 60) -> Codes:
    """Codes of every magnitude, the ends of the range among them."""
    codes = [draw.randint(fmt.min_code, fmt.max_code) >> draw.randrange(fmt.width) for _ in range(count - 4)]
    return np.array([fmt.min_code, fmt.max_code, 0, fmt.max_code >> 1, *codes], dtype=object)


def random_format(draw: random.Random, width: int) -> FixedPoint:
    return FixedPoint(draw.randint(max(1, width // 2), width), draw.randint(-4, width + 4), draw.random() < 0.6)


def wide_cases(width: int, seed: int, mixed: bool = True) -> list[Case]:
    """Casts, sums, products and comparisons of random formats up to ``width`` bits.

    ap_fixed compares a signed with an unsigned number as C does, wrongly; without ``mixed`` the signs of a comparison
    are equal.
    """
    draw = random.Random(seed)
    cases = []
    for expression in ("a",) * 14 + ("-a", "a * b", "a * b", "a * b", *SUMS, *SUMS, *COMPARISONS):
        factor = width // 2 if expression == "a * b" else width
        term = factor - 8 if expression in SUMS or expression in COMPARISONS else factor
        a, b = random_format(draw, term), random_format(draw, term)
        if expression in SUMS or expression in COMPARISONS:
            sign = b.signed if mixed or expression in SUMS else a.signed
            b = FixedPoint(b.width, a.frac + draw.randint(-4, 4), sign)
        target = FixedPoint(draw.randint(2, width), a.frac + draw.randint(-10, 6), draw.random() < 0.6)
        if expression in COMPARISONS:
            target = FixedPoint(3, 0)
        codes = random_codes(a, draw), random_codes(b, draw)
        cases.append(Case(expression, a, b, target, *draw.choice(MODES), *codes))
    return cases


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda f: f.name)
@pytest.mark.parametrize("width", [20, 60])
def test_random_formats(flavour: Flavour, width: int, tmp_path: Path) -> None:
    check(wide_cases(width, seed=width, mixed=flavour is not AP), flavour, tmp_path, "-O0")


@pytest.mark.parametrize("flavour", [OWN, AP, AC], ids=lambda f: f.name)
def test_random_formats_of_64_bits_and_products_of_128(flavour: Flavour, tmp_path: Path) -> None:
    draw = random.Random(64)
    cases = wide_cases(64, seed=64, mixed=flavour is not AP)
    for a, b in ((F(64, 30), F(64, 20)), (F(64, 30), F(63, 70, False)), (F(64, 30, False), F(60, 4))):
        for modes in ((Rounding.RND_CONV, Overflow.SAT), (Rounding.TRN_ZERO, Overflow.WRAP)):
            codes = random_codes(a, draw), random_codes(b, draw)
            cases.append(Case("a * b", a, b, FixedPoint(64, (a.frac + b.frac) // 2), *modes, *codes))
    check(cases, flavour, tmp_path, "-O0")


@pytest.mark.parametrize("flavour", [OWN, AP, AC], ids=lambda f: f.name)
def test_real_numbers(flavour: Flavour, tmp_path: Path) -> None:
    """A double meets the modes of the target and no other error."""
    near = [n / 8 + sign * tiny for n in range(-70, 71) for tiny in (0, 2.0**-40) for sign in (1, -1)]
    values = np.array([*near, -5e-20, 5e-20, 1e6, -1e6, 1.5 * 2.0**40, -(2.0**52) - 1])
    blank = np.zeros(len(values), dtype=np.int64)
    targets = [(target, modes) for target in (F(6, 4), F(5, 4, False)) for modes in MODES]
    targets += [(target, modes) for target in (F(40, 20), F(4, 6)) for modes in MODES[:: len(Overflow) + 1]]
    cases = [Case("a", None, F(2, 1), target, *modes, values, blank) for target, modes in targets]
    check(cases, flavour, tmp_path, "-O0")


@pytest.mark.parametrize("cases", [sweep_cases, lambda: wide_cases(64, 7)], ids=["sweep", "wide"])
def test_no_undefined_behaviour(cases: Callable[[], list[Case]], tmp_path: Path) -> None:
    check(cases(), OWN, tmp_path, *SANITIZE)


def test_no_undefined_behaviour_in_lanes(tmp_path: Path) -> None:
    check(wide_cases(60, seed=8), LANES, tmp_path, *SANITIZE)


CONSTANTS = """
static_assert(fixed<6, 1>(0.25).raw() == 8, "");
static_assert(fixed<6, 1>(-1.0).raw() == -32, "");
static_assert(fixed<6, 1, true, RND_CONV, SAT_SYM>(-1.0).raw() == -31, "");
static_assert(fixed<6, 1, true, RND_CONV, SAT>(7).raw() == 31, "");
static_assert(fixed<4, 6>(-12).raw() == -3, "");
static_assert(fixed<4, -2>(0.046875).raw() == 3, "");
static_assert(fixed<64, 64, false>(~0ull).raw() == static_cast<unsigned long long>(-1), "");
static_assert((fixed<6, 1>(0.25) * fixed<6, 1>(-0.5)).raw() == -128, "");
static_assert(fixed<6, 1>(0.25) + fixed<8, 1>(0.25) == fixed<3, 1>(0.5), "");
static_assert((-fixed<4, 4>(-8)).to_double() == 8, "");
static_assert(select(fixed<4, 4>(1) < fixed<4, 4>(2), 3, 4) == 3, "");
static const fixed<6, 1> weights[2][2] = {{0.25, -0.5}, {0.5, 1.0 / 32}};
int main() {
    const fixed<8, 4, true, TRN, WRAP, 4> several = weights[1][1];
    const fixed<8, 4, true, TRN, WRAP, 4> literal = -1.5;
    return several.raw()[3] != 0 || literal.raw()[2] != -24;
}
"""


@pytest.mark.parametrize("cxx", ["g++", "clang++"])
def test_literals_are_constant_expressions(cxx: str, tmp_path: Path) -> None:
    run(build(CONSTANTS, tmp_path / "constants", OWN, "-O2", cxx=cxx), np.array([], dtype=np.uint64))


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_disproved_proof_aborts_when_verifying(lanes: int, tmp_path: Path) -> None:
    source = f"""
    int main() {{
        volatile int eight = 8;
        const fixed<6, 6, true, TRN, WRAP, {lanes}> wide = eight;
        const fixed<4, 4, true, TRN, PROVED, {lanes}> narrow = wide;
        (void)narrow;
    }}
    """
    silent = build(source, tmp_path / "silent", OWN, "-O1")
    assert subprocess.run([str(silent)]).returncode == 0
    verifying = build(source, tmp_path / "verifying", OWN, "-O1", "-DQAPSULE_VERIFY")
    done = subprocess.run([str(verifying)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGABRT
    assert done.stderr == "qapsule: a value overflows fixed<4, 4>, which was proved impossible\n"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("fixed<65, 1, true, TRN, WRAP, 4> x; int main() { (void)x; }", "which only one lane (L = 1) can hold"),
        ("int main() { fixed<64, 1> x = 0; return x * x * x == x; }", "more than 128 bits; narrow an operand before"),
        ("fixed<8, 1, true, TRN, WRAP, 3> x; int main() { (void)x; }", "the number of lanes L is a power of two"),
        ("fixed<0, 1> x; int main() { (void)x; }", "a number has at least one bit"),
        (
            "int main() { fixed<8, 8, true, TRN, WRAP, 4> x = 0; fixed<8, 8, true, TRN, WRAP, 2> y = x; (void)y; }",
            "two numbers of different lane counts meet",
        ),
    ],
)
def test_what_cannot_be_says_why(source: str, sentence: str, tmp_path: Path) -> None:
    done = try_build(source, tmp_path / "impossible", OWN, "-fsyntax-only")
    assert done.returncode != 0
    assert sentence in done.stderr
