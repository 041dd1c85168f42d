"""Bit operations, the hardware-neutral cost of a network.

The formula is that of the QAP paper (Hawks et al., Front. Artif. Intell. 4, 676564, 2021, after Baskin et al., "UNIQ",
ACM Trans. Comput. Syst. 37, 2021): ``m n ((1 - f_p) b_a b_w + b_a + b_w + log2 n)`` for a dense layer of ``n`` inputs
and ``m`` outputs, ``f_p`` of whose weights are pruned, with activations of ``b_a`` bits coming in and weights of
``b_w`` bits. A convolution does this at each position of its output, with ``n`` the inputs of one output: the channels
of its group times the size of the kernel (Baskin's ``n k**2``). The zeros of a padding count like other inputs.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from compress.columns import columns
from compress.fixed import FixedPoint
from compress.layers import (
    Kind,
    QuantizedArray,
    UnreadableQuantizer,
    accumulator_of,
    format_of,
    is_quantized,
    kind,
    weight_of,
    width_of,
)
from compress.layers.readers import ACTIVATIONS, WEIGHTED
from compress.quantize import SHAPE_CALLS, LayerTracer
from compress.quantize.calls import ADD_CALLS, CAT_CALLS, SUBTRACT_CALLS, layer_of
from compress.shapes import shapes_of

#: What a number counts that no quantizer has given a width.
FLOAT_WIDTH = 32

#: Calls with products in them, which would go uncounted.
_PRODUCT_CALLS = frozenset(
    {F.linear, F.bilinear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d}
    | {operator.matmul, torch.matmul, torch.mm, torch.addmm, torch.bmm, torch.einsum}
    | {F.scaled_dot_product_attention, "matmul", "mm", "addmm", "bmm"}
)
_SAME_NUMBERS = (
    *(nn.ReLU, nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)


@dataclass(frozen=True)
class LayerBops:
    """One layer with weights. ``masked`` of those are exactly zero; ``rounded`` are not, but quantize to zero.

    Both are fractions of all weights. Only the first is pruning, and only that enters the formula. ``inputs`` are those
    of one output; ``outputs`` those at one of the ``positions``.
    """

    name: str
    inputs: int
    outputs: int
    activation_width: int
    weight_width: int
    masked: float
    rounded: float
    positions: int = 1

    @property
    def bops(self) -> float:
        one = layer_bops(self.inputs, self.outputs, self.activation_width, self.weight_width, self.masked)
        return self.positions * one


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
                f"{layer.inputs} -> {layer.outputs}" + (f" x {layer.positions}" if layer.positions > 1 else ""),
                str(layer.activation_width),
                str(layer.weight_width),
                f"{layer.masked:.1%}",
                f"{layer.rounded:.1%}",
                f"{layer.bops:,.0f}",
            )
            for layer in self.layers
        ]
        rows.append((f"total, {self.input_width}-bit input", "", "", "", "", "", f"{self.total:,.0f}"))
        return "\n".join(columns([head, *rows]))


def layer_bops(inputs: int, outputs: int, activation_width: int, weight_width: int, pruned: float) -> float:
    """The formula for one position of a layer; ``pruned`` is the fraction of its weights that are zero."""
    products = (1 - pruned) * activation_width * weight_width
    return inputs * outputs * (products + activation_width + weight_width + math.log2(inputs))


def bops(model: nn.Module, input_width: int | None = None, *, input_shape: tuple[int, ...] | None = None) -> BopsReport:
    """The bit operations of one sample through ``model``, for every call of a linear or convolutional layer.

    A layer's ``b_a`` is the width of what enters it: of the quantizer it comes from, through any ReLU, maximum or
    change of shape; of the exact sum where two quantized tensors are added; the widest of what is concatenated; of the
    stated accumulator or output of a layer. All else counts as a float of 32 bits, and so do the weights of a float
    layer. Products of two tensors, element by element, are no part of the formula and not counted.
    ``input_width`` is the width of what enters the network. A model that begins by quantizing its input states it.

    ``input_shape`` is that of one sample. It is needed where there are convolutions, whose positions depend on it; a
    linear layer without it counts as called on one vector.

    Raises ``ValueError`` where the input width or shape is missing, or is not one that the model has, and for products
    that the formula does not know.
    """
    graph = LayerTracer().trace(model)
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
    shapes = None if input_shape is None else shapes_of(model, graph, input_shape)
    numbers: dict[fx.Node, _Numbers] = {}
    rows = []
    for node in graph.nodes:
        sources = [numbers[source] for source in node.all_input_nodes]
        if node.op == "placeholder":
            numbers[node] = _FLOATS if input_width == FLOAT_WIDTH else _Numbers(input_width)
        elif node.op == "call_module":
            name, layer = str(node.target), model.get_submodule(str(node.target))
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
                row = _row(name, layer, sources[0].width_for(name))
                rows.append(replace(row, positions=_positions(name, layer, None if shapes is None else shapes[node])))
            elif any(parameter.dim() > 1 for parameter in layer.parameters()):
                raise ValueError(f"{name}: the bit operations of a {type(layer).__name__} are not known here")
            numbers[node] = _behind_layer(name, layer, sources[0])
        elif node.target in _PRODUCT_CALLS:
            raise ValueError(f"{node.name}: a functional product cannot be counted; make it an nn.Linear in the model")
        else:
            numbers[node] = _behind_call(node, sources)
    return BopsReport(tuple(rows), input_width)


@dataclass(frozen=True)
class _Numbers:
    """The width of a tensor's numbers, and their format where it is known. ``width`` is None for ``unknown`` sums."""

    width: int | None = FLOAT_WIDTH
    format: FixedPoint | None = None
    unknown: str = ""

    def width_for(self, reader: str) -> int:
        if self.width is None:
            raise ValueError(
                f"{reader}: reads the sum {self.unknown}, whose width is not known before all that is added has a "
                "power-of-two scale; calibrate or train the model first, or put a QuantIdentity behind the sum"
            )
        return self.width


_FLOATS = _Numbers()


def _behind_layer(name: str, layer: nn.Module, x: _Numbers) -> _Numbers:
    what = kind(layer)
    if what in WEIGHTED:
        if (output := getattr(layer, "output", None)) is not None:
            return _quantized(f"{name}.output", output)
        accumulator = accumulator_of(layer, name)
        return _FLOATS if accumulator is None else _Numbers(accumulator.width, accumulator)
    if what in ACTIVATIONS and width_of(layer, name) is not None:
        return _quantized(name, layer)
    return x if isinstance(layer, _SAME_NUMBERS) or what in (Kind.RELU, Kind.IDENTITY) else _FLOATS


def _quantized(name: str, activation: nn.Module) -> _Numbers:
    try:
        return _Numbers(width_of(activation, name), format_of(activation, name))
    except UnreadableQuantizer:  # no range yet, or a scale that is no power of two: a width, but no format
        return _Numbers(width_of(activation, name))


def _behind_call(node: fx.Node, sources: list[_Numbers]) -> _Numbers:
    layer = layer_of(node) if node.op in ("call_function", "call_method") else None
    if not sources or (layer is not None and not isinstance(layer, _SAME_NUMBERS)):
        return _FLOATS
    if layer is not None or node.target in SHAPE_CALLS:
        return sources[0]
    if node.target in ADD_CALLS | SUBTRACT_CALLS:
        return _sum(node, sources)
    if node.target in CAT_CALLS:
        unknown = next((x for x in sources if x.width is None), None)
        same = {x.format for x in sources}
        widest = max((x.width for x in sources if x.width is not None), default=FLOAT_WIDTH)
        return unknown or _Numbers(widest, same.pop() if len(same) == 1 else None)
    return _FLOATS


def _sum(node: fx.Node, sources: list[_Numbers]) -> _Numbers:
    """The exact sum or difference of two tensors; they are one source where it is of a tensor with itself."""
    operands = sources * 2 if len(sources) == 1 else sources
    if any(x is _FLOATS for x in operands):
        return _FLOATS
    formats = [x.format for x in operands]
    known = [format for format in formats if format is not None]
    if len(known) < len(formats):
        return _Numbers(None, unknown=node.name)
    frac = max(format.frac for format in known)
    (low, high), (other_low, other_high) = (
        (format.min_code << frac - format.frac, format.max_code << frac - format.frac) for format in known
    )
    if node.target in SUBTRACT_CALLS:
        other_low, other_high = -other_high, -other_low
    total = FixedPoint.covering(low + other_low, high + other_high, frac)
    return _Numbers(total.width, total)


def _input_widths(graph: fx.Graph, model: nn.Module) -> set[int | None]:
    """What the model does to its inputs first: the width of each quantizer, None for anything else."""
    readers = [user for node in graph.nodes if node.op == "placeholder" for user in node.users]
    found: set[int | None] = set()
    for node in readers:
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        found.add(width_of(module, str(node.target)) if module and kind(module) is Kind.IDENTITY else None)
    return found


def _positions(name: str, layer: nn.Module, shape: tuple[int, ...] | None) -> int:
    """How often the layer sums up its inputs for one sample; ``shape`` is that of its output with one row."""
    if shape is not None:
        return math.prod(shape[1:-1]) if isinstance(layer, nn.Linear) else math.prod(shape[2:])
    if not isinstance(layer, nn.Linear):
        axes = "channels, length" if isinstance(layer, nn.Conv1d) else "channels, height, width"
        raise ValueError(
            f"{name}: how often a convolution is computed depends on the size of the input; give that of one sample: "
            f"bops(model, input_shape=({axes}))"
        )
    return 1


def _row(name: str, layer: Any, activation_width: int) -> LayerBops:
    zero = (layer.weight.detach() == 0).cpu().numpy()
    quantized = weight_of(layer, name) if is_quantized(layer) else None
    rounds_to_zero = zero if quantized is None else quantized.codes == 0
    return LayerBops(
        name=name,
        inputs=math.prod(layer.weight.shape[1:]),
        outputs=layer.weight.shape[0],
        activation_width=activation_width,
        weight_width=FLOAT_WIDTH if quantized is None else _weight_width(layer, quantized),
        masked=float(np.mean(zero & rounds_to_zero)),  # a binary weight of zero is +1
        rounded=float(np.mean(rounds_to_zero & ~zero)),
    )


def _weight_width(layer: Any, quantized: QuantizedArray) -> int:
    """Of binary weights one, though -1 and +1 are codes of two bits; without a spec they are told by having no zero."""
    spec = getattr(layer, "spec", None)
    if spec is not None:
        return 1 if spec.weight_grid.binary else quantized.width
    return 1 if quantized.width == 2 and bool((np.abs(quantized.codes) == 1).all()) else quantized.width
