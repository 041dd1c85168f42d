"""A pruned convolutional network, from torch through every way of laying out its weights: the same bits in each."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.layers import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU, QuantSpec
from compress.mask import apply_masks, prunable
from compress.prune import Ranking, prune
from compress.structure import multipliers
from export import emulate, to_graph, to_hls
from export.costs import Target, estimate_op
from export.ir import Graph
from export.ops import Conv, SparseConv
from export.verification.check import control

SPEC = QuantSpec(
    weight_width=5, weight_frac=4, bias_width=8, bias_frac=5, activation_width=6, activation_frac=3, input_width=7,
    input_frac=4,
)  # fmt: skip
SHAPE = (2, 6, 6)
#: An output has 18 inputs in either convolution, whose groups read two channels each.
REUSE = {"conv1": 9, "conv2": 36}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Multipliers of the convolutions and single weights of the layer are pruned, half of each."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = nn.Sequential(
        OrderedDict(
            quant=QuantIdentity(spec=SPEC),
            conv1=QuantConv2d(2, 6, 3, padding=1, spec=SPEC),
            act1=QuantReLU(spec=SPEC),
            conv2=QuantConv2d(6, 6, 3, stride=2, groups=3, spec=SPEC),
            act2=QuantReLU(spec=SPEC),
            flat=nn.Flatten(),
            fc=QuantLinear(6 * 2 * 2, 4, spec=SPEC),
        )
    ).eval()
    structure = {name: multipliers(reuse) for name, reuse in REUSE.items()}
    apply_masks(net, prune(prunable(net), {}, 0.5, Ranking.PER_LAYER, structure=structure))
    return net


def convs(graph: Graph) -> list[Conv | SparseConv]:
    return [op for op in graph if isinstance(op, Conv | SparseConv)]


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, *SHAPE))


@pytest.fixture(scope="module")
def expected(model: nn.Module, values: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.double()(torch.from_numpy(values)).numpy()  # type: ignore[no-any-return]


LAYOUTS: dict[str, dict[str, Any]] = {
    "unrolled": {"strategy": "unrolled"},
    "dense": {"strategy": "dense", "reuse_factor": REUSE},
    "coo": {"strategy": "coo", "reuse_factor": {"conv1": 5, "conv2": 7, "fc": 3}},
    "mixed": {"strategy": {"conv1": "coo", "conv2": "dense"}, "reuse_factor": {"conv1": 11, "conv2": 36}},
}


@pytest.mark.parametrize("io", ["parallel", "stream"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_network(
    layout: str, io: str, model: nn.Module, values: np.ndarray, expected: np.ndarray
) -> None:
    emulator = emulate(model, SHAPE, io=io, **LAYOUTS[layout])
    assert np.array_equal(emulator.predict(values).astype(np.float64).reshape(expected.shape), expected)
    assert len(np.unique(expected, axis=0)) == len(values)
    if io == "parallel":
        assert control(emulator.graph, values, emulator=emulator).caught


def test_half_of_the_multipliers_are_not_there(model: nn.Module) -> None:
    """Those that the mask, drawn for this reuse factor, has left."""
    graph = to_graph(model, SHAPE, **LAYOUTS["dense"])
    for op in convs(graph):
        made, there = estimate_op(op, Target()), op.matrix.size // op.reuse_factor
        assert made is not None and made.multipliers == there - there // 2
    sparse = convs(to_graph(model, SHAPE, **LAYOUTS["coo"]))
    assert [op.reuse_factor for op in sparse] == [5, 7]
    for op in sparse:
        made = estimate_op(op, Target())
        assert made is not None and made.multipliers == -(-np.count_nonzero(op.matrix) // op.reuse_factor)


@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_a_project_of_it(io: str, model: nn.Module, tmp_path: Path) -> None:
    """The kernels that the layouts call for, in the text."""
    project = to_hls(model, tmp_path / "mixed", SHAPE, io=io, **LAYOUTS["mixed"])
    source = project.files["firmware/network.cpp"]
    assert "qapsule::sparse_conv<" in source and "qapsule::conv_serial<" in source
    assert "qapsule::multipliers<" in source
