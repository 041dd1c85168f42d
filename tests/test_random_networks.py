"""Random networks through everything, as the fuzzer draws and compares them: a hundred of them, and what they cover.

    qapsule fuzz --networks 10000

compares as many as there is time for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.backends.emulator import EMULATOR
from export.ir import Const
from export.ops import Dense, Input, SparseDense, SumOfProducts
from export.streams.access import Io
from recipes.fuzz.batch import Batch
from recipes.fuzz.case import SAMPLES, Case, Refused, draw, in_python
from recipes.fuzz.designs import compiled

NETWORKS, TOGETHER = 100, 25


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    drawn = []
    for number in range(NETWORKS):
        try:
            drawn.append(draw(0, number))
        except Refused:
            continue
    assert len(drawn) >= 0.9 * NETWORKS
    return drawn


def test_they_cover_what_there_is(cases: list[Case]) -> None:
    kinds = Counter(type(op).__name__ for case in cases for op in case.graph)
    casts, layers = ("Cast", "ChannelCast", "Clip", "Affine", "Threshold"), ("Dense", "SparseDense")
    several = ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "BySign", "ArgMax")
    windowed, tables = ("Conv", "MaxPool", "SumPool"), ("Table", "Softmax", "BinaryDense")
    for name in ("Input", "ReLU", "Reshape", "Rearrange", "Concat", *casts, *layers, *several, *windowed, *tables):
        assert kinds[name], name
    assert any(isinstance(op, Input) and op.formats for case in cases for op in case.graph)
    modes = {op.modes for case in cases for op in case.before if getattr(op, "modes", None) is not None}
    assert len(modes) == 28
    assert {case.io for case in cases} == set(Io)
    assert sum(case.expected is not None for case in cases) > NETWORKS / 3
    # A few ends of ranges would agree by chance: most networks compute many different things, inside and at the end.
    traces = [(case, case.graph.trace(case.codes)) for case in cases]
    sums = [traced[op.name] for case, traced in traces for op in case.graph if isinstance(op, SumOfProducts)]
    assert sum(len(np.unique(codes, axis=0)) > 10 for codes in sums) > len(sums) / 4
    made = [np.hstack([traced[t.name].reshape(SAMPLES, -1) for t in case.graph.outputs]) for case, traced in traces]
    assert sum(len(np.unique(codes, axis=0)) > 10 for codes in made) > len(cases) / 8


def test_torch_and_the_graph_before_and_after_each_pass_agree(cases: list[Case]) -> None:
    assert [each for case in cases for each in in_python(case)] == []


@pytest.mark.parametrize("first", range(0, NETWORKS, TOGETHER))
def test_every_tensor_of_the_cxx_is_the_graphs(cases: list[Case], first: int, tmp_path: Path) -> None:
    """Xilinx's headers take a second or two for each network, so that every fifth has to do."""
    group = cases[first : first + TOGETHER]
    seen: Counter[str] = Counter()
    for networks, differing in compiled(group, tmp_path, every=5):
        seen.update(networks)
        assert differing == []
    assert sum(seen[f"graph and own C++, {io.value}"] for io in Io) == len(group)


def test_a_flipped_weight_bit_is_noticed(cases: list[Case], tmp_path: Path) -> None:
    """The control: the comparison above can fail. Flips that no output can feel are left out."""
    compared = 0
    mutants = []
    for case in cases:
        layers = [op for op in case.graph if isinstance(op, Dense | SparseDense) and op.modes is None]
        layer = next((op for op in layers if op.weight.codes.size), None)
        if layer is None:
            continue
        codes, fmt = layer.weight.codes.copy(), layer.weight.format
        codes.flat[0] ^= 1
        if codes.flat[0] == 0 or not fmt.min_code <= codes.flat[0] <= fmt.max_code:
            continue
        # The accumulator may be too narrow for the mutant, as in a real fault; so take the bits it has.
        mutant = replace(layer, weight=Const(codes, layer.weight.format))
        ops = tuple(mutant if op is layer else op for op in case.graph)
        mutants.append((case, replace(case.graph, ops=ops), layer.name))
        if len(mutants) == 10:
            break
    together = Batch([mutant for _, mutant, _ in mutants], EMULATOR, tmp_path)
    for case, mutant, name in mutants:
        right = case.graph.trace(case.codes)[name]
        if np.array_equal(mutant.trace(case.codes)[name], right):
            continue
        compared += 1
        assert not np.array_equal(together.trace(mutant.name, case.values)[name], right)
    assert compared >= 5
