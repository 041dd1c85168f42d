"""Triple modular redundancy, by injection: a wrong bit in one of three copies changes nothing, in two it does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benches import bench, compiled
from cxx import AC, AP, OWN, Flavour, build, codes_of, run
from designs import every_op, mlp

from compress.fixed import FixedPoint
from export.backend import Backend, Project
from export.backends.catapult import CATAPULT
from export.backends.emulator import EMULATOR
from export.backends.vitis import VITIS
from export.ir import Const, Graph, GraphError
from export.ops import Dense
from recipes.fuzz.projects import TARGETS

FORMATS = FixedPoint(1, 0), FixedPoint(1, 1, False), FixedPoint(6, 2), FixedPoint(8, -3, False), FixedPoint(64, 70)

VOTER = """
#include <initializer_list>
#include "qapsule/sparse_dense.h"
#include "qapsule/voter.h"
typedef {number} number;
int main() {{
    static volatile unsigned long long a[4][1], b[4][1], c[4][1], d[4][3], e[4][3], f[4][3];
    for (auto copy : {{&a, &b, &c}})
        for (int i = 0; i < 4; ++i) (*copy)[i][0] = get();
    number voted[2][2], flat[4], column[4][1], read[4][1], row[1][4], list[4];
    qapsule::coo<number, unsigned short> entries[4];
    qapsule::vote(a, b, c, voted);
    qapsule::vote(a, b, c, flat);
    qapsule::vote(a, b, c, column);
    static unsigned long long once[4][1];
    for (int i = 0; i < 4; ++i) once[i][0] = a[i][0];
    qapsule::load(once, read);
    qapsule::load(once, row);
    qapsule::load(once, list);
    for (int i = 0; i < 4; ++i) {{
        d[i][0] = e[i][0] = f[i][1] = 7;  // of each two fields one copy is wrong
        d[i][1] = e[i][1] = f[i][0] = 300;
        d[i][2] = a[i][0], e[i][2] = b[i][0], f[i][2] = c[i][0];
    }}
    qapsule::vote(d, e, f, entries);
    for (int i = 0; i < 4; ++i) {{
        std::uint64_t code[7];
        unpack(voted[i / 2][i % 2], code);
        unpack(flat[i], code + 1);
        unpack(entries[i].weight, code + 2);
        unpack(column[i][0], code + 3);
        unpack(read[i][0], code + 4);
        unpack(row[0][i], code + 5);
        unpack(list[i], code + 6);
        for (int k = 0; k < 7; ++k) put(code[k]);
        put(entries[i].row == 7 && entries[i].col == 300);
    }}
}}
"""


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("flavour", [OWN, AP, AC], ids=lambda flavour: flavour.name)
def test_the_voter_gives_the_majority_of_each_bit(tmp_path: Path, flavour: Flavour, fmt: FixedPoint) -> None:
    program = build(VOTER.format(number=flavour.spell(fmt)), tmp_path / "voter", flavour)
    rng = np.random.default_rng(1)
    copies = rng.integers(0, 1 << 64, size=(3, 4), dtype=np.uint64) & np.uint64((1 << fmt.width) - 1)
    a, b, c = copies
    words = run(program, copies.ravel()).reshape(4, 8)
    expected = codes_of((a & b) | (a & c) | (b & c), fmt)
    for place in range(4):
        assert np.array_equal(codes_of(words[:, place], fmt), expected)
    for place in range(4, 7):
        assert np.array_equal(codes_of(words[:, place], fmt), codes_of(a, fmt))
    assert words[:, 7].tolist() == [1] * 4


def edited(text: str, table: str, copy: int, change: Callable[[list[int]], list[int]]) -> str:
    """A header of weights with other words in one copy of a table."""
    block = re.compile(rf"(\b{table}_copy{copy}\[\d+\]\[(\d+)\] = {{\n)(.*?)(\n}};)", re.DOTALL)
    (found,) = block.finditer(text)
    words = change([int(word) for word in re.findall(r"\d+(?=U)", found[3])])
    fields = int(found[2])
    rows = [", ".join(f"{word}ULL" if word >> 32 else f"{word}U" for word in words[first : first + fields])
            for first in range(0, len(words), fields)]  # fmt: skip
    return text[: found.start()] + found[1] + ",\n".join(f"{{{row}}}" for row in rows) + text[found.end(3) :]


def injected(project: Project, layer: str, table: str, copies: list[int], flip: dict[int, int]) -> Project:
    """The project with bits (a mask by place) flipped in some copies of a table."""
    path = f"firmware/weights/{layer}.h"
    text = project.files[path]
    for copy in copies:
        text = edited(text, table, copy, lambda words: [word ^ flip.get(k, 0) for k, word in enumerate(words)])
    assert text != project.files[path]
    return replace(project, files={**project.files, path: text})


def passes(project: Project, folder: Path) -> bool:
    done = bench(project, folder)
    assert done.stdout.splitlines()[-1].split()[0] in ("PASSED:", "FAILED:"), done.stdout + done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("io", ["parallel", "stream"])
@pytest.mark.parametrize("backend", [VITIS, CATAPULT], ids=lambda backend: backend.name)
def test_a_design_of_every_op_keeps_its_bits(tmp_path: Path, backend: Backend, io: str) -> None:
    project = backend.render(every_op(), io=io, tmr=True)
    assert "firmware/qapsule/voter.h" in project.files
    for path, text in project.files.items():
        if path.startswith("firmware/weights/") and not path.endswith("channels.h"):
            assert text.count("_copy0[") == text.count("_copy2[") > 0 and "static const " in text
            assert not re.search(r"static const (?!volatile)", text)
    assert passes(project, tmp_path / "net")


@pytest.mark.parametrize("copy", [0, 1, 2])
def test_a_copy_with_every_bit_wrong_changes_nothing(tmp_path: Path, copy: int) -> None:
    project = CATAPULT.render(mlp("net", (4, 3, 2), reuse_factors=(2, 1)), tmr=True)
    for layer, table, size in (("fc1", "fc1_weight", 12), ("fc2", "fc2_bias", 2)):
        project = injected(project, layer, table, [copy], dict.fromkeys(range(size), 0xFF))
    assert passes(project, tmp_path / "net")


@pytest.mark.parametrize("copies", [[0, 1], [0, 2], [1, 2]], ids=str)
@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_the_same_bit_wrong_in_two_copies_is_the_network_with_that_bit_wrong(
    tmp_path: Path, io: str, copies: list[int]
) -> None:
    graph = mlp("net", (4, 3, 2))
    dense = graph.ops[-1]
    assert isinstance(dense, Dense)
    flipped = dense.weight.codes.copy()
    flipped[1, 2] ^= 4
    broken = replace(dense, weight=Const(flipped, dense.weight.format))
    mutant = Graph("net", (*graph.ops[:-1], broken), graph.outputs)
    project, wrong = (CATAPULT.render(g, io=io, tmr=True, effort=0) for g in (graph, mutant))
    place = 1 * 3 + 2
    project = injected(project, "fc2", "fc2_weight", copies, {place: 4})
    assert not passes(project, tmp_path / "net")
    expected = {path: text for path, text in wrong.files.items() if path.startswith("tb/data/")}
    assert passes(replace(project, files={**project.files, **expected}), tmp_path / "mutant")


def test_different_bits_wrong_in_two_copies_change_nothing(tmp_path: Path) -> None:
    project = CATAPULT.render(every_op("net"), tmr=True, effort=0)
    project = injected(project, "sparse", "sparse_entries", [0], {0: 1, 5: 2})  # an index and a weight
    project = injected(project, "sparse", "sparse_entries", [2], {0: 2, 5: 1, 3: 1})
    assert passes(project, tmp_path / "net")
    project = injected(project, "sparse", "sparse_entries", [1], {3: 1})
    assert not passes(project, tmp_path / "two")


def test_it_may_be_some_layers_only() -> None:
    graph = mlp("net", (4, 3, 2))
    files = CATAPULT.render(graph, tmr=["fc2"], effort=0).files
    assert "fc2_weight_copy1[6][1]" in files["firmware/weights/fc2.h"]
    assert files["firmware/weights/fc1.h"] == CATAPULT.render(graph, effort=0).files["firmware/weights/fc1.h"]
    assert files == CATAPULT.render(graph, tmr="fc2", effort=0).files
    plain = CATAPULT.render(graph, tmr=[], effort=0).files
    assert plain == CATAPULT.render(graph, effort=0).files and not any("voter" in path for path in plain)
    with pytest.raises(GraphError, match="net: tmr names 'fc3', which is no layer with constants; those are 'fc1', 'f"):
        CATAPULT.render(graph, tmr=["fc1", "fc3"])
    with pytest.raises(GraphError, match="tmr names 'act1', which is no layer with constants"):
        CATAPULT.render(graph, tmr="act1")


@pytest.mark.parametrize("backend", TARGETS, ids=lambda backend: backend.name)
def test_every_backend_takes_it(tmp_path: Path, backend: Backend) -> None:
    assert passes(backend.render(mlp("net", (4, 3, 2)), tmr=True), tmp_path / "net")


def test_it_compiles_for_several_samples_at_a_time(tmp_path: Path) -> None:
    work = EMULATOR.render(every_op("net"), tmr=True).write(tmp_path / "net")
    compiled(work, "net.o", ["firmware/net.cpp"], "-c", "-std=c++14", "-mavx2", "-Wno-psabi")
