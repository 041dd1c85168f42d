"""Backends in general: names, constants, and projects that are written completely or not at all."""

from __future__ import annotations

import inspect
import os
import re
from dataclasses import replace
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from designs import QUANTIZER, chain, conv_net, every_op, exact_dense, lookup_net, mlp, skip_net
from hypothesis import given
from hypothesis import strategies as st

from compress.fixed import FixedPoint
from export.backend import MANIFEST, BackendError, Project
from export.backends import BACKENDS, find_backend
from export.backends.emulator import EMULATOR, EMULATOR_AC, EMULATOR_AP
from export.backends.vitis import VITIS
from export.firmware.design import Firmware, kernel_name
from export.firmware.identifiers import _RESERVED, Identifiers, legal, quoted
from export.firmware.tables import literals
from export.ir import Const, Graph, GraphError, Op, Tensor
from export.ops import Input, Requantize, SparseDense, Threshold

IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")


def every_kind(base: type[Op] = Op) -> set[type[Op]]:
    below = {kind for child in base.__subclasses__() for kind in every_kind(child)}
    concrete = not inspect.isabstract(base) and base.__module__.startswith("export.")
    return below | ({base} if concrete and base.has_kernel else set())


def test_every_op_has_a_kernel_header_and_a_template() -> None:
    missing = [
        str(path)
        for name in map(kernel_name, every_kind())
        for path in (files("hls_lib") / "qapsule" / f"{name}.h", files("export") / "templates" / "ops" / f"{name}.j2")
        if not path.is_file()
    ]
    assert not missing
    assert {"dense", "sparse_dense", "relu", "input"} <= set(map(kernel_name, every_kind()))


def test_the_designs_have_every_op() -> None:
    assert {type(op) for design in (every_op(), conv_net(), skip_net(), lookup_net()) for op in design} == every_kind()


@pytest.mark.parametrize("backend", [VITIS, EMULATOR], ids=lambda b: b.name)
def test_an_op_without_a_kernel_is_refused_by_name(backend) -> None:
    x = Tensor("x", (2,), FixedPoint(4, 1))
    op = Requantize(Tensor("bn", (2,), FixedPoint(4, 1)), x, (Fraction(1, 3),) * 2, (Fraction(0),) * 2, QUANTIZER)
    with pytest.raises(GraphError, match="bn: Requantize has no kernel; run the passes"):
        backend.render(Graph("g", (Input(x), op), (op.output,)))


@given(st.lists(st.text(max_size=80), min_size=1, max_size=30))
def test_identifiers_are_legal_unique_and_the_same_every_time(names: list[str]) -> None:
    one, two = Identifiers(), Identifiers()
    made = [one.claim(n, "_t", "_weight_t") for n in names]
    assert made == [two.claim(n, "_t", "_weight_t") for n in names]
    family = [m + s for m in made for s in ("", "_t", "_weight_t")]
    assert len(set(family)) == len(family)
    for name in family:
        assert IDENTIFIER.fullmatch(name) and "__" not in name and name not in _RESERVED
    for name in made:
        assert not f"{name}_".startswith(("ap_", "ac_", "hls", "qapsule"))


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [("fc1", "fc1"), ("0.weight", "layer_0_weight"), ("Ünïcode", "unicode"), ("层", "tensor"), ("", "tensor"),
     ("EOF", "eof"), ("a__b", "a_b"), ("_X", "x"), ("ap_fixed", "layer_ap_fixed"), ("AP", "layer_ap"),
     ("x\n#error", "x_error")],
)  # fmt: skip
def test_legal_names_stay_recognisable(given_name: str, expected: str) -> None:
    assert legal(given_name) == expected


def test_a_name_gives_way_to_a_keyword_and_to_a_type_of_the_system() -> None:
    assert Identifiers().claim("class") == "class_2"
    assert Identifiers().claim("size", "_t") == "size_2"


@given(st.text())
def test_a_quoted_name_is_one_plain_literal_that_means_the_name(name: str) -> None:
    text = quoted(name)
    assert re.fullmatch(r'"(?:[ !#-\[\]-~]|\\[0-7]{3})*"', text) and "??" not in text
    plain = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text[1:-1])
    assert plain.encode("latin-1") == name.encode(errors="surrogatepass")


@given(st.data())
def test_a_literal_parses_back_to_exactly_its_code(data) -> None:
    signed = data.draw(st.booleans())
    fmt = FixedPoint(data.draw(st.integers(1, 53)), data.draw(st.integers(-40, 80)), signed)
    codes = data.draw(st.lists(st.integers(fmt.min_code, fmt.max_code), min_size=1, max_size=5))
    for code, text in zip(codes, literals("w", Const(codes, fmt)), strict=True):
        assert Fraction(float(text)) == code * fmt.lsb


@pytest.mark.parametrize("fmt", [FixedPoint(60, 0), FixedPoint(60, 30)], ids=str)
def test_a_constant_beyond_a_double_is_refused_by_name(fmt: FixedPoint) -> None:
    assert literals("fc: weight", Const([1 << 58], fmt)).size == 1  # wide, but one significant bit
    with pytest.raises(GraphError, match=r"fc: weight: the code 288230376151711745 of .* 53 significant bits"):
        literals("fc: weight", Const([(1 << 58) + 1], fmt))


def test_a_constant_beyond_the_range_of_a_double_is_refused() -> None:
    with pytest.raises(GraphError, match=r"the code 3 .* range"):
        literals("w", Const([3], FixedPoint(4, -1100)))
    with pytest.raises(GraphError, match=r"the code 3 .* range"):
        literals("w", Const([3], FixedPoint(4, 1100)))


def test_weights_of_a_shared_multiplier_stand_in_input_major_order() -> None:
    graph = every_op()
    fc = graph.ops[4]
    (step,) = (s for s in Firmware(graph) if s.op is fc)
    table = step.tables["weight"]
    assert table.shape == (3, 7)
    flat = iter([float(w) for row in table.rows for w in row.split(", ")])
    for number, (i, j) in enumerate((i, j) for i in range(6) for j in range(4)):
        if number % 8 in fc.multipliers:
            assert fc.weight.values[j, i] == next(flat)
        else:  # all three weights of this multiplier are zero
            assert not fc.weight.codes[j, i % 2 :: 2].any()
    assert next(flat, None) is None


def test_sparse_entries_ascend_by_output_then_input() -> None:
    graph = every_op()
    (step,) = (s for s in Firmware(graph) if isinstance(s.op, SparseDense))
    assert step.tables["entries"].rows == ("{1, 0, 1.5}, {3, 0, -0.5}, {0, 1, 1.0}, {2, 2, -1.5}",)


@pytest.mark.parametrize("kind", ["weights", "levels"])
def test_a_layer_without_constants_still_has_an_array(kind: str) -> None:
    x = Tensor("x", (2,), FixedPoint(4, 1))
    entry = Input(x)
    zeros = Const(np.zeros((2, 2), dtype=int), FixedPoint(3, 0))
    op: Op = SparseDense.of(exact_dense("y", x, zeros, Const([1, 2], FixedPoint(3, 0)), (entry,)))
    if kind == "levels":
        level = Const(np.zeros((2, 0), dtype=int), FixedPoint(4, 1))
        op = Threshold(Tensor("y", (2,), x.format), x, level, Const([1, 2], x.format), Const([1, 1], x.format))
    tables = Firmware(Graph("g", (entry, op), (op.output,))).steps[1].tables
    if kind == "weights":
        assert tables["entries"].rows == ("{0, 0, 0.0}",)
    else:
        assert tables["level"].shape == (2, 1) and tables["step"].rows == ("0.0, 0.0",)


def test_one_firmware_for_every_number_type() -> None:
    graph = every_op()
    firmware = [
        {p: t for p, t in b.render(graph).files.items() if p.startswith("firmware/") and "/qapsule/" not in p}
        for b in (VITIS, EMULATOR, EMULATOR_AP, EMULATOR_AC)
    ]
    for other in firmware[1:]:
        assert {p for p in firmware[0] if firmware[0][p] != other[p]} <= {"firmware/types.h"}
        assert firmware[0].keys() == other.keys()


def test_names_of_tensors_and_design_never_meet() -> None:
    text = VITIS.render(chain("x", ["x", "x_t", "x_in", "X", "x_2"])).files["firmware/x.h"]
    assert "void x(const x_2_t x_2_in[3], " in text


def test_rendering_twice_gives_the_same_bytes_and_a_flipped_bit_another_digest() -> None:
    graph = mlp("net", (4, 3, 2))
    assert VITIS.render(graph).files == VITIS.render(graph).files
    dense = graph.ops[1]
    flipped = dense.weight.codes.copy()
    flipped[0, 0] ^= 1
    other = replace(dense, weight=Const(flipped, dense.weight.format))
    mutant = replace(graph, ops=(graph.ops[0], other, *graph.ops[2:]))
    for backend in (VITIS, EMULATOR):
        assert backend.render(graph).digest == backend.render(graph).digest != backend.render(mutant).digest


def test_unknown_backends_and_options_are_answered_with_the_known_ones() -> None:
    with pytest.raises(BackendError, match=f"no backend 'vivado_hls'; choose one of {', '.join(sorted(BACKENDS))}"):
        find_backend("vivado_hls")
    with pytest.raises(BackendError, match="vitis has no option 'clock'; it knows part, clock_ns, vectors"):
        VITIS.render(every_op(), clock=5)
    with pytest.raises(BackendError, match="emulator has no option 'part'; it has none"):
        EMULATOR.render(every_op(), part="x")
    assert {name: find_backend(name) for name in BACKENDS} == BACKENDS


@pytest.fixture
def project() -> Project:
    return Project("net", "vitis", {"a.txt": "one\n", "deep/b.txt": "zwei ✓\n"})


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_project_is_written_and_written_again(project: Project, tmp_path: Path) -> None:
    folder = project.write(tmp_path / "new" / "net")
    first = content(folder)
    assert first.keys() == {"a.txt", "deep/b.txt", MANIFEST} and first["deep/b.txt"] == "zwei ✓\n".encode()
    (folder / "build.log").write_text("of a tool")
    before = (folder / "a.txt").stat().st_mtime_ns
    assert project.write(folder) == folder and (folder / "a.txt").stat().st_mtime_ns == before
    assert content(folder) == first | {"build.log": b"of a tool"}


def test_an_empty_folder_will_do(project: Project, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    assert "a.txt" in content(project.write(tmp_path / "net"))


def test_what_somebody_else_wrote_is_never_touched(project: Project, tmp_path: Path) -> None:
    folder, file = tmp_path / "thesis", tmp_path / "file"
    folder.mkdir()
    (folder / "chapter1.tex").write_text("years")
    file.write_text("x")
    for overwrite in (False, True):
        for target in (folder, file):
            with pytest.raises(BackendError, match=f"{re.escape(str(target))} holds something else"):
                project.write(target, overwrite=overwrite)
    assert content(tmp_path) == {"thesis/chapter1.tex": b"years", "file": b"x"}


def test_another_project_is_replaced_only_on_demand(project: Project, tmp_path: Path) -> None:
    folder = Project("old", "vitis", {"old.txt": "1"}).write(tmp_path / "net")
    with pytest.raises(BackendError, match="net holds another project"):
        project.write(folder)
    project.write(folder, overwrite=True)
    assert content(folder).keys() == {"a.txt", "deep/b.txt", MANIFEST}
    (folder / "a.txt").write_text("edited")
    with pytest.raises(BackendError, match="holds another project"):
        project.write(folder)


@pytest.mark.parametrize("function", ["write_bytes", "rename"])
@pytest.mark.parametrize("fails_at", [0, 1, 2])
@pytest.mark.parametrize("occupied", [False, True])
def test_a_project_is_never_half_written(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, fails_at: int, occupied: bool
) -> None:
    target = tmp_path / "net"
    if occupied:
        Project("old", "vitis", {"old.txt": "1"}).write(target)
    before, calls = content(tmp_path), 0
    owner = Path if function == "write_bytes" else os
    real = getattr(owner, function)

    def failing(*args):
        nonlocal calls
        calls += 1
        if calls == fails_at + 1:
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(owner, function, failing)
    try:
        project.write(target, overwrite=True)
    except OSError:
        assert content(tmp_path) == before
    else:
        assert calls <= fails_at and content(target).keys() == {"a.txt", "deep/b.txt", MANIFEST}
    assert [p.name for p in tmp_path.iterdir()] == (["net"] if target.exists() else [])
