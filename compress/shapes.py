"""The shape of every tensor in a model, without computing a number: on torch's meta device, weights left alone."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from compress.layers import Kind, kind


def shapes_of(model: nn.Module, graph: fx.Graph, input_shape: tuple[int, ...]) -> dict[fx.Node, tuple[int, ...]]:
    """The shapes, for one row, of what the nodes of ``graph`` make, a trace of ``model`` by a ``LayerTracer``.

    Nodes that make no tensor are left out. ``input_shape`` is that of one sample. Raises ``ValueError`` where it does
    not fit, naming the layer, and for a model with several inputs.
    """
    inputs = [node.name for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ValueError(f"{type(model).__name__} has the inputs {', '.join(inputs)}; one input shape fits one of them")
    walk = _Shapes(fx.GraphModule(model, graph))
    walk.run(torch.empty(1, *input_shape, device="meta"))
    return walk.shapes


class _Shapes(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        try:
            made = super().run_node(n)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            place = n.target if n.op == "call_module" else n.name
            raise ValueError(f"{place}: the input shape given does not fit: {error}") from error
        if isinstance(made, Tensor):
            self.shapes[n] = tuple(made.shape)
        return made

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer: Any = self.fetch_attr(target)
        what = kind(layer)
        x = args[0]
        if isinstance(layer, nn.Linear):
            return F.linear(x, x.new_empty(layer.weight.shape))
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            return _convolved(layer, x)
        if what is not None and what is not Kind.OTHER:
            return x  # an activation: its quantizer asks for its range, which the meta device does not have
        return copy.deepcopy(layer).to("meta").eval()(*args, **kwargs)


def _convolved(layer: Any, x: Tensor) -> Tensor:
    if getattr(layer, "is_same_padded_strided", False):
        sizes = [math.ceil(size / step) for size, step in zip(x.shape[2:], layer.stride, strict=True)]
        return x.new_empty(len(x), layer.out_channels, *sizes)
    convolution: Any = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
    weight = x.new_empty(layer.weight.shape)
    made: Tensor = convolution(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return made
