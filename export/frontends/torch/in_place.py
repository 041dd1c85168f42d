"""Calls that write over what they read, which is harmless as long as nobody reads that afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import fx, nn

from compress.quantize import SHAPE_CALLS, writes_in_place

#: Layers whose result is, or may be, the memory that they read.
_VIEWS = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Flatten, nn.Unflatten)


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
    return next((reader for reader in readers if order[reader] > order[node]), None)


def _same_memory(source: fx.Node, writer: fx.Node, modules: Mapping[str, nn.Module]) -> Iterator[fx.Node]:
    """``source`` and its views; not what ``writer`` returns, whose readers expect what is written."""
    yield source
    for reader in source.users:
        if reader is not writer and _is_view(reader, modules):
            yield from _same_memory(reader, writer, modules)


def _is_view(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], _VIEWS)
    return node.op in ("call_function", "call_method") and node.target in SHAPE_CALLS
