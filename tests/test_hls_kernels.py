"""Every kernel of hls_lib gives the same codes on every number type, and those of a plain reading of its definition."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import kernel_programs
import layer_kernels
import numpy as np
import pytest
from cxx import AC, AP, FLAVOURS, LANES, OWN, SANITIZE, Flavour, in_lanes, try_build
from kernel_programs import N_IN, SAMPLES, Kernel, Type, X, array, assert_equal, braces, expected_of, program
from layer_kernels import ACCUMULATORS

from compress.fixed import Codes, FixedPoint, Overflow, Rounding

F = FixedPoint.of
LAYERS = ("affine", "cast", "channel_cast", "clip", "dense", "maximum", "relu", "sparse_dense", "threshold")
KERNELS = (*LAYERS, "pragmas", "trace")
NARROW = Type(F(5, 2, False), Rounding.RND_CONV, Overflow.SAT)
SYMMETRIC = Type(F(6, 3), Rounding.TRN, Overflow.SAT_SYM)


@cache
def constants() -> dict[str, Codes]:
    """Codes of what the kernels are given that are no layers."""
    draw = np.random.default_rng(5)
    return {
        "scale": draw.integers(-16, 16, N_IN),
        "offset": draw.integers(-64, 64, N_IN),
        "level": np.sort(draw.integers(X.fmt.min_code, X.fmt.max_code + 1, (N_IN, 20)), axis=1),
        "start": np.array([0, 20, 0, 20, 3, 28]),
        "step": np.array([1, -1, 1, -1, 1, -1]),
        "low": np.array([-32, -20, -3, 0, 4, -32]),
        "high": np.array([31, 20, 11, 5, 4, -7]),
        "highest": np.array([31, 20, 11, 5, 4, -32]),  # no higher than the lowest code in one channel
    }


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


def clip_reference(high: str) -> Callable[[list[int]], list[int]]:
    limits = constants()["low"], constants()[high]
    return lambda x: [min(max(v, int(a)), int(b)) for v, a, b in zip(x, *limits, strict=True)]


def kernels() -> dict[str, Kernel]:
    """Every kernel, in every variant, by name."""
    found, narrow = layer_kernels.kernels(), NARROW
    found["relu"] = Kernel("relu(x, y)", narrow, N_IN, lambda x: [narrow.cast(max(v, 0), X.fmt.frac) for v in x])
    found["cast"] = Kernel("cast(x, y)", narrow, N_IN, lambda x: [narrow.cast(v, X.fmt.frac) for v in x])
    found["affine"] = Kernel("affine(x, y, scale, offset)", narrow, N_IN, affine_reference(narrow))
    stairs = Type(F(5, 3, False), Rounding.TRN, None)
    found["threshold"] = Kernel("threshold(x, y, level, start, step)", stairs, N_IN, threshold_reference)
    covering = Type(FixedPoint(5, 3), Rounding.TRN, None)
    by_channel = "; qapsule::".join(f"channel_cast<{name}_t>(x, y, {name})" for name in BY_CHANNEL)
    by_channel += "; qapsule::channel_zero(y, zero)"
    found["channel_cast"] = Kernel(by_channel, covering, N_IN, channel_cast_reference)
    exact = Type(F(6, 3), Rounding.TRN, None)
    found["clip"] = Kernel("clip(x, y, low, high)", exact, N_IN, clip_reference("high"))
    # The lowest code is a limit, though no number of the symmetric type.
    call, limited = "cast(x, even); qapsule::clip(even, y, low, highest)", clip_reference("highest")
    found["clip_symmetric"] = Kernel(call, exact, N_IN, lambda x: limited([max(v, -31) for v in x]))
    shifted, call = affine_reference(narrow), "affine(x, other, scale, offset); qapsule::maximum(x, other, y)"
    found["maximum"] = Kernel(call, exact, N_IN, lambda x: list(map(max, x, shifted(x))))
    return found


def design(flavour: Flavour) -> str:
    """The constants, and a program that puts samples through every kernel."""
    named, stairs = constants(), F(5, 3)
    lines = [
        *layer_kernels.tables(flavour),
        array(flavour, "scale", Type(F(6, 2)), named["scale"]),
        array(flavour, "offset", Type(FixedPoint(8, 7)), named["offset"]),
        array(flavour, "level", X, named["level"]),
        array(flavour, "start", Type(FixedPoint(6, 2, False)), named["start"]),
        array(flavour, "step", Type(stairs), named["step"]),
        array(flavour, "low", X, named["low"]),
        array(flavour, "high", X, named["high"]),
        array(flavour, "highest", X, named["highest"]),
        *(f"typedef {kind.spell(flavour)} {name}_t;" for name, (kind, _) in BY_CHANNEL.items()),
        *(f"static const int {name}[] = {braces(elements)};" for name, (_, elements) in BY_CHANNEL.items()),
        "static const int zero[] = {4};",
        f"static {NARROW.spell(flavour)} other[{N_IN}];",
        f"static {SYMMETRIC.spell(flavour)} even[{N_IN}];",
    ]
    return program(flavour, KERNELS, lines, kernels())


def outputs(flavour: Flavour, folder: Path, *flags: str, cxx: str = "g++") -> dict[str, Codes]:
    """The codes (SAMPLES, size) that each kernel gives, compiled for a flavour."""
    return kernel_programs.outputs(design(flavour), kernels(), flavour, folder, *flags, cxx=cxx)


@pytest.fixture(scope="module")
def expected() -> dict[str, Codes]:
    """What each kernel must give, (SAMPLES, size)."""
    return expected_of(kernels())


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
    for name in ("rounded", "clipped", "wrapped", "zeroed", "symmetric"):
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
            "the reuse factor R must divide N_IN; for N_IN times a divisor of N_OUT there is dense_serial",
        ),
        (
            "static const number weight[6][5] = {}; qapsule::dense_reuse<6>(x, y, weight, bias);",
            "weight must be [R][N_IN * N_OUT / R], less the multipliers that do not exist",
        ),
        (
            "static const number weight[6][4] = {};"
            "qapsule::dense_reuse<6, qapsule::multipliers<0, 1, 3>>(x, y, weight, bias);",
            "weight must be [R][N_IN * N_OUT / R], less the multipliers that do not exist",
        ),
        (
            "static const number weight[8][3] = {}, two[2][2] = {}; qapsule::dense_serial<8>(x, y, weight, two);",
            "the reuse factor R must be N_IN times a divisor of N_OUT",
        ),
        (
            "static const number weight[12][3] = {}, two[2][2] = {}; qapsule::dense_serial<12>(x, y, weight, two);",
            "qapsule::dense_serial: weight must be [R][N_IN * N_OUT / R], less",
        ),
        (
            "static const qapsule::coo<number> e[2][5] = {}; qapsule::sparse_dense_reuse<2, 5>(x, y, e, bias);",
            "as many entries side by side have different outputs as a step has entries, and as there are outputs, at",
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
    found = layer_kernels.constants()
    flipped = dict(found, weight=found["weight"].copy())
    place = random.Random(1).choice(np.argwhere(flipped["weight"]).tolist())
    flipped["weight"][tuple(place)] ^= 1
    monkeypatch.setattr(layer_kernels, "constants", lambda: flipped)
    got = outputs(OWN, tmp_path, "-O0")
    for name in ("dense_exact", "dense_serial_12_exact", "sparse_dense_reuse_4_exact"):
        assert (got[name] != expected[name]).any()
