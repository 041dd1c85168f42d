"""A model as torch.fx sees it, with every layer whole."""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from compress.layers import is_quantized

#: Functional calls that only move numbers, and so need no quantizer.
SHAPE_CALLS = frozenset(
    {torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.permute, torch.transpose}
    | {torch.swapaxes, torch.narrow, torch.select, torch.chunk, torch.split, torch.flip, torch.roll, torch.unflatten}
    | {torch.movedim, torch.tile, F.pad}
    | {"flatten", "reshape", "view", "squeeze", "unsqueeze", "permute", "transpose", "contiguous", "size", "dim"}
    | {"swapaxes", "narrow", "select", "chunk", "split", "flip", "roll", "unflatten", "movedim", "expand", "repeat"}
    | {operator.getitem, getattr}
)
#: How the calls that write in place are written.
_WRITTEN = {operator.iadd: "+=", operator.isub: "-=", operator.imul: "*="}
DROPOUT_CALLS = (F.dropout, F.dropout1d, F.dropout2d)


class UnsupportedLayer(ValueError):
    """A part of a model that has no quantized counterpart here."""


class _InPlaceProxy(fx.Proxy):
    def __iadd__(self, other: object) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {}, name="add")

    def __isub__(self, other: object) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {}, name="sub")

    def __imul__(self, other: object) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {}, name="mul")


class LayerTracer(fx.Tracer):
    """An fx tracer that keeps every layer whole, quantized or not, masked or not.

    It tells ``x += y``, which writes into ``x``, from ``x = x + y``; fx by itself does not. Raises
    ``UnsupportedLayer`` where torch.fx cannot trace the forward.
    """

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        try:
            return super().trace(root, concrete_args)
        except (fx.proxy.TraceError, TypeError, NotImplementedError, RuntimeError, AttributeError) as error:
            raise UnsupportedLayer(
                f"{type(root).__name__}: torch.fx cannot trace its forward ({error}); take what depends on the "
                "data out of it"
            ) from error

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_quantized(m) or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _InPlaceProxy(node, self)


def trace(model: nn.Module) -> fx.Graph:
    """The graph of ``model`` in training mode.

    Raises ``UnsupportedLayer`` where torch.fx cannot trace the forward, and where that does another thing in eval mode.
    Layers that know the mode themselves (dropout, batch norm) are the same in both, and so is a functional dropout
    told ``training=self.training``.
    """
    owner = type(model).__name__
    # Of copies: a trace leaves the constants it meets, and a forward whatever it likes, on the module.
    training = LayerTracer().trace(copy.deepcopy(model).train())
    evaluating = LayerTracer().trace(copy.deepcopy(model).eval())
    if len(training.nodes) != len(evaluating.nodes):
        raise UnsupportedLayer(
            f"{owner}: its forward makes other calls in training than in eval mode; make those a "
            "layer which knows its mode, such as nn.Dropout"
        )
    for node, other in zip(training.nodes, evaluating.nodes, strict=True):
        if _call(node) != _call(other):
            raise UnsupportedLayer(
                f"{owner}: its forward does another thing in eval mode than in training ({node.name}); make that a "
                "layer which knows its mode, such as nn.Dropout"
            )
        if node.target in DROPOUT_CALLS and other.kwargs["training"]:
            raise UnsupportedLayer(
                f"{node.name}: this dropout draws in eval mode too; pass training=self.training, or use nn.Dropout"
            )
    return training


def call_of(node: fx.Node) -> str:
    """What a functional call is called in messages."""
    if node.target in _WRITTEN:
        return _WRITTEN[node.target]
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _call(node: fx.Node) -> tuple[object, ...]:
    kwargs = {key: value for key, value in node.kwargs.items() if key != "training" or node.target not in DROPOUT_CALLS}
    return node.op, node.target, str(node.args), str(kwargs)
