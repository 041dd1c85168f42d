"""Effective bit operations (EBOPs): what the products of a network cost, given the numbers that its weights really are.

    EBOPs = sum over multiplications of (bits of the weight) x (bits of the activation) + bits of the biases

The bits of a constant reach from its highest to its lowest nonzero bit: 40 = 0b101000 has 3, a power of two 1, zero
none. The bits of an activation are those of its format without the sign, per channel where it has one for each; a
channel that is always zero has none. This is the definition of HGQ (Sun et al., FPGA 2026, doi 10.1145/3748173.3779200,
section "EBOPs"), with biases counted as HGQ2 0.2.0 counts them. HGQ2's own figure takes the bits a weight has been
allotted, which is never less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import fx, nn

from compress.bops import layer_bops
from compress.columns import columns
from compress.fixed import Codes
from compress.layers import Kind, activation_of, bias_of, kind, weight_of
from compress.learned.conversion import freeze
from compress.learned.frozen import FrozenActivation, FrozenLinear
from compress.learned.layers import LearnedActivation, LearnedLinear
from compress.quantize import SHAPE_CALLS, LayerTracer
from compress.readout import BinaryQuantizer, QuantizedArray

_NO_ACTIVATIONS = (None, Kind.LINEAR, Kind.CONV1D, Kind.CONV2D, Kind.OTHER)
_SAME_CHANNELS = (nn.Identity, nn.Flatten, nn.Dropout)


@dataclass(frozen=True, eq=False)
class LayerEbops:
    """One linear layer: the bits of its weights (outputs, inputs), of the channels of its input, of its biases.

    ``weight_width`` and ``activation_width`` are those of one format for the whole tensor, which BOPs count.
    """

    name: str
    weight_bits: NDArray[np.int64]
    activation_bits: NDArray[np.int64]
    bias_bits: NDArray[np.int64]
    weight_width: int
    activation_width: int

    @property
    def ebops(self) -> int:
        return count(self.weight_bits, self.activation_bits, self.bias_bits)

    @property
    def products(self) -> int:
        """Multiplications that are left: neither the weight nor the activation is always zero."""
        return int(np.count_nonzero(self.weight_bits * self.activation_bits))

    @property
    def bops(self) -> float:
        """The formula of :mod:`compress.bops`, weights that are zero left out like pruned ones."""
        outputs, inputs = self.weight_bits.shape
        pruned = float(np.mean(self.weight_bits == 0))
        return layer_bops(inputs, outputs, self.activation_width, self.weight_width, pruned)


@dataclass(frozen=True)
class EbopsReport:
    """The linear layers in the order they run."""

    layers: tuple[LayerEbops, ...]

    @property
    def total(self) -> int:
        return sum(layer.ebops for layer in self.layers)

    @property
    def bops(self) -> float:
        return math.fsum(layer.bops for layer in self.layers)

    def __str__(self) -> str:
        head = ("layer", "size", "products", "bits w", "bits a", "EBOPs", "BOPs")
        rows = [
            (
                layer.name,
                f"{layer.weight_bits.shape[1]} -> {layer.weight_bits.shape[0]}",
                f"{layer.products:,}",
                f"{_mean_of_nonzero(layer.weight_bits):.2f}",
                f"{_mean_of_nonzero(layer.activation_bits):.2f}",
                f"{layer.ebops:,}",
                f"{layer.bops:,.0f}",
            )
            for layer in self.layers
        ]
        products = sum(layer.products for layer in self.layers)
        rows.append(("total", "", f"{products:,}", "", "", f"{self.total:,}", f"{self.bops:,.0f}"))
        return "\n".join(columns([head, *rows]))


def effective_bits(codes: Codes) -> NDArray[np.int64]:
    """From the highest to the lowest nonzero bit of each code's magnitude, both included; 0 for 0. Any shape."""

    def span(code: int) -> int:
        magnitude = abs(code)
        return (magnitude // (magnitude & -magnitude)).bit_length() if magnitude else 0

    return np.array([span(int(code)) for code in codes.flat], dtype=np.int64).reshape(codes.shape)


def count(
    weight_bits: NDArray[np.int64], activation_bits: NDArray[np.int64], bias_bits: NDArray[np.int64] | None = None
) -> int:
    """EBOPs of one linear layer from bits of shapes (outputs, inputs), (inputs,) and (outputs,): the one sum of all."""
    biases = 0 if bias_bits is None else int(bias_bits.sum())
    return int((weight_bits @ activation_bits).sum()) + biases


def ebops(model: nn.Module) -> EbopsReport:
    """The EBOPs of one forward pass of ``model``, for every call of a linear layer.

    Counted are networks with learned widths, frozen ones, and those of :mod:`compress.layers` and plain Brevitas,
    whose activations have one width for the whole tensor. Raises ``ValueError`` naming a layer that is none of these,
    or whose input comes from no quantizer.
    """
    if isinstance(model, nn.Sequential) and any(isinstance(m, (LearnedLinear, LearnedActivation)) for m in model):
        model = freeze(model)
    arriving: dict[fx.Node, _Arriving | None] = {}
    rows = []
    for node in _Tracer().trace(model).nodes:
        source = arriving.get(node.all_input_nodes[0]) if node.all_input_nodes else None
        if node.op == "call_module":
            name, module = str(node.target), model.get_submodule(str(node.target))
            if isinstance(module, (FrozenLinear, nn.Linear)):
                rows.append(_row(name, module, source))
            elif any(parameter.dim() > 1 for parameter in module.parameters()):
                raise ValueError(f"{name}: the EBOPs of a {type(module).__name__} are not known here")
            arriving[node] = _after(name, module, source)
        elif node.target in SHAPE_CALLS:
            arriving[node] = source
        elif node.op in ("call_function", "call_method"):
            raise ValueError(f"{node.name}: {node.target} cannot be counted; put its product in a quantized layer")
    return EbopsReport(tuple(rows))


@dataclass(frozen=True)
class _Arriving:
    """The bits of what a quantizer gives: one number for all channels, or one for each."""

    bits: NDArray[np.int64]
    width: int  # of one format that holds all channels, the sign included

    def of(self, inputs: int) -> NDArray[np.int64]:
        """Per input of a layer; those that a flattening has made of one channel lie side by side."""
        return np.repeat(self.bits, inputs // len(self.bits))


class _Tracer(LayerTracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (FrozenLinear, FrozenActivation)) or super().is_leaf_module(m, module_qualified_name)


def _after(name: str, module: nn.Module, source: _Arriving | None) -> _Arriving | None:
    if isinstance(module, FrozenActivation):
        formats = [format for format in module.channel_formats().formats]
        own = [0 if format is None else format.width - format.signed for format in formats]
        present = [format for format in formats if format is not None]
        if not present:
            return _Arriving(np.array(own), 1)
        frac = max(format.frac for format in present)
        integer = max(format.integer for format in present)
        return _Arriving(np.array(own), max(1, integer + frac))
    if isinstance(module, _SAME_CHANNELS):
        return source
    if kind(module) in _NO_ACTIVATIONS:
        return None
    quantizer = activation_of(module, name)
    if isinstance(quantizer, BinaryQuantizer):  # -1 and +1: a sign, which a product takes as one bit
        return _Arriving(np.array([1]), quantizer.format.width)
    if quantizer is None:
        return None
    return _Arriving(np.array([quantizer.width - quantizer.signed]), quantizer.width)


def _row(name: str, layer: nn.Module, source: _Arriving | None) -> LayerEbops:
    weight, bias = _constants(name, layer)
    if source is None:
        raise ValueError(f"{name}: its input comes from no quantizer, so its bits are not known; put one in front")
    outputs, inputs = weight.codes.shape
    return LayerEbops(
        name=name,
        weight_bits=effective_bits(weight.codes),
        activation_bits=source.of(inputs),
        bias_bits=np.zeros(outputs, dtype=np.int64) if bias is None else effective_bits(bias.codes),
        weight_width=weight.width,
        activation_width=source.width,
    )


def _constants(name: str, layer: nn.Module) -> tuple[QuantizedArray, QuantizedArray | None]:
    if isinstance(layer, FrozenLinear):
        return layer.weight_codes(), layer.bias_codes()
    if kind(layer) is not Kind.LINEAR:
        raise ValueError(f"{name}: a {type(layer).__name__} has float weights; quantize the network first")
    weight, bias = weight_of(layer, name), bias_of(layer, name=name)
    if weight is None or not isinstance(bias, QuantizedArray | None):
        raise ValueError(f"{name}: float weights or biases have no bits to count; give them a width")
    return weight, bias


def _mean_of_nonzero(bits: NDArray[np.int64]) -> float:
    return float(bits[bits > 0].mean()) if (bits > 0).any() else 0.0
