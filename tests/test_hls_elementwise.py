"""The kernels of several tensors, and those that move numbers, give the codes of their ops on every number type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from cxx import FLAVOURS, LANES, OWN, SANITIZE, Flavour, build, codes_of, run, try_build, words_of

from compress.fixed import Codes, FixedPoint
from export.firmware.design import kernel_name
from export.intervals import Bounds
from export.ir import Op, Tensor
from export.ops import Add, ArgMax, BySign, Concat, Maximum, Minimum, Multiply, Rearrange, Subtract
from export.ops.casts import covering

SAMPLES = 64
TOOLS = ("__VITIS_HLS__", "__VIVADO_HLS__", "__SYNTHESIS__", "QAPSULE_CATAPULT", "__INTELFPGA_COMPILER__", "ORDINARY")
SIGNED, UNSIGNED, COARSE, BIT = FixedPoint(5, 2), FixedPoint(4, 3, False), FixedPoint(3, -2), FixedPoint(1, 0, False)
PAIRS = [(SIGNED, UNSIGNED), (UNSIGNED, SIGNED), (COARSE, UNSIGNED), (UNSIGNED, UNSIGNED), (BIT, COARSE),
         (FixedPoint(20, 12), FixedPoint(18, 3, False)), (FixedPoint(29, 4), FixedPoint(30, 20))]  # fmt: skip
#: Beyond what a vector register holds.
WIDE = [(FixedPoint(40, 10), FixedPoint(24, 20, False)), (FixedPoint(60, 0), FixedPoint(60, 2))]


def exact(kind: type[Op], name: str, *inputs: Tensor) -> Op:
    """In the narrowest format that holds every result."""
    frac = sum(t.format.frac for t in inputs) if kind is Multiply else max(t.format.frac for t in inputs)
    draft = kind(Tensor(name, inputs[0].shape, FixedPoint(64, frac)), *inputs)
    reach = [Bounds.everywhere(t.shape, t.format.min_code, t.format.max_code) for t in inputs]
    return kind(Tensor(name, inputs[0].shape, draft.bounds(*reach).format(frac)), *inputs)


def ops(wide: bool) -> Iterator[Op]:
    for number, (a, b) in enumerate(PAIRS + WIDE * wide):
        x, y = Tensor("a", (3,), a), Tensor("b", (3,), b)
        arithmetic = (Add, Subtract) if a.width + b.width > 64 else (Add, Subtract, Multiply)
        for kind in arithmetic:
            yield exact(kind, f"{kernel_name(kind)}_{number}", x, y)
        both = covering((a, b))
        for choice in (Maximum, Minimum):
            yield choice(Tensor(f"{kernel_name(choice)}_{number}", (3,), both), x, y)
        for sign in (SIGNED, FixedPoint(1, 0), UNSIGNED):
            z = Tensor("x", (3,), sign)
            yield BySign(Tensor(f"by_sign_{number}_{sign.width}", (3,), both), z, x, y)
    for channels, places in ((1, 1), (2, 3), (5, 1), (8, 2), (11, 1)):
        for fmt in (SIGNED, UNSIGNED, FixedPoint(2, 0)):  # two bits tie often
            x = Tensor("x", (channels, places), fmt)
            name = f"arg_max_{channels}_{fmt.width}"
            yield ArgMax(Tensor(name, (1, places), ArgMax.indices(x)), x)
    parts = tuple(
        Tensor(name, (2, n, 2), fmt) for name, n, fmt in (("a", 1, SIGNED), ("b", 3, UNSIGNED), ("c", 2, COARSE))
    )
    both = covering([part.format for part in parts])
    yield Concat(Tensor("concat_middle", (2, 6, 2), both), parts, axis=1)
    yield Concat(Tensor("concat_first", (4, 3, 2), both), (parts[1], parts[1]))
    yield Concat(Tensor("concat_one", (2, 1, 2), SIGNED), parts[:1], axis=2)
    x = Tensor("x", (2, 3), SIGNED)
    yield Rearrange(Tensor("rearrange_plain", (5,), SIGNED), x, (5, 0, 0, 3, 1))
    yield Rearrange(Tensor("rearrange_filled", (5,), FixedPoint(9, 5)), x, (5, -1, 0, -1, 1), fill=-77)
    yield Rearrange(Tensor("rearrange_zero", (2,), SIGNED), x, (-1, 2))


def samples(op: Op) -> list[Codes]:
    """Codes for each input: at random, and every combination of the ends."""
    rng = np.random.default_rng(len(op.name))
    drawn = []
    for place, tensor in enumerate(op.inputs):
        fmt = tensor.format
        low, high = max(fmt.min_code, -(1 << 62)), min(fmt.max_code, (1 << 62) - 1)
        codes = rng.integers(low, high, size=(SAMPLES, *tensor.shape), endpoint=True)
        ends = (np.arange(SAMPLES) >> place) & 1 == 1
        codes[:8] = np.where(ends, high, low)[:8].reshape(-1, *(1,) * len(tensor.shape))
        drawn.append(codes)
    return drawn


def call(op: Op, flavour: Flavour) -> Sequence[str]:
    """The constants of an op, and the call of its kernel on x0, x1, ... and y."""
    read = ", ".join(f"x{place}" for place in range(len(op.inputs)))
    match op:
        case Concat():
            return "", f"concat<{op.blocks}>(y, {read})"
        case Rearrange():
            places = ", ".join(str(s if s >= 0 else op.x.size) for s in op.source)
            index = {"ap": "ap_uint<3>", "ac": "ac_int<3, false>"}.get(flavour.name, "unsigned short")
            number, fmt = op.fill * float(op.output.format.lsb), flavour.spell(op.output.format, scalar=True)
            fill = f"static const {fmt} fill[1] = {{{number}}};"
            source = f"static const {index} source[{len(op.source)}] = {{{places}}};"
            return source + fill * op.is_filled, f"rearrange({read}, y, source{', fill' * op.is_filled})"
    return "", f"{kernel_name(type(op))}({read}, y)"


def program(flavour: Flavour, these: Sequence[Op]) -> str:
    """Every op by itself on its samples."""
    kernels = sorted({kernel_name(type(op)) for op in these})
    lines = [f'#include "qapsule/{kernel}.h"' for kernel in kernels]
    lines.append("template <class T, int N> void read(T (&x)[N]) { std::uint64_t words[N][LANES];")
    lines.append("    for (int k = 0; k < LANES; ++k) for (int i = 0; i < N; ++i) words[i][k] = get();")
    lines.append("    for (int i = 0; i < N; ++i) pack(words[i], x[i]); }")
    bodies = []
    for op in these:
        constants, kernel = call(op, flavour)
        y = flavour.spell(op.output.format, overflow=None)
        arrays = [f"static {flavour.spell(t.format)} x{n}[{t.size}]; read(x{n});" for n, t in enumerate(op.inputs)]
        lines.append(f"static void {op.name}() {{ {constants} {' '.join(arrays)} static {y} y[{op.output.size}];")
        lines.append(f"    qapsule::{kernel};")
        lines.append(
            f"    for (int i = 0; i < {op.output.size}; ++i) {{ std::uint64_t words[LANES]; unpack(y[i], words);"
        )
        lines.append("        for (int k = 0; k < LANES; ++k) put(words[k]); } }")
        bodies.append(f"    for (int n = 0; n < {SAMPLES}; n += LANES) {op.name}();")
    return "\n".join(lines) + "\nint main() {\n" + "\n".join(bodies) + "\n}\n"


def assert_equal(flavour: Flavour, folder: Path, *flags: str, cxx: str = "g++") -> None:
    these = list(ops(wide=flavour.lanes == 1))
    given, expected = [], []
    for op in these:
        codes = samples(op)
        expected.append(op.eval(*codes).reshape(SAMPLES, -1))
        for first in range(0, SAMPLES, flavour.lanes):
            given += [words_of(x[first : first + flavour.lanes]) for x in codes]
    got = run(build(program(flavour, these), folder / "program", flavour, *flags, cxx=cxx), np.concatenate(given))
    at = 0
    for op, codes in zip(these, expected, strict=True):
        words = got[at : at + codes.size].reshape(-1, op.output.size, flavour.lanes).swapaxes(1, 2)
        at += codes.size
        assert np.array_equal(codes_of(words.ravel(), op.output.format).reshape(codes.shape), codes), op.name
    assert at == len(got)


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda f: f.name)
def test_kernels_on_every_number_type(flavour: Flavour, tmp_path: Path) -> None:
    assert_equal(flavour, tmp_path, "-O0")


@pytest.mark.parametrize("cxx", ["g++", "clang++"])
def test_kernels_in_lanes_optimised(cxx: str, tmp_path: Path) -> None:
    assert_equal(LANES, tmp_path, "-O3", "-march=native", cxx=cxx)


@pytest.mark.parametrize("flavour", [OWN, LANES], ids=lambda f: f.name)
def test_kernels_without_undefined_behaviour(flavour: Flavour, tmp_path: Path) -> None:
    assert_equal(flavour, tmp_path, *SANITIZE)


KERNELS = sorted({kernel_name(type(op)) for op in ops(wide=False)})


@pytest.mark.parametrize("kernel", [*KERNELS, "reshape"])
@pytest.mark.parametrize("cxx", ["g++", "clang++"])
def test_headers_stand_alone(kernel: str, cxx: str, tmp_path: Path) -> None:
    source = f'#include "qapsule/{kernel}.h"\n#include "qapsule/{kernel}.h"\nint main() {{}}\n'
    done = try_build(source, tmp_path / "alone", Flavour("none", ""), "-fsyntax-only", cxx=cxx)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("tool", TOOLS)
def test_kernels_are_legal_with_every_tools_directives(tool: str, tmp_path: Path) -> None:
    flags = ("-fsyntax-only", f"-D{tool}", "-Wno-unknown-pragmas", "-Wno-unused-label")
    source = program(OWN, list(ops(wide=False)))
    done = try_build(source, tmp_path / "kernels", OWN, *flags, cxx="clang++")
    assert done.returncode == 0, done.stderr[:4000]


@pytest.mark.parametrize(
    ("kernel", "body", "sentence"),
    [
        ("arg_max", "arg_max(a, y)", "qapsule::arg_max: x must be whole channels"),
        ("concat", "concat<1>(y, a)", "qapsule::concat: y must be as large as all its parts together"),
        ("concat", "concat<2>(y, a, a)", "qapsule::concat: y and every part must be whole blocks"),
    ],
)
def test_an_illegal_call_says_why(kernel: str, body: str, sentence: str, tmp_path: Path) -> None:
    number = OWN.spell(SIGNED)
    source = f'#include "qapsule/{kernel}.h"\nint main() {{ static {number} a[3], y[2]; qapsule::{body}; }}'
    done = try_build(source, tmp_path / "illegal", OWN)
    assert done.returncode != 0 and sentence in done.stderr
