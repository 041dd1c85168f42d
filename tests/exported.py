"""A torch module, the graph of it, and whether they are the same to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.layers import QuantIdentity, QuantSpec
from export.frontends.torch import lower
from export.ir import Graph


class Of(nn.Module):
    """A quantizer for the input, ``quant``, other layers by name, and a forward that uses them."""

    def __init__(self, forward: Callable[..., Any], layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.computed = forward
        self.quant = QuantIdentity(spec=QuantSpec(input_frac=3, input_width=6))
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.computed(self, x)


def module(forward: Callable[..., Any], **layers: Any) -> nn.Module:
    return Of(forward, layers).eval()


def lowered(model: nn.Module, shape: Any, **options: Any) -> Graph:
    return lower(model, shape, **options)


def assert_exact(model: nn.Module, shape: Any, samples: int = 30, seed: int = 0, **options: Any) -> Graph:
    """Equal to the module in float64, numbers and shape, on random codes of the input and the ends of its range."""
    graph = lowered(model, shape, **options)
    rng = np.random.default_rng(seed)
    given, values = [], []
    for op in graph.inputs:
        fmt = op.output.format
        codes = rng.integers(fmt.min_code, fmt.max_code, size=(samples, *op.output.shape), endpoint=True)
        codes[0], codes[1] = fmt.min_code, fmt.max_code
        given.append(codes)
        values.append(torch.from_numpy(fmt.values(codes)))
    with torch.no_grad():
        expected = model.double().eval()(*values).numpy()
    got = graph.outputs[0].format.values(graph.eval(*given))
    assert got.shape == expected.shape
    assert np.array_equal(got, expected)
    return graph
