"""Wiring: which layer feeds which, and so what dies with a neuron or a channel that is pruned.

A neuron without weights hands on a constant, and the weights that read it do nothing that a bias could not. They are
pruned with it; where that takes the last weight of a depthwise filter, so are those behind that one, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from compress.layers import Kind, kind
from compress.mask import join, prunable
from compress.quantize import LayerTracer, UnsupportedLayer


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Where the inputs of a layer come from: its input ``i`` is of output channel ``i // span`` of ``producer``."""

    producer: str  # the plain name of a weight
    span: int = 1  # inputs per channel: the pixels of one, where a flattening laid them out in a row
    groups: int = 1  # of the reading layer, if a convolution

    def dead_inputs(self, dead: Tensor, weight: torch.Size) -> Tensor:
        """True where a weight of shape ``weight`` reads one of the ``dead`` (channels,) of the producer."""
        inputs = dead.repeat_interleave(self.span).reshape(self.groups, 1, weight[1])
        of_output = inputs.expand(-1, weight[0] // self.groups, -1).reshape(weight[0], weight[1])
        return of_output.reshape(weight[0], weight[1], *[1] * (len(weight) - 2)).expand(weight)


def without_dead(masks: Mapping[str, Tensor], feeds: Mapping[str, Feed]) -> dict[str, Tensor]:
    """``masks`` (True: kept) with every weight pruned, too, that reads a neuron or channel without weights.

    ``feeds`` by the plain name of the reading weight, in the order the network runs.
    """
    alive = dict(masks)
    for name, feed in feeds.items():
        dead = ~alive[feed.producer].flatten(1).any(dim=1)
        alive[name] = alive[name] & ~feed.dead_inputs(dead, alive[name].shape)
    return alive


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """The prunable weights of a network, by plain name, and what connects them."""

    feeds: Mapping[str, Feed]  # by the reading weight, in the order the network runs
    outputs: frozenset[str]  # of the layers whose neurons or channels are the network's own outputs


def wiring_of(model: nn.Module) -> Wiring:
    """The layers that are fed by one other layer through channel-wise ones, and those that nothing but such follow.

    Followed are batch norm, activations, dropout, pooling behind convolutions, and flattening. A layer used twice, a
    sum, a concatenation or any other call ends the trail: what lies behind it has no feed. Raises ``ValueError`` for a
    model that ``torch.fx`` cannot trace.
    """
    weights = prunable(model)
    try:
        graph = LayerTracer().trace(model)
    except UnsupportedLayer as error:
        raise UnsupportedLayer(f"{error}, or prune single weights: what dies with a neuron is not known") from error
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    trails: dict[fx.Node, _Trail] = {}
    feeds: dict[str, Feed] = {}
    outputs: set[str] = set()
    for node in graph.nodes:
        sources = [trails[source] for source in node.all_input_nodes if source in trails]
        if node.op == "output":
            outputs |= {trail.producer for trail in sources}
        elif node.op == "call_module" and (name := join(str(node.target), "weight")) in weights:
            layer = model.get_submodule(str(node.target))
            if isinstance(layer, _LAYERS) and calls.count(str(node.target)) == 1:
                if sources and (feed := sources[0].feed(weights[name].shape, layer)) is not None:
                    feeds[name] = feed
                trails[node] = _Trail(name, tuple(weights[name].shape))
        elif len(sources) == 1:
            after = _through(node, model, sources[0])
            if after is not None:
                trails[node] = after
    return Wiring(feeds=feeds, outputs=frozenset(outputs))


@dataclass(frozen=True)
class _Trail:
    """What a tensor of the network is: the outputs of one layer, each channel by itself."""

    producer: str
    weight: tuple[int, ...]
    flat: bool = False

    @property
    def pixel_axes(self) -> int:
        """Of the producer's outputs, behind the axis of its channels; 0 for a dense layer."""
        return len(self.weight) - 2

    def feed(self, weight: torch.Size, reader: nn.Module) -> Feed | None:
        groups = getattr(reader, "groups", 1)
        channels, inputs = self.weight[0], weight[1] * groups
        if len(weight) == len(self.weight) and not (self.flat and self.pixel_axes) and inputs == channels:
            return Feed(producer=self.producer, groups=groups)
        if len(weight) == 2 and self.flat and self.pixel_axes and inputs % channels == 0:
            return Feed(producer=self.producer, span=inputs // channels)
        return None


_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
_ONE_BY_ONE = (
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.BatchNorm1d, nn.BatchNorm2d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Tanh, nn.Sigmoid),
    *(nn.ELU, nn.GELU, nn.SiLU, nn.Softplus),
)
#: By the number of axes that a picture has.
_POOLING: dict[int, tuple[type[nn.Module], ...]] = {
    1: (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
    2: (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
}
_ONE_BY_ONE_CALLS = frozenset({torch.relu, nn.functional.relu, torch.tanh, torch.sigmoid, "relu", "tanh", "sigmoid"})


def _through(node: fx.Node, model: nn.Module, trail: _Trail) -> _Trail | None:
    """``trail`` behind ``node``; None where channels no longer stand for themselves."""
    flat = _Trail(trail.producer, trail.weight, flat=True)
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if isinstance(module, nn.Flatten):
            return flat if (module.start_dim, module.end_dim) == (1, -1) else None
        pooling = not trail.flat and isinstance(module, _POOLING.get(trail.pixel_axes, ()))
        # Of the quantized layers that are told apart those without weights are activations.
        activation = kind(module) not in (None, Kind.OTHER)
        return trail if pooling or activation or isinstance(module, _ONE_BY_ONE) else None
    if node.target in _ONE_BY_ONE_CALLS:
        return trail
    if node.target in (torch.flatten, "flatten"):
        dims = {**dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)), **node.kwargs}
        return flat if dims in ({"start_dim": 1}, {"start_dim": 1, "end_dim": -1}) else None
    return None
