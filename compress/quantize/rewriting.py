"""Carrying out what the walk has decided: layers put in the place of others, or a new graph of them."""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import fx, nn

from compress.layers import QuantSpec
from compress.quantize.calls import IN_PLACE_ARITHMETIC
from compress.quantize.counterparts import quantized, quantizer
from compress.quantize.decisions import Decisions
from compress.quantize.tracing import LayerTracer, UnsupportedLayer, call_of


def reason_for_graph(model: nn.Module, decisions: Decisions) -> str | None:
    """Why ``model`` has to become an ``fx.GraphModule``; None where layers in other layers' places will do."""
    for node in decisions.graph.nodes:
        if node in decisions.calls or node.target in IN_PLACE_ARITHMETIC:
            return f"its forward calls {call_of(node)}"
    for node, inserted in decisions.behind.items():
        if not _can_stand_behind(model, decisions.graph, node):
            return f"its forward has no place for {inserted.name}"
    return "it has several inputs" if len(decisions.inputs) > 1 else None


def with_layers_replaced(model: nn.Module, decisions: Decisions) -> nn.Module:
    """A copy of ``model``, of its class, behind its input quantizer."""
    made = _with_counterparts(model, decisions)
    for node, inserted in decisions.behind.items():
        parent, _, child = str(node.target).rpartition(".")
        _insert(made.get_submodule(parent), child, inserted.name.rpartition(".")[2], _quantizer(inserted.spec, made))
    _check_calls(made, decisions)
    for inserted in decisions.inputs.values():
        # The children by each of their names: named_children() leaves out the second place of a shared one.
        layers = made._modules if type(made) is nn.Sequential else {"model": made}
        behind = nn.Sequential(OrderedDict({inserted.name: _quantizer(inserted.spec, made)} | layers))
        behind.training = made.training
        made = behind
    return made


def as_graph(model: nn.Module, decisions: Decisions) -> fx.GraphModule:
    """A ``GraphModule`` that does what ``model`` does, with the layers of a copy of it under their names."""
    root = _with_counterparts(model, decisions)
    for quantizer_there in (*decisions.inputs.values(), *decisions.behind.values()):
        parent, _, child = quantizer_there.name.rpartition(".")
        root.get_submodule(parent).add_module(child, _quantizer(quantizer_there.spec, root))
    for call in decisions.calls.values():
        layer = call.layer if call.spec is None else quantized(call.layer, call.spec)
        root.add_module(call.name, _placed_like(copy.deepcopy(layer).train(root.training), root))
    graph = fx.Graph(tracer_cls=LayerTracer)
    made: dict[fx.Node, fx.Node] = {}
    for node in decisions.graph.nodes:
        new = graph.node_copy(node, lambda old: made[old])
        if node in decisions.calls:
            tensor = new.args[0]
            graph.erase_node(new)
            new = graph.call_module(decisions.calls[node].name, (tensor,))
        elif node.target in IN_PLACE_ARITHMETIC:
            new.op, new.target = "call_function", IN_PLACE_ARITHMETIC[node.target]
        for inserted in (decisions.inputs.get(node), decisions.behind.get(node)):
            if inserted is not None:
                new = graph.call_module(inserted.name, (new,))
        made[node] = new
    result = fx.GraphModule(root, graph, class_name=type(model).__name__)
    for name, module in root.named_modules():  # what is never called is kept for the state dict, as the model keeps it
        if name and (module._parameters or module._buffers) and name not in dict(result.named_modules()):
            result.add_submodule(name, module)
    for name, module in result.named_modules():  # fx puts empty modules in the place of containers
        module.training = root.get_submodule(name).training
    for name, parameter in root._parameters.items():
        result.register_parameter(name, parameter)
    for name, buffer in root._buffers.items():
        result.register_buffer(name, buffer, persistent=name not in root._non_persistent_buffers_set)
    return result


def _with_counterparts(model: nn.Module, decisions: Decisions) -> nn.Module:
    """A copy with the converted layers replaced; a shared one by one counterpart under all its names."""
    copied = copy.deepcopy(model)
    counterparts = {
        copied.get_submodule(name): _placed_like(quantized(copied.get_submodule(name), spec), copied)
        for name, spec in decisions.layers.items()
    }
    for name, module in list(copied.named_modules(remove_duplicate=False)):
        if module in counterparts:
            parent, _, child = name.rpartition(".")
            copied.get_submodule(parent).add_module(child, counterparts[module])
    return copied


def _can_stand_behind(model: nn.Module, graph: fx.Graph, node: fx.Node) -> bool:
    """Whether the layer that ``node`` calls can be followed by another: once called, and in plain Sequentials only."""
    if [other.target for other in graph.nodes].count(node.target) != 1 or node.op != "call_module":
        return False
    layer = model.get_submodule(str(node.target))
    if [module for _, module in model.named_modules(remove_duplicate=False)].count(layer) != 1:
        return False
    parts = str(node.target).split(".")
    return all(type(model.get_submodule(".".join(parts[:depth]))) is nn.Sequential for depth in range(len(parts)))


def _insert(parent: nn.Module, child: str, name: str, layer: nn.Module) -> None:
    """``layer`` called ``name`` right behind the ``child`` of a Sequential, whose other names stay."""
    children = list(parent._modules.items())
    parent._modules.clear()
    for each, module in children:
        parent.add_module(each, module)
        if each == child:
            parent.add_module(name, layer)


def _check_calls(made: nn.Module, decisions: Decisions) -> None:
    """A forward of the user's may ask its layers for their class, and then do another thing with a quantized one."""
    expected: list[object] = []
    for node in decisions.graph.nodes:
        if node.op != "placeholder":
            expected.append(node.target)
        if node in decisions.behind:
            expected.append(decisions.behind[node].name)
    try:
        found = [node.target for node in LayerTracer().trace(made).nodes if node.op != "placeholder"]
    except (NameError, fx.proxy.TraceError, TypeError, ValueError, AttributeError):
        found = []  # it holds on to the float layers by another way than their names
    if found != expected:
        raise UnsupportedLayer(
            f"{type(made).__name__}: its forward does another thing once its layers are quantized; do not let it ask "
            "for the class of a layer, or keep layers in plain lists"
        )


def _quantizer(spec: QuantSpec, model: nn.Module) -> nn.Module:
    return _placed_like(quantizer(spec).train(model.training), model)


def _placed_like(module: nn.Module, model: nn.Module) -> nn.Module:
    """``module`` on the device and of the float type of ``model``'s parameters, where it has any."""
    reference = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return module.to(reference)
