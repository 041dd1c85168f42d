"""Bit operations, the hardware-neutral cost of a network.

The formula is that of the QAP paper (Hawks et al., Front. Artif. Intell. 4, 676564, 2021, after Baskin et al.):
``m n ((1 - f_p) b_a b_w + b_a + b_w + log2 n)`` for a dense layer of ``n`` inputs and ``m`` outputs, ``f_p`` of whose
weights are pruned, with activations of ``b_a`` bits coming in and weights of ``b_w`` bits.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx, nn

from compress.layers import Kind, kind, weight_of, width_of
from compress.quantize import SHAPE_CALLS, LayerTracer

#: What a number counts that no quantizer has given a width.
FLOAT_WIDTH = 32

#: Calls with products in them, which would go uncounted.
_PRODUCT_CALLS = frozenset(
    {nn.functional.linear, operator.matmul, operator.mul, torch.matmul, torch.mm, torch.addmm, torch.bmm, torch.mul}
    | {"matmul", "mm", "addmm", "bmm", "mul"}
)

_SAME_WIDTH = (nn.ReLU, nn.Identity, nn.Flatten, nn.Dropout)


@dataclass(frozen=True)
class LayerBops:
    """One dense layer. ``masked`` of its weights are exactly zero; ``rounded`` of them are not, but quantize to zero.

    Both are fractions of all weights. Only the first is pruning, and only that enters the formula.
    """

    name: str
    inputs: int
    outputs: int
    activation_width: int
    weight_width: int
    masked: float
    rounded: float

    @property
    def bops(self) -> float:
        return layer_bops(self.inputs, self.outputs, self.activation_width, self.weight_width, self.masked)


@dataclass(frozen=True)
class BopsReport:
    """The layers in the order they run, and the width in bits of what enters the network."""

    layers: tuple[LayerBops, ...]
    input_width: int

    @property
    def total(self) -> float:
        return math.fsum(layer.bops for layer in self.layers)

    def __str__(self) -> str:
        head = ("layer", "size", "b_a", "b_w", "masked", "rounded to 0", "BOPs")
        rows = [
            (
                layer.name,
                f"{layer.inputs} -> {layer.outputs}",
                str(layer.activation_width),
                str(layer.weight_width),
                f"{layer.masked:.1%}",
                f"{layer.rounded:.1%}",
                f"{layer.bops:,.0f}",
            )
            for layer in self.layers
        ]
        rows.append((f"total, {self.input_width}-bit input", "", "", "", "", "", f"{self.total:,.0f}"))
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in (head, *rows)
        ]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def layer_bops(inputs: int, outputs: int, activation_width: int, weight_width: int, pruned: float) -> float:
    """The formula for one dense layer; ``pruned`` is the fraction of its weights that are zero."""
    products = (1 - pruned) * activation_width * weight_width
    return inputs * outputs * (products + activation_width + weight_width + math.log2(inputs))


def bops(model: nn.Module, input_width: int | None = None) -> BopsReport:
    """The bit operations of one forward pass of ``model``, for every call of a dense layer.

    A layer's ``b_a`` is the width of the quantizer that its input comes from, through any ReLU or change of shape; what
    comes out of anything else counts as a float of 32 bits, and so do the weights of a float layer. ``input_width`` is
    the width of what enters the network. A model that begins by quantizing its input states it by itself.

    Raises ``ValueError`` where the input width is missing, or is not the one the model has.
    """
    tracer = LayerTracer()
    graph = tracer.trace(model)
    entering = _input_widths(graph, model)
    if input_width is None:
        if len(entering) != 1 or None in entering:
            raise ValueError(
                f"{type(model).__name__} does not quantize its input, so the width of that must be given: "
                "bops(model, input_width=32) for floats"
            )
        input_width = next(width for width in entering if width is not None)
    if any(width not in (None, input_width) for width in entering):
        raise ValueError(
            f"input_width={input_width}, but the model quantizes its input to {max(w for w in entering if w)} bits; "
            "leave input_width out or change the QuantIdentity"
        )
    widths: dict[fx.Node, int] = {}
    rows = []
    for node in graph.nodes:
        source = widths.get(node.all_input_nodes[0], FLOAT_WIDTH) if node.all_input_nodes else FLOAT_WIDTH
        if node.op == "placeholder":
            widths[node] = input_width
        elif node.op == "call_module":
            module = model.get_submodule(str(node.target))
            if isinstance(module, nn.Linear):
                rows.append(_row(str(node.target), module, source))
            elif any(parameter.dim() > 1 for parameter in module.parameters()):
                raise ValueError(f"{node.target}: the bit operations of a {type(module).__name__} are not known here")
            widths[node] = _width_after(str(node.target), module, source)
        elif node.target in SHAPE_CALLS:
            widths[node] = source
        elif node.target in _PRODUCT_CALLS:
            raise ValueError(f"{node.name}: a functional product cannot be counted; make it an nn.Linear in the model")
    return BopsReport(tuple(rows), input_width)


def _input_widths(graph: fx.Graph, model: nn.Module) -> set[int | None]:
    """What the model does to its inputs first: the width of each quantizer, None for anything else."""
    readers = [user for node in graph.nodes if node.op == "placeholder" for user in node.users]
    found: set[int | None] = set()
    for node in readers:
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        found.add(width_of(module, str(node.target)) if module and kind(module) is Kind.IDENTITY else None)
    return found


def _width_after(name: str, module: nn.Module, source: int) -> int:
    if kind(module) in (Kind.RELU, Kind.IDENTITY):
        return width_of(module, name) or source
    return source if isinstance(module, _SAME_WIDTH) else FLOAT_WIDTH


def _row(name: str, layer: nn.Linear, activation_width: int) -> LayerBops:
    weight = layer.weight.detach()
    zero = (weight == 0).cpu().numpy()
    quantized = weight_of(layer, name) if kind(layer) is Kind.LINEAR else None
    return LayerBops(
        name=name,
        inputs=layer.in_features,
        outputs=layer.out_features,
        activation_width=activation_width,
        weight_width=quantized.width if quantized else FLOAT_WIDTH,
        masked=float(zero.mean()),
        rounded=float(np.mean((quantized.codes == 0) & ~zero)) if quantized else 0.0,
    )
