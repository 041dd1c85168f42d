"""The search for vectors: that it reaches, keeps little, is repeatable, and claims nothing that is not so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cxx import Flavour, try_build
from designs import every_op, mlp

from compress.fixed import FixedPoint
from export.backends.vectors import vectors
from export.firmware.design import Firmware
from export.ir import Const, Graph, Tensor
from export.ops import Clip, Dense, Input, Maximum, ReLU
from export.verification.comparisons import Comparisons
from export.verification.coverage import cover
from export.verification.gcov import Place, places, summary


def start(graph: Graph) -> list[np.ndarray]:
    firmware = Firmware(graph)
    return [v.codes for v in vectors(firmware, None)[: len(firmware.inputs)]]


def needle(width: int = 10) -> Graph:
    """A relu that opens for the largest codes of all eight inputs alone: 1 in 2^80 samples."""
    fmt = FixedPoint(width, 0)
    x = Tensor("x", (8,), fmt)
    weight = Const([[1, -1] * 4], FixedPoint(2, 0))
    most = 4 * (fmt.max_code - fmt.min_code)
    bias = Const([1 - most], FixedPoint.covering(1 - most, 0, 0))
    dense = Dense(Tensor("fc", (1,), FixedPoint(width + 5, 0)), x, weight, bias)
    relu = ReLU(Tensor("relu", (1,), FixedPoint(width + 4, 0, signed=False)), dense.output)
    return Graph("needle", (Input(x), dense, relu), (relu.output,)).verify()


def test_it_finds_what_no_random_sample_would() -> None:
    graph = needle()
    given = start(graph)
    assert cover(graph, given, effort=0).open_sites == 1
    found = cover(graph, given)
    assert found.open_sites == 0 and len(found.vectors[0]) == len(given[0]) + 1
    assert found.vectors[0][-1].tolist() == [511, -512] * 4
    assert graph.eval(*found.vectors)[-1] == 1


def test_a_jet_network_is_reached_whole() -> None:
    graph = mlp("jet", (16, 64, 32, 32, 5))
    given = start(graph)
    found = cover(graph, given)
    assert found.open_sites == 0 and not found.unlisted
    margins = Comparisons(graph).margins(*found.vectors)
    never = np.concatenate([o.comparison.never for o in found.outcomes])
    assert margins.shape[1] == 256 and np.array_equal((margins > 0).any(axis=0), ~never)
    assert np.array_equal(found.vectors[0][: len(given[0])], given[0])


def test_the_outcomes_are_those_of_the_vectors() -> None:
    graph = every_op()
    found = cover(graph, start(graph), effort=0.2)
    reached = Comparisons(graph).margins(*found.vectors) > 0
    assert np.array_equal(np.concatenate([o.held for o in found.outcomes]), reached.any(axis=0))
    assert np.array_equal(np.concatenate([o.failed for o in found.outcomes]), (~reached).any(axis=0))
    for outcome in found.outcomes:
        assert not np.any(outcome.held & outcome.comparison.never), outcome.comparison.condition
        assert not np.any(outcome.failed & outcome.comparison.always), outcome.comparison.condition


def test_the_same_arguments_give_the_same_vectors() -> None:
    graph = mlp("net", (5, 8, 4), seed=2)
    few = [codes[:1] for codes in start(graph)]
    one, two = cover(graph, few), cover(graph, few)
    assert len(one.vectors[0]) > 1 and np.array_equal(one.vectors[0], two.vectors[0])


def test_no_further_vector_is_superfluous() -> None:
    graph = mlp("net", (5, 8, 4), seed=2)
    found = cover(graph, [codes[:1] for codes in start(graph)])
    margins = Comparisons(graph).margins(*found.vectors)
    sides = np.concatenate([margins > 0, margins <= 0], axis=1)
    for without in range(1, len(sides)):
        rest = np.delete(sides, without, axis=0)
        assert (sides.any(axis=0) & ~rest.any(axis=0)).any() or len(sides) == 2


def test_several_inputs_and_codes_that_cannot_enter() -> None:
    fmt = FixedPoint(8, 0)
    a, b = Tensor("a", (2, 2), fmt), Tensor("b", (2, 2), fmt)
    by_channel = Input(b, formats=(FixedPoint(3, 0), None))
    larger = Maximum(Tensor("y", (2, 2), fmt), a, b)
    low, high = Const([-128, -1], fmt), Const([126, 0], fmt)
    clip = Clip(Tensor("z", (2, 2), fmt), larger.output, low, high)
    graph = Graph("net", (Input(a), by_channel, larger, clip), (clip.output,)).verify()
    zeros = [np.zeros((1, 2, 2), dtype=np.int64)] * 2
    found = cover(graph, zeros)
    assert found.open_sites == 0
    assert np.array_equal(by_channel.settled(found.vectors[1]), found.vectors[1])


def test_a_graph_without_comparisons_needs_nothing() -> None:
    x = Tensor("x", (3,), FixedPoint(4, 0))
    found = cover(Graph("net", (Input(x),), (x,)), [np.zeros((2, 3), dtype=np.int64)])
    assert len(found.vectors[0]) == 2 and found.open_sites == 0 and not found.outcomes


def test_numbers_of_several_samples_are_no_conditions(tmp_path: Path) -> None:
    """Why no `if` of a kernel can depend on data: every kernel compiles for them, and this does not."""
    source = """#include "qapsule/fixed.h"
    int main() {{
        qapsule::fixed<6, 2, true, qapsule::TRN, qapsule::WRAP, {lanes}> a(1.0), b(0.5);
        if (a {operator} b) return 1;
        return a {operator} b ? 2 : 3;
    }}"""
    for operator in ("<", "<=", ">", ">=", "==", "!="):
        one, several = (
            try_build(source.format(lanes=lanes, operator=operator), tmp_path / "condition", Flavour("none", ""))
            for lanes in (1, 4)
        )
        assert one.returncode == 0, one.stderr
        assert several.returncode != 0 and "could not convert" in several.stderr


SELECT = "_ZN7qapsule6selectI{}EET_bRKS1_S3_"


def report(counts: tuple[int, int], kernel: tuple[int, int] = (5, 0), executed: int = 5) -> dict:
    """As gcov writes it: a select with the two sides of ``counts``, a kernel with those of ``kernel``."""

    def function(name: str) -> dict:
        return {"name": name, "demangled_name": name, "execution_count": executed}

    def line(name: str, number: int, branches: tuple[int, int]) -> dict:
        both = [{"count": c, "fallthrough": not k, "throw": False} for k, c in enumerate(branches)]
        return {"function_name": name, "line_number": number, "count": sum(branches), "branches": both}

    own = {
        "file": "firmware/qapsule/numbers.h",
        "functions": [function(SELECT.format("T")), function("kernel")],
        "lines": [line(SELECT.format("T"), 15, counts), line("kernel", 7, kernel)],
    }
    vendors = {"file": "/usr/ac_fixed.h", "functions": [], "lines": [line("other", 1, (0, 0))]}
    return {"files": [own, vendors, {**vendors, "file": "../other.h"}]}


@pytest.mark.parametrize(
    ("counts", "proofs", "complete"),
    [((3, 4), {}, True), ((0, 4), {}, False), ((3, 0), {}, False), ((0, 4), {"held": "why"}, True),
     ((3, 0), {"held": "why"}, False), ((3, 0), {"held": None, "failed": "why"}, True)],
)  # fmt: skip
def test_a_side_that_was_not_taken_needs_a_proof(
    counts: tuple[int, int], proofs: dict[str, str | None], complete: bool
) -> None:
    found = places(report(counts), {"select": {"T": proofs}})
    assert {place.file for place in found} == {"firmware/qapsule/numbers.h"}
    lines, whole = summary(found)
    assert whole is complete
    assert any(line.startswith("NOT REACHED: firmware/qapsule/numbers.h:15") for line in lines) is not complete
    assert lines[:1] == ["lines: 2 of 2 reached"]
    where = "firmware/qapsule/numbers.h:7"
    assert f"unreachable: {where}: 1 x decided by the sizes and constants of a layer, not by data" in lines


def test_what_never_ran_is_not_excused_by_sizes() -> None:
    lines, whole = summary(places(report((3, 4), (0, 0), executed=0), {"select": {}}))
    assert not whole and "NOT REACHED: firmware/qapsule/numbers.h:7: line in kernel" in lines
    assert summary([]) == (["lines: 0 of 0 reached", "branches: 0 of 0 reached"], False)
    assert str(Place("a.h", 3, "f", "line", False)) == "a.h:3: line in f"
