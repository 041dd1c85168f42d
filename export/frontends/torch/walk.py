"""One walk along a traced model: each layer and call by its lowering, in order."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from compress.fixed import FixedPoint
from compress.quantize import LayerTracer, layer_of
from compress.quantize import UnsupportedLayer as UnsupportedCall
from export.frontends.builder import Builder
from export.frontends.precision import Precision
from export.frontends.torch.in_place import later_reader
from export.frontends.torch.lowering import (
    Batch,
    Constant,
    Lowering,
    Operand,
    Site,
    call_lowering,
    is_whole,
    layer_lowering,
    takes_constants,
)
from export.frontends.value import Raw, UnsupportedLayer, Value
from export.ir import Graph

_CURE = (
    "replace it by one that has one (export.frontends.torch.supported() lists them), or leave it out of the exported "
    "part"
)


#: What is computed with sizes.
_ON_SIZES = (
    *(operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod),
    *(operator.neg, operator.pow, len, int, max, min, round, math.ceil, math.floor, math.prod, math.sqrt),
)


class Tracer(LayerTracer):
    """Stops at every layer that can be read as a whole, whoever wrote it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_whole(m) or super().is_leaf_module(m, module_qualified_name)


class Walk:
    """What is known about a model on the way through it."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        input_shapes: Sequence[tuple[int, ...]],
        name: str,
        input_format: FixedPoint | None,
        precision: Precision | Mapping[str, Precision] | None,
    ) -> None:
        self.modules = modules
        self.input_shapes = input_shapes
        self.input_format = input_format
        self.precision = precision
        self.build = Builder(name)

    def graph(self, traced: fx.Graph) -> Graph:
        known: dict[fx.Node, Any] = {}
        shapes = iter(self._shapes(traced))
        for node in traced.nodes:
            label = str(node.target) if node.op in ("call_module", "get_attr", "placeholder") else _call(node)
            match node.op:
                case "placeholder":
                    known[node] = self._enter(label, next(shapes))
                case "output":
                    result = node.args[0]
                    if not isinstance(result, fx.Node):
                        kind = type(result).__name__.removeprefix("immutable_")  # fx's own list and dict
                        raise UnsupportedLayer(f"output: the model returns a {kind}, not one tensor")
                    return self.build.graph(self.build.leave(Site("output", self.build).settled(known[result])))
                case "get_attr":
                    known[node] = Constant(label, self._attribute(label))
                case _:
                    self._check_in_place(label, node)
                    known[node] = self._lower(label, node, known)
        raise UnsupportedLayer("the model returns nothing")

    def _shapes(self, traced: fx.Graph) -> Sequence[tuple[int, ...]]:
        """One for each input."""
        inputs = [str(node.target) for node in traced.nodes if node.op == "placeholder"]
        if len(inputs) != len(self.input_shapes):
            raise UnsupportedLayer(
                f"{', '.join(inputs)}: the model has {len(inputs)} inputs, input_shape says {len(self.input_shapes)}; "
                "give one shape for each, input_shape=[(3, 8, 8), (4,)]"
            )
        return self.input_shapes

    def _enter(self, label: str, shape: tuple[int, ...]) -> Operand:
        if self.input_format is None:
            return Raw(label, shape, shape)
        return self.build.enter(label, shape, self.input_format)

    def _attribute(self, label: str) -> NDArray[Any]:
        """A parameter, a buffer, or a plain tensor on a module; indices stay integers."""
        owner, _, name = label.rpartition(".")
        held = getattr(self.modules[owner], name)
        if not isinstance(held, torch.Tensor):
            raise UnsupportedLayer(f"{label}: is a {type(held).__name__}, where a tensor is needed")
        held = held.detach().cpu()
        return np.asarray(held.double().numpy() if held.is_floating_point() else held.numpy())

    def _lower(self, label: str, node: fx.Node, known: Mapping[fx.Node, Any]) -> Any:
        site = Site(label, self.build, self._precision(label))
        args: Any = fx.node.map_arg(node.args, known.__getitem__)
        kwargs: Any = fx.node.map_arg(node.kwargs, known.__getitem__)
        operands = list(_operands((args, kwargs)))
        if not operands or (node.target is operator.getitem and isinstance(args[0], tuple)):
            return _evaluated(site, node, args, kwargs)
        bare = next((each for each in operands if isinstance(each, Constant)), None)
        if bare is not None and not takes_constants(node.target):
            raise UnsupportedLayer(f"{bare.name}: a bare parameter is part of the computation; put it in a layer")
        if node.op == "call_module":
            if len(args) != 1 or kwargs or not isinstance(args[0], Operand):
                raise site.refusal(f"is called with {len(args) + len(kwargs)} arguments, not with one tensor alone")
            return self._module(site, self.modules[label], args[0])
        if (lowering := call_lowering(node.target)) is not None:
            return _given(lowering, site, args, kwargs)
        try:
            layer = layer_of(node)
        except UnsupportedCall as error:
            raise UnsupportedLayer(str(error)) from error
        if layer is not None and args:
            return self._module(site, layer, args[0])
        raise site.refusal(f"this call has no exact lowering; {_CURE}")

    def _module(self, site: Site, module: nn.Module, x: Operand) -> Operand:
        if module._forward_hooks or module._forward_pre_hooks:
            raise site.refusal(
                "has forward hooks, which may change what it computes; remove them "
                "(torch.nn.utils.prune.remove for its masks, or prune with compress.mask)"
            )
        if (lowering := layer_lowering(module)) is None:
            raise UnsupportedLayer(f"{site.label} ({_described(module)}): has no exact lowering; {_CURE}")
        return lowering(site, module, x)

    def _check_in_place(self, label: str, node: fx.Node) -> None:
        if (reader := later_reader(node, self.modules)) is not None:
            raise UnsupportedLayer(
                f"{label}: writes over what {reader.name} reads afterwards; use inplace=False, or x = x + y for x += y"
            )

    def _precision(self, label: str) -> Precision | None:
        return self.precision.get(label) if isinstance(self.precision, Mapping) else self.precision


def _given(lowering: Lowering, site: Site, args: Any, kwargs: Any) -> Any:
    """The lowering on the arguments of the user's call, whose names are torch's."""
    renamed = {"x" if name == "input" else name: value for name, value in kwargs.items()}
    try:
        return lowering(site, *args, **renamed)
    except TypeError as error:
        raise site.refusal(f"is called in a way that has no exact lowering: {error}") from error


def _operands(arguments: Any) -> Iterator[Operand | Constant]:
    """Whatever stands for a tensor among the arguments of a call."""
    match arguments:
        case Value() | Raw() | Constant():
            yield arguments
        case dict():
            yield from _operands(tuple(arguments.values()))
        case slice():
            yield from _operands((arguments.start, arguments.stop, arguments.step))
        case tuple() | list():
            for each in arguments:
                yield from _operands(each)


def _evaluated(site: Site, node: fx.Node, args: Any, kwargs: Any) -> Any:
    """A call on sizes, which Python knows, or on the operands that a movement made, as in ``x.shape[2] // 2``."""
    taking_apart = node.target in (operator.getitem, len)
    if any(isinstance(each, Batch) for each in (*args, *kwargs.values())) and not taking_apart:
        raise site.refusal("computes with the number of samples; every sample has to stay by itself")
    if node.op == "call_function" and node.target in _ON_SIZES:
        try:
            return node.target(*args, **kwargs)
        except (IndexError, TypeError, ValueError, ArithmeticError) as error:
            raise site.refusal(f"does not work on samples of this shape ({error})") from error
    raise site.refusal(f"this call has no exact lowering; {_CURE}")


def _described(module: nn.Module) -> str:
    """Short for layers of Brevitas, which print all that is inside them."""
    text = str(module)
    return type(module).__name__ if "\n" in text else text


def _call(node: fx.Node) -> str:
    """What a functional call is called in messages and in the graph."""
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    stack = node.meta.get("nn_module_stack") or {}
    owner = list(stack)[-1] if stack else ""
    return ".".join(filter(None, (owner, target)))
