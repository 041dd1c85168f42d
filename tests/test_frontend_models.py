"""Models that people wrote for other purposes: each is exported exactly, or refused by name with what to do."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from float_models import MODELS as PAPERS
from small_models import MODELS as SMALL
from torch import nn

from compress.layers import QuantSpec
from compress.quantize import quantize
from export.backends.emulator import EMULATOR
from export.frontends.torch import lower
from export.ir import Graph
from export.passes import steps
from recipes.fuzz.batch import Batch

SPEC = QuantSpec(weight_width=5, bias_width=7, activation_width=4, input_width=6)
MODELS = {**SMALL, **{name: (make, shapes[0]) for name, (make, shapes) in PAPERS.items() if len(shapes) == 1}}

#: What the message has to name: the place in the model, and the cure.
REFUSED = {
    "Hardswish": r"^1: Hardswish cannot be quantized: use nn\.ReLU",
    "ELU": r"^1: ELU cannot be quantized: use nn\.ReLU",
    "Softplus": r"^1: Softplus cannot be quantized: use nn\.ReLU",
    "Softmax": r"^1: Softmax cannot be quantized: leave it out",
    "LogSoftmax": r"^1: LogSoftmax cannot be quantized: leave it out",
    "LayerNorm": r"^1: LayerNorm cannot be quantized: use a batch norm",
    "GroupNorm": r"^2: GroupNorm cannot be quantized: use a batch norm",
    "F.linear": r"^weight: a bare parameter is part of the computation; put it in a layer",
    "chunk and add": r"^Of: torch\.fx cannot trace its forward .*Proxy object cannot be iterated",
    "control flow": r"^Of: torch\.fx cannot trace its forward .*; take what depends on the data out of it",
    "padding_mode": r"^2: padding_mode='reflect' has no counterpart; use padding_mode='zeros'",
    "ConvTranspose2d": r"^2: ConvTranspose2d cannot be quantized",
    "Upsample bilinear": r"^2: Upsample cannot be quantized",
    "LSTM": r"^a: LSTM cannot be quantized",
    "MultiheadAttention": r"^a: MultiheadAttention cannot be quantized",
}


def converted(name: str, specs: Any = SPEC) -> tuple[nn.Module, tuple[int, ...]]:
    """Quantized, and with ranges from random data."""
    make, shape = MODELS[name]
    torch.manual_seed(0)
    quantized = quantize(make(), specs).train()
    with torch.no_grad():
        for _ in range(2):
            quantized(torch.randn(64, *shape))
    return quantized.eval(), shape


def compared(name: str, quantized: nn.Module, shape: tuple[int, ...]) -> tuple[Graph, np.ndarray]:
    """The graph after its passes, and the samples that it was compared on; as torch has them in float64, every one."""
    before = lower(quantized, shape, name=re.sub(r"\W+", "_", f"m {name}"))
    x = torch.randn(20, *shape, dtype=torch.float64)
    with torch.no_grad():
        expected = copy.deepcopy(quantized).double()(x).numpy()
    assert len(np.unique(expected)) > 1
    for stage in (after := steps(before)):
        codes = stage.eval(stage.inputs[0].encode(x.numpy()))
        values = stage.outputs[0].format.values(codes)
        assert np.array_equal(values.reshape(expected.shape), expected)  # the index of a largest has no axis in torch
    return after[-1], x.numpy()


@pytest.fixture(scope="module")
def graphs() -> dict[str, tuple[Graph, np.ndarray]]:
    """Of all that is exact, filled by the tests that find it so."""
    return {}


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(REFUSED)))
def test_the_graph_is_the_model(name: str, graphs: dict[str, tuple[Graph, np.ndarray]]) -> None:
    graphs[name] = compared(name, *converted(name))


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[name]):
        lower(*converted(name))


def test_a_float_prelu_before_a_quantizer_is_exact(graphs: dict[str, tuple[Graph, np.ndarray]]) -> None:
    graphs["float PReLU"] = compared("float PReLU", *converted("PReLU", {nn.PReLU: None, "*": SPEC}))


def test_the_compiled_cxx_is_the_graph(graphs: dict[str, tuple[Graph, np.ndarray]], tmp_path: Path) -> None:
    if not graphs:
        pytest.skip("the graphs come from the tests above")
    some = list(graphs.values())
    for first in range(0, len(some), 10):
        group = some[first : first + 10]
        batch = Batch([graph for graph, _ in group], EMULATOR, tmp_path / str(first))
        for graph, x in group:
            got = batch.trace(graph.name, x)
            for tensor, codes in graph.trace(graph.inputs[0].encode(x)).items():
                assert np.array_equal(codes, got[tensor]), f"{graph.name}: {tensor}"
