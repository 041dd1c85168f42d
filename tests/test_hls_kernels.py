"""Every kernel of hls_lib gives the same codes on every number type, and those of a plain reading of its definition."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from cxx import (
    AC,
    AP,
    FLAVOURS,
    LANES,
    OWN,
    SANITIZE,
    Flavour,
    build,
    codes_of,
    in_lanes,
    run,
    try_build,
    words_of,
)

from compress.fixed import Codes, FixedPoint, Overflow, Rounding, cast

F = FixedPoint.of
N_IN, N_OUT, SAMPLES = 6, 4, 64
LAYERS = ("affine", "cast", "channel_cast", "clip", "dense", "maximum", "relu", "sparse_dense", "threshold")
KERNELS = (*LAYERS, "pragmas", "trace")


@dataclass(frozen=True)
class Type:
    """A format with the modes that a conversion into it obeys; ``overflow=None``: proved absent."""

    fmt: FixedPoint
    rounding: Rounding = Rounding.TRN
    overflow: Overflow | None = Overflow.WRAP

    def cast(self, code: int, frac: int) -> int:
        if self.overflow is None:
            exact = cast(code, frac, FixedPoint(64, self.fmt.frac), self.rounding, Overflow.WRAP)
            assert self.fmt.min_code <= int(exact) <= self.fmt.max_code, "the test's own proof is wrong"
            return int(exact)
        return int(cast(code, frac, self.fmt, self.rounding, self.overflow))

    def spell(self, flavour: Flavour, scalar: bool = False) -> str:
        return flavour.spell(self.fmt, self.rounding, self.overflow, scalar)


X = Type(F(6, 3))
WEIGHT = Type(F(5, 1))
BIAS = Type(F(7, 2))
NARROW = Type(F(5, 2, False), Rounding.RND_CONV, Overflow.SAT)
#: Holds every sum; has no fraction to spare, so that each product loses bits; overflows half-way, and is clipped there.
ACCUMULATORS = {
    "exact": Type(F(16, 8), Rounding.TRN, None),
    "rounded": Type(F(10, 6), Rounding.RND_CONV, Overflow.WRAP),
    "clipped": Type(F(7, 3), Rounding.RND, Overflow.SAT),
    "wrapped": Type(F(6, 3), Rounding.TRN, Overflow.WRAP),
    "zeroed": Type(F(7, 3), Rounding.TRN_ZERO, Overflow.SAT_ZERO),
}
DENSE_REUSE = (1, 2, 3, 6, 12, 24)


@cache
def constants() -> dict[str, Codes]:
    """Codes of the weights and of what else a layer is given."""
    draw = np.random.default_rng(5)
    weight = draw.integers(WEIGHT.fmt.min_code, WEIGHT.fmt.max_code + 1, (N_OUT, N_IN))
    weight[draw.random((N_OUT, N_IN)) < 0.4] = 0
    weight[0, 0] = WEIGHT.fmt.min_code
    return {
        "weight": weight,
        "bias": draw.integers(BIAS.fmt.min_code, BIAS.fmt.max_code + 1, N_OUT),
        "scale": draw.integers(-16, 16, N_IN),
        "offset": draw.integers(-64, 64, N_IN),
        "level": np.sort(draw.integers(X.fmt.min_code, X.fmt.max_code + 1, (N_IN, 20)), axis=1),
        "start": np.array([0, 20, 0, 20, 3, 28]),
        "step": np.array([1, -1, 1, -1, 1, -1]),
        "low": np.array([-32, -20, -3, 0, 4, -32]),
        "high": np.array([31, 20, 11, 5, 4, -7]),
    }


def inputs() -> Codes:
    """Samples (SAMPLES, N_IN): at random, and the ends of the range."""
    x = np.random.default_rng(6).integers(X.fmt.min_code, X.fmt.max_code + 1, (SAMPLES, N_IN))
    x[0], x[1] = X.fmt.min_code, X.fmt.max_code
    return x


@dataclass(frozen=True)
class Kernel:
    """One call ``call`` from x to y, and ``reference``: one sample's codes to the codes it must give."""

    call: str
    y: Type
    size: int
    reference: Callable[[list[int]], list[int]]


def dense_reference(acc: Type) -> Callable[[list[int]], list[int]]:
    """The definition in dense.h, one integer at a time."""
    weight, biases = constants()["weight"], constants()["bias"]

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


def affine_reference(y: Type) -> Callable[[list[int]], list[int]]:
    scale, offset = constants()["scale"], constants()["offset"]
    return lambda x: [y.cast(v * int(m) + int(c), 7) for v, m, c in zip(x, scale, offset, strict=True)]


def threshold_reference(x: list[int]) -> list[int]:
    named = constants()
    return [
        int(named["start"][i] + named["step"][i] * sum(x[i] >= level for level in named["level"][i]))
        for i in range(N_IN)
    ]


#: The formats of a cast by channel and their elements; element 4 has none.
BY_CHANNEL = {
    "coarse": (Type(F(3, 2), Rounding.RND_CONV, Overflow.SAT), (0, 5)),
    "fine": (Type(FixedPoint(2, 3), Rounding.RND_CONV, Overflow.SAT), (1, 2, 3)),
}


def channel_cast_reference(x: list[int]) -> list[int]:
    y = [0] * N_IN
    for kind, elements in BY_CHANNEL.values():
        for i in elements:
            y[i] = kind.cast(x[i], X.fmt.frac) << 3 - kind.fmt.frac
    return y


def clip_reference(x: list[int]) -> list[int]:
    named = constants()
    return [min(max(v, int(a)), int(b)) for v, a, b in zip(x, named["low"], named["high"], strict=True)]


def kernels() -> dict[str, Kernel]:
    """Every kernel, in every variant, by name."""
    found = {}
    nonzero = int(np.count_nonzero(constants()["weight"]))
    for name, acc in ACCUMULATORS.items():
        reference = dense_reference(acc)
        found[f"dense_{name}"] = Kernel("dense(x, y, weight, bias)", acc, N_OUT, reference)
        for r in DENSE_REUSE:
            call = f"dense_reuse<{r}>(x, y, weight_{r}, bias)"
            found[f"dense_reuse_{r}_{name}"] = Kernel(call, acc, N_OUT, reference)
        for r, order in product((1, 4, nonzero), ("by_row", "by_col")):
            call = f"sparse_dense<{r}>(x, y, {order}, bias)"
            found[f"sparse_dense_{r}_{order}_{name}"] = Kernel(call, acc, N_OUT, reference)
    narrow = NARROW
    found["relu"] = Kernel("relu(x, y)", narrow, N_IN, lambda x: [narrow.cast(max(v, 0), X.fmt.frac) for v in x])
    found["cast"] = Kernel("cast(x, y)", narrow, N_IN, lambda x: [narrow.cast(v, X.fmt.frac) for v in x])
    found["affine"] = Kernel("affine(x, y, scale, offset)", narrow, N_IN, affine_reference(narrow))
    stairs = Type(F(5, 3, False), Rounding.TRN, None)
    found["threshold"] = Kernel("threshold(x, y, level, start, step)", stairs, N_IN, threshold_reference)
    covering = Type(FixedPoint(5, 3), Rounding.TRN, None)
    by_channel = "; qapsule::".join(f"channel_cast<{name}_t>(x, y, {name})" for name in BY_CHANNEL)
    by_channel += "; qapsule::channel_zero(y, zero)"
    found["channel_cast"] = Kernel(by_channel, covering, N_IN, channel_cast_reference)
    found["clip"] = Kernel("clip(x, y, low, high)", Type(F(6, 3), Rounding.TRN, None), N_IN, clip_reference)
    shifted, call = affine_reference(narrow), "affine(x, other, scale, offset); qapsule::maximum(x, other, y)"
    both = Type(FixedPoint(6, 3), Rounding.TRN, None)
    found["maximum"] = Kernel(call, both, N_IN, lambda x: list(map(max, x, shifted(x))))
    return found


def braces(values: Iterable[object]) -> str:
    return "{" + ", ".join(str(v) for v in values) + "}"


def design(flavour: Flavour) -> str:
    """The constants, and a program that puts samples through every kernel."""
    named = constants()

    def array(name: str, kind: Type, codes: Codes) -> str:
        reals = codes / 2**kind.fmt.frac
        rows = braces(map(float, reals)) if codes.ndim == 1 else braces(braces(map(float, row)) for row in reals)
        shape = "".join(f"[{n}]" for n in codes.shape)
        return f"static const {kind.spell(flavour, scalar=True)} {name}{shape} = {rows};"

    def entries(name: str, order: list[tuple[int, int]]) -> str:
        rows = [braces((i, j, named["weight"][j, i] / 2**WEIGHT.fmt.frac)) for i, j in order]
        kind = WEIGHT.spell(flavour, scalar=True)
        index = {"ap": "ap_uint<3>", "ac": "ac_int<3, false>"}.get(flavour.name, "unsigned char")
        return f"static const qapsule::coo<{kind}, {index}> {name}[{len(rows)}] = {braces(rows)};"

    flat = named["weight"].T.ravel()
    by_row = [(i, j) for i in range(N_IN) for j in range(N_OUT) if named["weight"][j, i]]
    stairs = F(5, 3)
    lines = [
        array("weight", WEIGHT, named["weight"]),
        *(array(f"weight_{r}", WEIGHT, flat.reshape(r, -1)) for r in DENSE_REUSE),
        entries("by_row", by_row),
        entries("by_col", sorted(by_row, key=lambda place: (place[1], place[0]))),
        array("bias", BIAS, named["bias"]),
        array("scale", Type(F(6, 2)), named["scale"]),
        array("offset", Type(FixedPoint(8, 7)), named["offset"]),
        array("level", X, named["level"]),
        array("start", Type(FixedPoint(6, 2, False)), named["start"]),
        array("step", Type(stairs), named["step"]),
        array("low", X, named["low"]),
        array("high", X, named["high"]),
        *(f"typedef {kind.spell(flavour)} {name}_t;" for name, (kind, _) in BY_CHANNEL.items()),
        *(f"static const int {name}[] = {braces(elements)};" for name, (_, elements) in BY_CHANNEL.items()),
        "static const int zero[] = {4};",
        f"static {NARROW.spell(flavour)} other[{N_IN}];",
        f"typedef {X.spell(flavour)} x_t;",
    ]
    calls = []
    for name, kernel in kernels().items():
        y = kernel.y.spell(flavour)
        lines.append(
            f"struct run_{name} {{ typedef {y} y_t; static constexpr int size = {kernel.size};\n"
            f"    static void of(const x_t (&x)[{N_IN}], y_t (&y)[size]) {{ qapsule::{kernel.call}; }} }};"
        )
        calls.append(f"        layer<run_{name}>(x);")
    includes = "".join(f'#include "qapsule/{header}.h"\n' for header in KERNELS)
    return (
        includes
        + "\n".join(lines)
        + f"""
template <class KERNEL> void layer(const x_t (&x)[{N_IN}]) {{
    typename KERNEL::y_t y[KERNEL::size];
    KERNEL::of(x, y);
    QAPSULE_TRACE("y", y)
    for (int i = 0; i < KERNEL::size; ++i) {{
        std::uint64_t words[LANES];
        unpack(y[i], words);
        for (int k = 0; k < LANES; ++k) put(words[k]);
    }}
}}
int main() {{
    for (int done = 0; done < {SAMPLES}; done += LANES) {{
        std::uint64_t words[{N_IN}][LANES];
        for (int k = 0; k < LANES; ++k)
            for (int i = 0; i < {N_IN}; ++i) words[i][k] = get();
        x_t x[{N_IN}];
        for (int i = 0; i < {N_IN}; ++i) pack(words[i], x[i]);
"""
        + "\n".join(calls)
        + "\n    }\n}\n"
    )


def outputs(flavour: Flavour, folder: Path, *flags: str, cxx: str = "g++") -> dict[str, Codes]:
    """The codes (SAMPLES, size) that each kernel gives, compiled for a flavour."""
    found = kernels()
    words = run(build(design(flavour), folder / "kernels", flavour, *flags, cxx=cxx), words_of(inputs()))
    batches = words.reshape(SAMPLES // flavour.lanes, -1)
    result, at = {}, 0
    for name, kernel in found.items():
        length = kernel.size * flavour.lanes
        chunk = batches[:, at : at + length].reshape(-1, kernel.size, flavour.lanes).swapaxes(1, 2)
        result[name] = codes_of(chunk.ravel(), kernel.y.fmt).reshape(SAMPLES, kernel.size)
        at += length
    assert at == batches.shape[1]
    return result


@pytest.fixture(scope="module")
def expected() -> dict[str, Codes]:
    """What each kernel must give, (SAMPLES, size)."""
    return {
        name: np.array([kernel.reference([int(v) for v in sample]) for sample in inputs()])
        for name, kernel in kernels().items()
    }


def assert_equal(got: dict[str, Codes], expected: dict[str, Codes]) -> None:
    wrong = {name: int((got[name] != codes).sum()) for name, codes in expected.items() if (got[name] != codes).any()}
    assert wrong == {}


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda f: f.name)
def test_kernels_on_every_number_type(flavour: Flavour, expected: dict[str, Codes], tmp_path: Path) -> None:
    assert_equal(outputs(flavour, tmp_path, "-O0"), expected)


@pytest.mark.parametrize("flags", [("-O3", "-march=native"), ("-O1",)], ids=["native", "portable"])
@pytest.mark.parametrize("cxx", ["g++", "clang++"])
def test_kernels_in_many_lanes_optimised(
    cxx: str, flags: tuple[str, ...], expected: dict[str, Codes], tmp_path: Path
) -> None:
    """As emulators are compiled, and with vectors that no register of the machine holds."""
    assert_equal(outputs(in_lanes(16), tmp_path, *flags, cxx=cxx), expected)


@pytest.mark.parametrize("flavour", [OWN, LANES], ids=lambda f: f.name)
def test_kernels_without_undefined_behaviour(flavour: Flavour, expected: dict[str, Codes], tmp_path: Path) -> None:
    assert_equal(outputs(flavour, tmp_path, *SANITIZE, "-DQAPSULE_VERIFY"), expected)


@pytest.mark.parametrize("flavour", [OWN, AP, AC], ids=lambda f: f.name)
def test_kernels_raise_no_warning_of_clang(flavour: Flavour, tmp_path: Path) -> None:
    done = try_build(design(flavour), tmp_path / "kernels", flavour, "-fsyntax-only", cxx="clang++")
    assert done.returncode == 0, done.stderr[:4000]


def test_accumulator_modes_make_a_difference(expected: dict[str, Codes]) -> None:
    """The inexact accumulators of this file do lose bits, else they would test nothing."""
    values = {name: expected[f"dense_{name}"] / 2.0**acc.fmt.frac for name, acc in ACCUMULATORS.items()}
    for name in ("rounded", "clipped", "wrapped", "zeroed"):
        assert (values[name] != values["exact"]).mean() > 0.2
    # Clipped at the end only, the sum would differ from one that is clipped on its way.
    late = np.clip(values["exact"], -4, 4 - 2.0**-4)
    assert (np.abs(values["clipped"] - late) > 1).any()


@pytest.mark.parametrize("header", [*KERNELS, "fixed", "modes", "numbers", "word"])
@pytest.mark.parametrize("cxx", ["g++", "clang++"])
def test_headers_stand_alone(header: str, cxx: str, tmp_path: Path) -> None:
    source = f'#include "qapsule/{header}.h"\n#include "qapsule/{header}.h"\nint main() {{}}\n'
    done = try_build(source, tmp_path / "alone", Flavour("none", ""), "-fsyntax-only", cxx=cxx)
    assert done.returncode == 0, done.stderr


ILLEGAL = """
#include "qapsule/dense.h"
#include "qapsule/sparse_dense.h"
typedef fixed<8, 4> number;
static const number bias[4] = {};
int main() { number x[6] = {}, y[4]; %s }
"""


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            "static const number weight[4][6] = {}; qapsule::dense_reuse<4>(x, y, weight, bias);",
            "the reuse factor R must divide N_IN, or be N_IN times a divisor of N_OUT",
        ),
        (
            "static const number weight[6][5] = {}; qapsule::dense_reuse<6>(x, y, weight, bias);",
            "weight must be [R][N_IN * N_OUT / R]",
        ),
        (
            "static const qapsule::coo<number> entries[3] = {}; qapsule::sparse_dense<4>(x, y, entries, bias);",
            "the reuse factor R must lie between 1 and the number of non-zero weights",
        ),
    ],
)
def test_an_illegal_reuse_factor_says_why(body: str, sentence: str, tmp_path: Path) -> None:
    done = try_build(ILLEGAL % body, tmp_path / "illegal", OWN, "-fsyntax-only")
    assert done.returncode != 0
    assert sentence in done.stderr


TOOLS = ("__VITIS_HLS__", "__VIVADO_HLS__", "__SYNTHESIS__", "QAPSULE_CATAPULT", "__INTELFPGA_COMPILER__", "ORDINARY")


@pytest.mark.parametrize("tool", TOOLS)
def test_kernels_are_legal_with_every_tools_directives(tool: str, tmp_path: Path) -> None:
    """Labels are unique in their function, and clang, which knows `unroll`, finds a loop behind it."""
    flags = ("-fsyntax-only", f"-D{tool}", "-Wno-unknown-pragmas", "-Wno-unused-label")
    done = try_build(design(OWN), tmp_path / "kernels", OWN, *flags, cxx="clang++")
    assert done.returncode == 0, done.stderr[:4000]


def test_samples_are_diverse(expected: dict[str, Codes]) -> None:
    for name, codes in expected.items():
        assert len({tuple(row) for row in codes}) > SAMPLES // 2, name


def test_one_flipped_weight_bit_is_seen(
    expected: dict[str, Codes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flipped = dict(constants(), weight=constants()["weight"].copy())
    place = random.Random(1).choice(np.argwhere(flipped["weight"]).tolist())
    flipped["weight"][tuple(place)] ^= 1
    monkeypatch.setattr(f"{__name__}.constants", lambda: flipped)
    got = outputs(OWN, tmp_path, "-O0")
    for name in ("dense_exact", "dense_reuse_6_exact", "sparse_dense_4_by_row_exact"):
        assert (got[name] != expected[name]).any()
