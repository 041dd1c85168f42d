"""Random networks through everything: torch, the graph before and after its passes, and the C++ of three number types.

    QAPSULE_NETWORKS=1000 python -m pytest tests/test_random_networks.py

draws another number than the hundred of an ordinary run; QAPSULE_SEED another family.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from many import Many
from random_modules import has_power_of_two_scales, random_module
from random_networks import random_graph, random_inputs

from export.backend import Backend
from export.backends.emulator import EMULATOR, EMULATOR_AC, EMULATOR_AP
from export.frontends.torch import lower
from export.ir import Const, Graph, GraphError
from export.ops import Dense, Input, SparseDense
from export.passes import run
from export.vendor_headers import ac_include, ap_include

NETWORKS = int(os.environ.get("QAPSULE_NETWORKS", "100"))
SEED = int(os.environ.get("QAPSULE_SEED", "0"))
SAMPLES = 40
TOGETHER = 25  # networks to one compilation


@dataclass
class Drawn:
    graph: Graph  # after the passes
    before: Graph
    codes: np.ndarray
    expected: np.ndarray | None  # what torch says, where float64 is exact

    @property
    def values(self) -> np.ndarray:
        return self.before.inputs[0].output.format.values(self.codes)


def draw(number: int) -> Drawn | None:
    """Network ``number``: ops drawn directly, or a torch module. None where its numbers exceed what hardware holds."""
    rng = np.random.default_rng((SEED, number))
    expected = None
    if number % 2:
        module, shape = random_module(rng)
        before = lower(module, shape, name=f"network_{number}")
        (codes,) = random_inputs(rng, before, SAMPLES)
        if has_power_of_two_scales(module):
            x = torch.from_numpy(before.inputs[0].output.format.values(codes))
            with torch.no_grad():
                expected = module.double()(x).numpy()
    else:
        before = replace(random_graph(rng), name=f"network_{number}")
        (codes,) = random_inputs(rng, before, SAMPLES)
    try:
        return Drawn(run(before), before, codes, expected)
    except GraphError as error:
        assert "no exact multiplier" in str(error) or "limit is 64" in str(error), error
        return None


@pytest.fixture(scope="module")
def networks() -> list[Drawn]:
    drawn = [draw(number) for number in range(NETWORKS)]
    kept = [d for d in drawn if d is not None]
    assert len(kept) >= 0.9 * NETWORKS
    return kept


def values(graph: Graph, traced: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [tensor.format.values(traced[tensor.name]) for tensor in graph.outputs]


def test_they_cover_what_there_is(networks: list[Drawn]) -> None:
    kinds = Counter(type(op).__name__ for d in networks for op in d.graph)
    casts, layers = ("Cast", "ChannelCast", "Clip", "Affine", "Threshold"), ("Dense", "SparseDense")
    for name in ("Input", "ReLU", "Maximum", "Flatten", *casts, *layers):
        assert kinds[name], name
    assert any(isinstance(op, Input) and op.formats for d in networks for op in d.graph)
    modes = {op.modes for d in networks for op in d.before if getattr(op, "modes", None) is not None}
    assert NETWORKS < 100 or len(modes) == 28
    # A few ends of ranges would agree by chance: most networks compute many different things, inside and at the end.
    layers = [(d.graph.trace(d.codes), op) for d in networks for op in d.graph if isinstance(op, Dense | SparseDense)]
    assert sum(len(np.unique(traced[op.name], axis=0)) > 10 for traced, op in layers) > len(layers) / 3
    assert sum(len(np.unique(d.graph.eval(d.codes), axis=0)) > 10 for d in networks) > len(networks) / 6


def test_passes_change_no_value(networks: list[Drawn]) -> None:
    for d in networks:
        before, after = (values(g, g.trace(d.codes)) for g in (d.before, d.graph))
        for one, other in zip(before, after, strict=True):
            assert np.array_equal(one, other), d.graph.name


def test_the_graph_is_the_trained_network(networks: list[Drawn]) -> None:
    compared = [d for d in networks if d.expected is not None]
    for d in compared:
        assert np.array_equal(values(d.before, d.before.trace(d.codes))[0], d.expected), d.graph.name
    assert len(compared) > NETWORKS / 20


@pytest.mark.parametrize(
    ("backend", "include", "share"),
    [(EMULATOR, None, 1), (EMULATOR_AC, ac_include, 1), (EMULATOR_AP, ap_include, 4)],
    ids=["own", "ac_fixed", "ap_fixed"],
)
def test_every_tensor_of_the_cxx_is_the_graphs(
    networks: list[Drawn], backend: Backend, include: Callable[[], Path | None] | None, share: int, tmp_path: Path
) -> None:
    """Xilinx's headers take a second or two for each network, so that every fourth has to do."""
    headers = include and include()
    if include and headers is None:
        pytest.skip(f"{backend.name}: the vendor's headers are not on this machine (pip install hls4ml==1.3.0)")
    for first in range(0, len(networks), TOGETHER * share):
        group = networks[first : first + TOGETHER * share : share]
        compiled = Many([d.graph for d in group], backend, tmp_path / str(first), headers)
        for d in group:
            expected, got = d.graph.trace(d.codes), compiled.trace(d.graph.name, d.values)
            for tensor, codes in expected.items():
                assert np.array_equal(codes, got[tensor]), f"{d.graph.name}: {tensor}\n{d.graph}"


def test_a_flipped_weight_bit_is_noticed(networks: list[Drawn], tmp_path: Path) -> None:
    """The control: the comparison above can fail. Flips that no output can feel are left out."""
    compared = 0
    mutants = []
    for d in networks:
        layer = next((op for op in d.graph if isinstance(op, Dense | SparseDense) and op.modes is None), None)
        if layer is None:
            continue
        codes, fmt = layer.weight.codes.copy(), layer.weight.format
        codes.flat[0] ^= 1
        if codes.flat[0] == 0 or not fmt.min_code <= codes.flat[0] <= fmt.max_code:
            continue
        # The accumulator may be too narrow for the mutant, as in a real fault; so take the bits it has.
        mutant = replace(layer, weight=Const(codes, layer.weight.format))
        ops = tuple(mutant if op is layer else op for op in d.graph)
        mutants.append((d, replace(d.graph, ops=ops), layer.name))
        if len(mutants) == 10:
            break
    compiled = Many([m for _, m, _ in mutants], EMULATOR, tmp_path)
    for d, mutant, name in mutants:
        if np.array_equal(mutant.trace(d.codes)[name], d.graph.trace(d.codes)[name]):
            continue
        compared += 1
        assert not np.array_equal(compiled.trace(mutant.name, d.values)[name], d.graph.trace(d.codes)[name])
    assert compared >= 5
