"""From a trained network to its hardware project, and the levels of equality between them.

Everything is compared exactly: no tolerance, every sample, every tensor that both sides have.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from export import to_hls
from export.backend import Project
from export.backends import find_backend
from export.emulation.emulator import Emulator
from export.frontends.torch import lower
from export.ir import Graph
from export.ops import Input
from export.passes import lay_out, steps
from export.verification.check import check, control, distinct_outputs
from recipes.data.dataset import Splits
from recipes.recipe import Hardware
from recipes.result import Agreement, Proof

#: Test samples that the project's own test bench replays.
_VECTORS = 200
#: Samples at a time through the trained network and the earlier graphs, which hold every tensor for each of them.
_BATCH = 10_000
#: How far beyond the data every other made-up sample reaches, so that inputs saturate.
_STRETCH = 4.0


def write_project(
    network: nn.Module,
    splits: Splits,
    hardware: Hardware,
    out: Path,
    *,
    name: str,
    overwrite: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Project:
    """Write the hardware project, its test bench fed with test samples. Raises ``ValueError`` as ``to_hls`` does.

    ``options`` are the backend's own. What ``hardware`` says is left out where the backend has no such option.
    """
    usual = {"part": hardware.part, "clock_ns": hardware.clock_ns, "vectors": splits.test.x[:_VECTORS]}
    known = {field.name for field in fields(find_backend(hardware.backend).options)}
    given = {name: value for name, value in usual.items() if name in known and value is not None}
    return to_hls(
        network,
        out,
        splits.test.x.shape[1:],
        backend=hardware.backend,
        name=name,
        reuse_factor=hardware.reuse_factor,
        overwrite=overwrite,
        **{**given, **(options or {})},
    )


def prove(network: nn.Module, splits: Splits, hardware: Hardware, samples: int, *, name: str) -> Proof:
    """Compare ``network`` with its graph, that with what it was before every pass, and that with its compiled C++.

    The C++ is compiled with our own number type and with those vendors' types whose headers are on this machine; the
    others are named in ``not_compared``. Raises ``ValueError`` for fewer than one sample.
    """
    if samples < 1:
        raise ValueError(f"samples={samples}: at least one is needed to compare anything")
    x = probes(splits, samples)
    passes = (*find_backend(hardware.backend).passes, lay_out(hardware.reuse_factor))
    graphs = steps(lower(network, x.shape[1:], name=name), passes)
    graph = graphs[-1]
    emulator = Emulator(graph)
    pairs = check(graph, x)
    caught = control(graph, x, emulator=emulator)
    return Proof(
        agreements=(
            *_against_values(network, graphs, x),
            *(
                Agreement(
                    first="graph, every tensor",
                    second=f"C++ with {pair.right}",
                    samples=pair.samples,
                    mismatches=pair.mismatches,
                )
                for pair in pairs
                if pair.skipped is None
            ),
        ),
        distinct_outputs=distinct_outputs(graph, x, emulator=emulator),
        not_compared=tuple(pair.skipped for pair in pairs if pair.skipped is not None),
        mutation=caught.mutation,
        mutation_mismatches=caught.mismatches,
        notes=graph.notes,
    )


def probes(splits: Splits, samples: int) -> NDArray[np.float32]:
    """``samples`` inputs: test, validation and training samples; then as many made-up ones as are missing.

    Those take every feature from some sample of its own, and every other one is stretched beyond the data's range.
    """
    real = np.concatenate([splits.test.x, splits.validation.x, splits.train.x])[:samples]
    rng = np.random.default_rng(0)
    made = rng.permuted(rng.choice(real, samples - len(real)), axis=0)
    made[::2] *= _STRETCH
    return np.concatenate([real, made])


def _against_values(network: nn.Module, graphs: list[Graph], x: NDArray[np.float32]) -> tuple[Agreement, Agreement]:
    """The output of the final graph against the trained network's, and against every earlier graph's."""
    exact = deepcopy(network).double().eval()  # float32 may not hold the sums
    network_differs, passes_differ = 0, 0
    for batch in np.split(x, range(_BATCH, len(x), _BATCH)):
        entry = graphs[-1].inputs[0]
        assert isinstance(entry, Input)
        codes = entry.encode(batch)
        *before, final = [graph.outputs[0].format.values(graph.eval(codes)) for graph in graphs]
        with torch.no_grad():
            network_differs += int((final != exact(torch.from_numpy(batch).double()).numpy()).sum())
        passes_differ += sum(int((final != values).sum()) for values in before)
    return (
        Agreement(first="graph", second="trained network, float64", samples=len(x), mismatches=network_differs),
        Agreement(
            first="graph",
            second=f"before each of {len(graphs) - 1} passes",
            samples=len(x),
            mismatches=passes_differ,
        ),
    )
