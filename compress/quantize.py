"""Drop-in conversion: a float model and a QuantSpec per layer make a quantized model with the same weights."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TypeAlias

import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec, is_quantized

#: A layer's name, a pattern for names (``block*.fc?``) or a module class. None leaves the layer as it is.
Specs: TypeAlias = QuantSpec | Mapping[str | type[nn.Module], QuantSpec | None]

_CONVERTED = (nn.Linear, nn.ReLU)
_KEPT = (nn.BatchNorm1d, nn.Identity, nn.Flatten)
#: Functional calls that only change the shape, and so need no quantizer.
SHAPE_CALLS = frozenset({torch.flatten, torch.reshape, "flatten", "reshape", "view", "size", "dim", getattr})


class UnsupportedLayer(ValueError):
    """A part of a model that has no quantized counterpart here."""


class LayerTracer(fx.Tracer):
    """An fx tracer that keeps every layer whole, quantized or not, masked or not."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_quantized(m) or super().is_leaf_module(m, module_qualified_name)


def quantize(model: nn.Module, specs: Specs, *, input_quantizer: bool = True) -> nn.Module:
    """A quantized copy of ``model`` with its weights, biases and statistics; ``model`` stays as it is.

    ``nn.Linear`` and ``nn.ReLU`` get the spec of their name, else of the first pattern or class that fits them, in the
    order given; ``nn.BatchNorm1d``, ``nn.Identity``, ``nn.Flatten`` and layers that are quantized already stay. A
    module used in several places stays one module, so a shared ReLU has one range for all of them.

    A ``QuantIdentity`` named ``input`` goes in front, with the spec of the first converted layer. An ``nn.Sequential``
    keeps the names of its layers; any other model becomes ``model`` in an ``nn.Sequential`` of the two.
    ``input_quantizer=False`` leaves it out.

    Raises ``UnsupportedLayer``, naming the place, for layers and functional calls that need a quantizer but cannot have
    one, and ``ValueError`` for a key of ``specs`` that fits no layer and a layer that no key fits.
    """
    _refuse_unsupported(model)
    chosen = _choose(model, specs)
    quantized = copy.deepcopy(model)
    made: dict[nn.Module, nn.Module] = {}
    for name, spec in chosen.items():
        old = quantized.get_submodule(name)
        new = old if spec is None else made.get(old) or made.setdefault(old, _converted(old, spec))
        if name:
            _replace(quantized, name, new)
        else:
            quantized = new
    first = next((spec for spec in chosen.values() if spec is not None), None)
    return _with_input(quantized, first) if input_quantizer and first is not None else quantized


def _refuse_unsupported(model: nn.Module) -> None:
    supported = ", ".join(f"nn.{layer.__name__}" for layer in _CONVERTED + _KEPT)
    inside_quantized = _inside_quantized(model)
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            raise UnsupportedLayer(f"{name or 'the model'}: it is masked or parametrized; quantize before pruning")
        if is_quantized(module) or type(module) in _CONVERTED + _KEPT:
            continue
        if name not in inside_quantized and not list(module.children()):
            raise UnsupportedLayer(
                f"{name or 'the model'}: {type(module).__name__} cannot be quantized; supported are {supported}"
            )
    if is_quantized(model) or type(model) in _CONVERTED + _KEPT:
        return
    try:
        graph = LayerTracer().trace(model)
    except (fx.proxy.TraceError, TypeError, NotImplementedError) as error:
        raise UnsupportedLayer(f"{type(model).__name__}: torch.fx cannot trace its forward: {error}") from error
    for node in graph.nodes:
        if node.op in ("call_function", "call_method") and node.target not in SHAPE_CALLS:
            call = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
            raise UnsupportedLayer(
                f"{type(model).__name__}.forward calls {call} ({node.name}), which cannot be given a quantizer; "
                f"make it a module of its own, such as nn.ReLU; supported are {supported}"
            )


def _inside_quantized(model: nn.Module) -> set[str]:
    """The names of the modules that quantized layers are made of."""
    return {
        f"{name}.{inner}".strip(".")
        for name, module in model.named_modules(remove_duplicate=False)
        if is_quantized(module)
        for inner, _ in module.named_modules()
    }


def _choose(model: nn.Module, specs: Specs) -> dict[str, QuantSpec | None]:
    """The spec of every layer to convert, by name in definition order, shared modules under each of their names."""
    inside_quantized = _inside_quantized(model)
    layers = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if type(module) in _CONVERTED and name not in inside_quantized
    }
    if isinstance(specs, QuantSpec):
        return dict.fromkeys(layers, specs)
    idle = [key for key in specs if not any(_fits(key, name, module) for name, module in layers.items())]
    if idle:
        raise ValueError(
            f"{', '.join(getattr(key, '__name__', repr(key)) for key in idle)}: fits no layer; "
            f"the layers to quantize are {', '.join(layers) or 'none'}"
        )
    chosen: dict[str, QuantSpec | None] = {}
    for name, module in layers.items():
        fitting = [name] if name in specs else [key for key in specs if _fits(key, name, module)]
        if not fitting:
            raise ValueError(f"{name}: no spec fits this {type(module).__name__}; add one for {name!r} or for '*'")
        chosen[name] = specs[fitting[0]]
    return chosen


def _fits(key: str | type[nn.Module], name: str, module: nn.Module) -> bool:
    return fnmatchcase(name, key) if isinstance(key, str) else isinstance(module, key)


def _converted(layer: nn.Module, spec: QuantSpec) -> nn.Module:
    """The quantized counterpart, holding the very parameters of ``layer``."""
    if isinstance(layer, nn.Linear):
        linear = QuantLinear(layer.in_features, layer.out_features, layer.bias is not None, spec=spec)
        linear.weight, linear.bias = layer.weight, layer.bias
        return linear.train(layer.training).to(layer.weight)
    return QuantReLU(spec=spec).train(layer.training)


def _replace(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def _with_input(model: nn.Module, spec: QuantSpec) -> nn.Module:
    entry = QuantIdentity(spec=spec).train(model.training)
    # The children by each of their names: named_children() leaves out the second place of a shared one.
    layers = model._modules if type(model) is nn.Sequential else {"model": model}
    if "input" in layers:
        raise ValueError("a layer of the model is called 'input', as the input quantizer would be; rename it")
    quantized = nn.Sequential(OrderedDict({"input": entry} | layers))
    quantized.training = model.training
    return quantized
