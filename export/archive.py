"""A graph as JSON and back: to keep one, to send one, to have one that once disagreed run in the tests for ever.

    write_bytes(path, dumped(graph).encode())
    graph = loaded(path.read_text())

Everything that a graph says is in it, and nothing else: loading gives an equal graph, with the same digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

from compress.fixed import FixedPoint, Overflow, Rounding
from export import ops
from export.ir import Const, Graph, GraphError, Op, Tensor
from export.modes import Modes
from export.ops import windows
from export.scales import Reading

#: Goes up when an older file is no longer understood.
VERSION = 1

_KIND = "is"


def dumped(graph: Graph) -> str:
    """One line of JSON. Raises GraphError for an op with a field of a type that is not known here."""
    return json.dumps({"version": VERSION, "graph": _plain(graph, graph.name)})


def loaded(text: str) -> Graph:
    """The graph, verified. Raises GraphError for a text that is none, and for one of another version."""
    try:
        content = json.loads(text)
        version = content["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise GraphError(f"this is no graph that was dumped here: {error}") from error
    if version != VERSION:
        raise GraphError(f"this graph was dumped in version {version}, here is {VERSION}; dump it again")
    try:
        graph = _built(content["graph"])
    except (TypeError, KeyError, AttributeError) as error:
        raise GraphError(f"this graph is damaged: {error!r}") from error
    if not isinstance(graph, Graph):
        raise GraphError(f"this is a dumped {type(graph).__name__}, not a graph")
    return graph.verify()


def _subclasses(kind: type) -> Iterator[type]:
    children: list[type] = kind.__subclasses__()
    for child in children:
        yield child
        yield from _subclasses(child)


def _kinds() -> dict[str, type]:
    """Everything that may stand in a field of a graph or an op, by name."""
    values = (Graph, Reading, Tensor, FixedPoint, Modes, windows.Window, windows.Sliding, windows.Adaptive)
    known = [*values, *(kind for kind in _subclasses(Op) if kind.__module__.startswith(f"{ops.__package__}."))]
    return {kind.__name__: kind for kind in known}


_ENUMS: Mapping[str, type[Enum]] = {kind.__name__: kind for kind in (Rounding, Overflow)}


def _plain(value: Any, where: str) -> Any:
    match value:
        case None | bool() | str():
            return value
        case int() | np.integer():
            return int(value)
        case Fraction():
            return {_KIND: "Fraction", "ratio": [value.numerator, value.denominator]}
        case Enum() if type(value).__name__ in _ENUMS:
            return {_KIND: type(value).__name__, "name": value.name}
        case Const():
            codes = [int(code) for code in value.codes.ravel()]
            return {_KIND: "Const", "format": _plain(value.format, where), "shape": list(value.shape), "codes": codes}
        case tuple():
            return [_plain(each, where) for each in value]
    if is_dataclass(value) and type(value).__name__ in _kinds():
        inside = value.name if isinstance(value, Op) else where
        content = {f.name: _plain(getattr(value, f.name), inside) for f in fields(value) if f.init}
        return {_KIND: type(value).__name__, **content}
    raise GraphError(f"{where}: holds a {type(value).__name__}, which export.archive does not know; tell it there")


def _built(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(_built(each) for each in plain)
    if not isinstance(plain, dict):
        return plain
    content = dict(plain)
    kind = content.pop(_KIND)
    if kind == "Fraction":
        return Fraction(*content["ratio"])
    if kind in _ENUMS:
        return _ENUMS[kind][content["name"]]
    if kind == "Const":
        codes = np.array(content["codes"], dtype=object).reshape(content["shape"])
        return Const(codes, _built(content["format"]))
    known = _kinds()
    if kind not in known:
        raise GraphError(f"this graph has a {kind}, which is not known here; use the version of qapsule that dumped it")
    return known[kind](**{name: _built(each) for name, each in content.items()})
