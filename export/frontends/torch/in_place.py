"""Calls that write over what they read, which is harmless as long as nobody reads that afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import fx, nn
from torch.nn import functional as F

from compress.quantize import writes_in_place
from export.frontends.torch.movement import FUNCTIONS, METHODS, TAKING

#: Layers whose result is, or may be, the memory that they read.
_VIEWS = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Flatten, nn.Unflatten)
#: Calls that move numbers into memory of their own; all others may leave them where they are.
_COPIES = frozenset(
    {torch.flip, torch.fliplr, torch.roll, torch.rot90, torch.tile, torch.repeat_interleave, torch.tril, torch.triu}
    | {F.pad, F.interpolate, F.upsample, F.pixel_shuffle, F.pixel_unshuffle, torch.channel_shuffle, F.unfold}
    | {"flip", "fliplr", "roll", "rot90", "tile", "repeat", "repeat_interleave", "tril", "triu", "clone"}
)
_VIEW_CALLS = frozenset({*FUNCTIONS, *TAKING, *METHODS, "float", "double"}) - _COPIES


def later_reader(node: fx.Node, modules: Mapping[str, nn.Module]) -> fx.Node | None:
    """Who reads, after ``node``, what that has written over; None if nobody does, or it writes nowhere."""
    if not writes_in_place(node, modules.get(str(node.target)) if node.op == "call_module" else None):
        return None
    source = node.args[0]
    while isinstance(source, fx.Node) and _is_view(source, modules):
        source = source.args[0]
    if not isinstance(source, fx.Node):
        return None
    order = {each: place for place, each in enumerate(node.graph.nodes)}
    readers = {reader for same in _same_memory(source, node, modules) for reader in same.users if reader is not node}
    return next((reader for reader in readers if order[reader] > order[node] and not _asks_for_shape(reader)), None)


def _same_memory(source: fx.Node, writer: fx.Node, modules: Mapping[str, nn.Module]) -> Iterator[fx.Node]:
    """``source`` and its views; not what ``writer`` returns, whose readers expect what is written."""
    yield source
    for reader in source.users:
        if reader is not writer and _is_view(reader, modules):
            yield from _same_memory(reader, writer, modules)


def _is_view(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], _VIEWS)
    return node.op in ("call_function", "call_method") and node.target in _VIEW_CALLS


def _asks_for_shape(node: fx.Node) -> bool:
    """Whatever is written, the shape stays."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "ndimension")
    return node.target is getattr and node.args[1] in ("shape", "ndim")
