"""The kernels that read tables and compare bits give the codes of their ops on every number type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cxx import FLAVOURS, LANES, OWN, SANITIZE, Flavour, build, codes_of, in_lanes, run, try_build, words_of
from designs import assert_equal_traces, lookup_net
from designs import samples as values

from compress.fixed import Codes, FixedPoint
from export.emulation.emulator import Emulator, MissingHeadersError, Numbers
from export.firmware.design import kernel_name
from export.firmware.tables import ConstantType, SignalType, constants, table_of
from export.frontends.normalizing import tables
from export.frontends.precision import Precision
from export.intervals import Bounds
from export.ir import Const, Op, Tensor
from export.ops import Softmax, Table, Threshold
from export.ops.binary import SIGN, BinaryDense
from export.streams.access import Io

SAMPLES = 64


def ops() -> Iterator[Op]:
    rng = np.random.default_rng(0)
    y = FixedPoint(5, 7)
    for number, (fmt, low, high, count) in enumerate((
        (FixedPoint(6, 3), -32, 31, 1), (FixedPoint(6, 3), -32, 31, 4), (FixedPoint(5, 5, False), 0, 31, 1),
        (FixedPoint(7, 0), -40, -3, 4), (FixedPoint(40, 8), -(1 << 35) - 3, -(1 << 35) + 9, 1),
        (FixedPoint(3, 0), 2, 2, 1),
    )):  # fmt: skip
        entries = Const(rng.integers(y.min_code, y.max_code, (count, high - low + 1), endpoint=True), y)
        yield Table(Tensor(f"table_{number}", (4, 2), y), Tensor("x", (4, 2), fmt), low, entries)
    for size, fmt, result, precision in (
        (5, FixedPoint(6, 2), FixedPoint(10, 10, False), Precision(table_width=8)),
        (1, FixedPoint(4, 1), FixedPoint(8, 8, False), Precision()),
        (3, FixedPoint(6, 5), FixedPoint(9, 7), Precision(stable=False)),
        (9, FixedPoint(12, 8), FixedPoint(8, 8, False), Precision(table_width=5)),
        (4, FixedPoint(5, 3, False), FixedPoint(12, 12, False), Precision(table_width=6, stable=False)),
    ):
        x = Tensor("x", (size,), fmt)
        reach = Bounds.everywhere((size,), fmt.min_code, fmt.max_code)
        name = f"softmax_{size}_{'stable' if precision.stable else 'fast'}"
        yield tables(Tensor(name, (size,), result), x, Fraction(3, 4), reach, precision)
    for n in (1, 31, 32, 70):
        weight = Const(rng.integers(0, 2, (3, n)), SIGN)
        offset = Const([-17, 4, 100], FixedPoint(8, 5))
        y = Tensor(f"binary_dense_{n}", (3,), FixedPoint(16, 5))
        yield BinaryDense(y, Tensor("x", (n,), SIGN), weight, offset, 2)
    fmt = FixedPoint(6, 2)
    level, step = np.sort(rng.integers(-30, 30, (4, 9)), axis=1), rng.integers(-3, 4, (4, 9))
    yield Threshold(
        Tensor("threshold_turning", (4,), FixedPoint(7, 1)), Tensor("x", (4,), fmt), Const(level, fmt),
        Const([-2, 3, 0, 1], FixedPoint(7, 1)), Const(step, FixedPoint(3, 1)),
    )  # fmt: skip


def samples(op: Op) -> Codes:
    """Every code that may be, or as many as there are samples, and the ends."""
    fmt = op.x.format
    low, high = (op.low, op.high) if isinstance(op, Table) else (fmt.min_code, fmt.max_code)
    codes = np.random.default_rng(len(op.name)).integers(low, high, size=(SAMPLES, *op.x.shape), endpoint=True)
    codes[0], codes[1] = low, high
    return codes


def declared(op: Op, flavour: Flavour) -> list[str]:
    """The types and the constants of an op as a design declares them."""
    parts = constants(op, op.name)
    lines = []
    for kind in parts.types:
        if isinstance(kind, SignalType):
            modes = (kind.modes.rounding, kind.modes.overflow) if kind.modes else ()
            spelled = flavour.spell(kind.format, *modes) if modes else flavour.spell(kind.format, overflow=None)
        else:
            assert isinstance(kind, ConstantType)
            spelled = flavour.spell(kind.format, scalar=True)
        lines.append(f"typedef {spelled} {kind.name};")
    for field, entry in parts.entries.items():
        table = table_of(f"{op.name}_{field}", *entry)
        rows = ", ".join(f"{{{row}}}" if table.nested else row for row in table.rows)
        lines.append(f"static const {table.type} {table.declarator} = {{{rows}}};")
    return lines


def call(op: Op) -> str:
    given = ", ".join(["x", "y", *(f"{op.name}_{field}" for field in constants(op, op.name).entries)])
    match op:
        case Table():
            return f"table<{op.low}>({given})"
        case BinaryDense():
            return f"binary_dense<{op.name}_count_t>({given})"
        case Softmax():
            types = ", ".join(f"{op.name}_{kind}_t" for kind in ("index", "mantissa", "sum", "term", "inverse"))
            return f"softmax<{types}>({given})"
    return f"threshold({given})"


def program(flavour: Flavour, these: Sequence[Op]) -> str:
    """Every op by itself on its samples."""
    lines = [f'#include "qapsule/{kernel}.h"' for kernel in sorted({kernel_name(type(op)) for op in these})]
    lines.append("template <class T, int N> void read(T (&x)[N]) { std::uint64_t words[N][LANES];")
    lines.append("    for (int k = 0; k < LANES; ++k) for (int i = 0; i < N; ++i) words[i][k] = get();")
    lines.append("    for (int i = 0; i < N; ++i) pack(words[i], x[i]); }")
    for op in these:
        modes = getattr(op, "modes", None)
        y = flavour.spell(op.output.format, *((modes.rounding, modes.overflow) if modes else ()))
        lines += declared(op, flavour)
        lines.append(f"static void {op.name}() {{ static {flavour.spell(op.x.format)} x[{op.x.size}]; read(x);")
        lines.append(f"    static {y} y[{op.output.size}]; qapsule::{call(op)};")
        lines.append(f"    for (int i = 0; i < {op.output.size}; ++i) {{")
        lines.append("        std::uint64_t words[LANES]; unpack(y[i], words);")
        lines.append("        for (int k = 0; k < LANES; ++k) put(words[k]); } }")
    bodies = [f"    for (int n = 0; n < {SAMPLES}; n += LANES) {op.name}();" for op in these]
    return "\n".join(lines) + "\nint main() {\n" + "\n".join(bodies) + "\n}\n"


def assert_equal(flavour: Flavour, folder: Path, *flags: str, cxx: str = "g++") -> None:
    these = list(ops())
    given, expected = [], []
    for op in these:
        x = samples(op)
        expected.append(op.eval(x).reshape(SAMPLES, -1))
        given += [words_of(x[first : first + flavour.lanes]) for first in range(0, SAMPLES, flavour.lanes)]
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
    assert_equal(in_lanes(16), tmp_path, "-O3", "-march=native", cxx=cxx)


@pytest.mark.parametrize("flavour", [OWN, LANES], ids=lambda f: f.name)
def test_kernels_without_undefined_behaviour(flavour: Flavour, tmp_path: Path) -> None:
    assert_equal(flavour, tmp_path, *SANITIZE)


@pytest.mark.parametrize("tool", ["__VITIS_HLS__", "__VIVADO_HLS__", "QAPSULE_CATAPULT", "__INTELFPGA_COMPILER__"])
def test_kernels_are_legal_with_every_tools_directives(tool: str, tmp_path: Path) -> None:
    flags = ("-fsyntax-only", f"-D{tool}", "-Wno-unknown-pragmas", "-Wno-unused-label", "-Wno-pass-failed")
    done = try_build(program(OWN, list(ops())), tmp_path / "program", OWN, *flags, cxx="clang++")
    assert done.returncode == 0, done.stderr[:4000]


@pytest.mark.parametrize("io", Io, ids=lambda io: io.value)
@pytest.mark.parametrize("numbers", [Numbers.OWN, Numbers.AC], ids=lambda n: n.value)
def test_a_design_of_them(io: Io, numbers: Numbers) -> None:
    graph = lookup_net()
    try:
        emulator = Emulator(graph, numbers=numbers, io=io)
    except MissingHeadersError as missing:
        pytest.skip(str(missing))
    assert_equal_traces(graph, emulator, values(graph, 300))


def test_samples_are_diverse() -> None:
    for op in ops():
        if op.x.size > 1 and "table_5" not in op.name:
            assert len(np.unique(op.eval(samples(op)).reshape(SAMPLES, -1), axis=0)) > 7, op.name


def test_a_table_for_no_channel_says_why(tmp_path: Path) -> None:
    source = """
    #include "qapsule/table.h"
    typedef fixed<4, 4> number;
    static const number entries[3][16] = {};
    int main() { number x[4] = {}, y[4]; qapsule::table<-8>(x, y, entries); }
    """
    done = try_build(source, tmp_path / "illegal", OWN, "-fsyntax-only")
    assert done.returncode != 0
    assert "qapsule::table: there must be one table, or one for each channel" in done.stderr
