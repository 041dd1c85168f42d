"""The fuzzer: it finds what is wrong, keeps it, and ends the same whether it was stopped or not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.backend import Backend
from export.ir import Const, Graph
from export.ops import Dense
from export.streams.access import Io
from recipes.fuzz import campaign as running
from recipes.fuzz import designs
from recipes.fuzz.batch import Batch, CompilationError
from recipes.fuzz.campaign import ACCOUNT, FINDS, Account, Campaign, fuzz, replay
from recipes.fuzz.case import Case, Refused, draw, in_python
from recipes.fuzz.coverage import coverage_table, expected, features, never
from recipes.fuzz.projects import TARGETS, BenchError, NotHere, bench, drawn_project
from recipes.run import main

STANDINS = Path(__file__).parent / "standins"
CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))
SMALL = Campaign(networks=5, together=2, ap_every=10)


def drawn(number: int) -> Case:
    try:
        return draw(0, number)
    except Refused:
        return drawn(number + 1)


def weakened(graph: Graph) -> Graph:
    """The graph with one weight nearer to zero by one unit. Raises StopIteration where there is none."""
    layer = next(op for op in graph if isinstance(op, Dense) and op.modes is None and op.weight.codes.any())
    codes = layer.weight.codes.copy()
    place = int(np.flatnonzero(codes)[0])
    codes.flat[place] -= np.sign(codes.flat[place])
    mutant = replace(layer, weight=Const(codes, layer.weight.format))
    return replace(graph, ops=tuple(mutant if op is layer else op for op in graph)).verify()


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> tuple[Account, Path]:
    out = tmp_path_factory.mktemp("fuzz")
    return fuzz(SMALL, out, workers=1, progress=False), out


def test_a_campaign_finds_no_disagreement(account: tuple[Account, Path]) -> None:
    seen, out = account
    assert (seen.networks, seen.groups, seen.finds) == (5, 3, [])
    assert seen.compared["graph before and after its passes"] + sum(seen.refused.values()) == 5
    assert sum(n for what, n in seen.compared.items() if what.startswith("graph and own C++")) >= 3
    table = coverage_table(seen.features, seen.networks)
    assert re.search(r"^op +Input +5 +100\.0%$", table, re.MULTILINE)
    assert not (out / FINDS).exists()


def test_a_stopped_campaign_ends_as_one_that_was_not(
    account: tuple[Account, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = running._write

    def stop_after_the_first(*given: object) -> None:
        written(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_write", stop_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        fuzz(SMALL, tmp_path, workers=1, progress=False)
    monkeypatch.undo()
    assert json.loads((tmp_path / ACCOUNT).read_text())["account"]["groups"] == 1
    with pytest.raises(ValueError, match="holds a campaign already; add --resume"):
        fuzz(SMALL, tmp_path, workers=1, progress=False)
    with pytest.raises(ValueError, match=r"holds a campaign with .*; choose another --out"):
        fuzz(replace(SMALL, seed=1), tmp_path, resume=True, progress=False)
    assert fuzz(SMALL, tmp_path, resume=True, workers=1, progress=False).plain() == account[0].plain()


def test_a_campaign_asks_for_something() -> None:
    with pytest.raises(ValueError, match="networks must be at least 1, got 0"):
        Campaign(networks=0)


def test_a_wrong_weight_is_found_kept_and_found_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(100):
        case = drawn(number)
        try:
            wrong = replace(case, graph=weakened(case.graph), expected=None)
        except StopIteration:
            continue
        if found := list(in_python(wrong)):
            break
    else:
        raise AssertionError("no changed weight was felt")
    assert found[0].between.startswith("the graph before and after") and "numbers differ, first at" in found[0].what
    file = tmp_path / "find.json"
    file.write_text(json.dumps(wrong.dumped()))
    assert replay([file])[0] == found[0]
    assert main(["fuzz", "--replay", str(file)]) == 1
    assert "1 networks compared again" in capsys.readouterr().out


def test_a_case_comes_back_from_its_file() -> None:
    case = drawn(4)
    again = Case.loaded(json.loads(json.dumps(case.dumped())))
    assert (again.name, again.before, again.graph, again.io) == (case.name, case.before, case.graph, case.io)
    assert np.array_equal(again.codes, case.codes) and features(again) == features(case)


def test_a_design_that_does_not_compile_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    culprit = "network_3"

    def broken(graphs, backend, folder, include=None, io=Io.PARALLEL, tmr=()):
        if any(graph.name == culprit for graph in graphs):
            raise CompilationError("error: no")
        return Batch(graphs, backend, folder, include, io, tmr)

    cases = [replace(drawn(number), io=Io.PARALLEL) for number in (1, 3)]
    assert culprit in [case.name for case in cases]
    monkeypatch.setattr(designs, "Batch", broken)
    found = [each for _, some in designs.compiled(cases, tmp_path, every=9) for each in some]
    assert {(each.case, each.what) for each in found} == {(culprit, "does not compile: error: no")}


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_past_finds_stay_mended(file: Path) -> None:
    assert replay([file], STANDINS) == []


def test_what_has_never_been_met_is_named() -> None:
    met = dict.fromkeys(expected(), 1)
    assert never(met) == []
    assert never({name: n for name, n in met.items() if name != "streamed: Softmax"}) == ["streamed: Softmax"]
    assert {"op: SparseConv", "intel: interface=stream", "catapult: weights=reloadable"} <= met.keys()
    assert "op: Requantize" not in met  # a pass lowers it


@pytest.mark.parametrize("backend", TARGETS, ids=lambda backend: backend.name)
def test_the_bench_of_every_backend_passes_and_can_fail(backend: Backend, tmp_path: Path) -> None:
    case = next(case for case in map(drawn, range(20)) if case.io is Io.PARALLEL and case.origin == "ops")
    project, options = drawn_project(np.random.default_rng(0), case.graph, backend, case.io, vectors=case.values)
    assert "io=parallel" in options
    try:
        bench(project, tmp_path / "right", STANDINS)
    except NotHere as missing:
        pytest.skip(str(missing))
    leaving = case.graph.outputs[0].name
    (path,) = (path for path in project.files if path.endswith(f"data/{leaving}_out.dat"))
    first, *rest = project.files[path].splitlines()
    changed = "\n".join([" ".join([str(int(first.split()[0]) ^ 1), *first.split()[1:]]), *rest]) + "\n"
    with pytest.raises(BenchError, match="mismatch"):
        bench(replace(project, files={**project.files, path: changed}), tmp_path / "wrong", STANDINS)


def test_a_bench_without_its_standins_is_skipped_by_name(tmp_path: Path) -> None:
    (intel,) = (backend for backend in TARGETS if backend.name == "intel")
    case = drawn(0)
    project, _ = drawn_project(np.random.default_rng(0), case.graph, intel, case.io)
    with pytest.raises(NotHere, match="without the stand-ins for intel"):
        bench(project, tmp_path / "net", None)
