"""The check of the C++ against the graph: it finds nothing where nothing is, and one wrong bit where that is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from designs import QUANTIZER, conv_net, every_op, exact_dense, mlp, samples

from compress.fixed import FixedPoint
from export.emulation.emulator import Emulator, Numbers
from export.emulation.vendor_headers import ac_include, ap_include
from export.ir import Const, Graph, GraphError, Tensor
from export.ops import Dense, Input, SparseDense
from export.verification import check as module
from export.verification.check import check, control, distinct_outputs, mutate


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def flipped(graph: Graph, layer: str) -> Graph:
    """One bit of the last weight of ``layer`` changed."""
    (op,) = (op for op in graph if op.name == layer)
    assert isinstance(op, Dense | SparseDense)
    codes = op.weight.codes.copy()
    codes.flat[-1] ^= 1
    other = replace(op, weight=Const(codes, op.weight.format))
    return replace(graph, ops=tuple(other if each is op else each for each in graph))


def test_all_number_types_agree_on_every_tensor(cache: Path) -> None:
    graph = every_op()
    pairs = check(graph, *samples(graph, 300), cache_dir=cache)
    here = {Numbers.OWN: True, Numbers.AP: ap_include() is not None, Numbers.AC: ac_include() is not None}
    assert [pair.right for pair in pairs] == [n.value for n in Numbers]
    for pair, present in zip(pairs, here.values(), strict=True):
        assert pair.left == "graph" and pair.equal == present
        if present:
            assert (pair.samples, pair.tensors, pair.mismatches) == (300, len(graph.ops), 0)


def test_a_vendor_that_is_missing_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr("export.emulation.emulator.ap_include", lambda: None)
    graph = mlp("net", (4, 3, 2))
    own, missing = check(graph, *samples(graph, 10), numbers=(Numbers.OWN, Numbers.AP), cache_dir=cache)
    assert own.equal and not missing.equal and missing.samples == 0
    assert missing.skipped is not None and "headers of ap_fixed are not here" in missing.skipped


@pytest.mark.parametrize("layer", ["fc", "sparse", "narrow"])
def test_one_wrong_bit_anywhere_is_counted(layer: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = every_op()
    wrong = flipped(graph, layer)
    (x,) = samples(graph, 1000)
    codes = graph.inputs[0].encode(x)
    expected, other = graph.trace(codes), wrong.trace(codes)
    count = sum(int(np.count_nonzero(expected[name] != other[name])) for name in expected)
    assert count > 0
    monkeypatch.setattr(module, "Emulator", lambda graph, **options: Emulator(wrong, **options))
    monkeypatch.setattr(module, "CHUNK", 300)  # the last one is shorter
    (pair,) = check(graph, x, numbers=[Numbers.OWN], cache_dir=cache)
    assert (pair.samples, pair.mismatches, pair.equal) == (1000, count, False)


def test_the_control_is_caught_and_says_what_it_flipped(cache: Path) -> None:
    graph = mlp("net", (4, 3, 2))
    (x,) = samples(graph, 100)
    found = control(graph, x, emulator=Emulator(graph, cache_dir=cache))
    assert found.caught and found.mismatches > 50 and found.samples == 100
    mutant, mutation = mutate(graph, graph.inputs[0].encode(x))
    assert found.mutation == mutation == f"bit 4 of fc2.weight{mutation[len('bit 4 of fc2.weight'):]}"
    changed = [(a, b) for a, b in zip(graph, mutant, strict=True) if a != b]
    ((before, after),) = changed
    difference = before.weight.codes ^ after.weight.codes
    assert before.name == "fc2" and sorted(difference.ravel())[-2:] == [0, 16]


def test_a_blind_comparison_would_not_be_believed(cache: Path) -> None:
    """Had the emulator the same wrong bit, the control would report that nothing was caught."""
    graph = mlp("net", (4, 3, 2))
    (x,) = samples(graph, 100)
    mutant, _ = mutate(graph, graph.inputs[0].encode(x))
    blind = control(graph, x, emulator=Emulator(mutant, cache_dir=cache))
    assert not blind.caught and blind.mismatches == 0


@pytest.mark.parametrize("sparse", [False, True])
def test_a_mutation_takes_a_weight_that_is_used(sparse: bool) -> None:
    x = Tensor("x", (3,), FixedPoint(4, 1))
    entry = Input(x, QUANTIZER)
    weight, bias = Const([[1, 1, 3], [2, 0, 1]], FixedPoint(3, 0)), Const([0, 0], FixedPoint(2, 0))
    dense = exact_dense("fc", x, weight, bias, (entry,))
    op = SparseDense.of(dense) if sparse else dense
    graph = Graph("g", (entry, op), (op.output,))
    only_last = np.array([[0, 0, 5], [0, 0, -3]])
    mutant, mutation = mutate(graph, only_last)
    assert mutation == ("bit 1 of fc.weight[3]" if sparse else "bit 1 of fc.weight[0, 2]")
    assert np.all(mutant.eval(only_last)[:, 0] != graph.eval(only_last)[:, 0])
    with pytest.raises(GraphError, match="g: these samples reach no weight"):
        mutate(graph, np.zeros((4, 3), dtype=int))


def test_a_mutation_of_a_convolution() -> None:
    graph = conv_net()
    only_convolutions = replace(graph, ops=graph.ops[:6], outputs=(graph.ops[5].output,))
    (x,) = samples(graph, 20)
    codes = graph.inputs[0].encode(x)
    mutant, mutation = mutate(only_convolutions, codes)
    assert mutation.startswith("bit 3 of conv2.weight[0, ")
    assert np.any(mutant.eval(codes)[:, 0] != only_convolutions.eval(codes)[:, 0])


def test_large_samples_are_compared_in_smaller_chunks(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = conv_net()
    monkeypatch.setattr(module, "CODES", 3 * sum(op.output.size for op in graph))
    (x,) = samples(graph, 10)
    taken: list[int] = []
    trace = Emulator.trace_codes

    def counted(emulator: Emulator, x: np.ndarray) -> dict[str, np.ndarray]:
        taken.append(len(x))
        return trace(emulator, x)

    monkeypatch.setattr(Emulator, "trace_codes", counted)
    (pair,) = check(graph, x, numbers=[Numbers.OWN], cache_dir=cache)
    assert taken == [3, 3, 3, 1] and pair.mismatches == 0 and pair.samples == 10


def test_distinct_outputs_are_counted_over_all_chunks(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = mlp("net", (4, 3, 2))
    emulator = Emulator(graph, cache_dir=cache)
    (x,) = samples(graph, 500)
    expected = len(np.unique(graph.eval(graph.inputs[0].encode(x)), axis=0))
    assert distinct_outputs(graph, np.concatenate([x, x]), emulator=emulator) == expected > 300
    monkeypatch.setattr(module, "CHUNK", 7)
    assert distinct_outputs(graph, np.concatenate([x, x]), emulator=emulator) == expected
    assert distinct_outputs(graph, np.zeros((9, 4)), emulator=emulator) == 1


def test_nothing_to_compare_is_an_error() -> None:
    graph = mlp("net", (4, 3, 2))
    for values in ([], [np.zeros((0, 4))], [np.zeros((3, 4)), np.zeros((3, 4))]):
        with pytest.raises(GraphError, match="net: a check needs samples for each of 1 inputs"):
            check(graph, *values)
