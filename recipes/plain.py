"""Dataclasses as plain values (what JSON and command lines can hold) and, checked against their types, back."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class PlainError(ValueError):
    """A plain value that does not fit its type. The message names the place, the value and what is needed."""


def to_plain(value: Any) -> Any:
    """Dataclasses become dicts by field, enums their values, tuples lists and paths strings; all else stays."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: to_plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(kind: type[T], plain: Any, where: str) -> T:
    """The inverse of :func:`to_plain`. Raises :class:`PlainError` naming ``where`` and the place in it."""
    built: T = _build(kind, plain, where)
    return built


def parse_setting(kind: type, key: str, text: str) -> Any:
    """What ``key=text`` on a command line means for a dataclass ``kind``, as a plain value.

    ``key`` may lead through inner dataclasses, ``training.epochs``. Lists are comma separated; ``none`` is None.
    """
    hint: Any = kind
    path = key.split(".")
    for depth, name in enumerate(path):
        if not is_dataclass(hint):
            raise PlainError(f"--set {key}: {'.'.join(path[:depth])} is a single value and has no {name}")
        hints = _hints(hint)
        if name not in hints:
            raise PlainError(f"--set {key}: {_unknown(name, hints)}")
        hint = hints[name]
    if is_dataclass(hint):
        raise PlainError(f"--set {key}: it has parts of its own; set one of them: {', '.join(_hints(hint))}")
    return _parse(hint, text, f"--set {key}={text}")


def with_setting(plain: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of nested ``plain`` values with the one at the dotted ``key`` replaced."""
    name, _, rest = key.partition(".")
    return {**plain, name: with_setting(plain[name], rest, value) if rest else value}


def _build(hint: Any, plain: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint):
        return _build_dataclass(hint, plain, where)
    if origin in (types.UnionType, typing.Union):
        if plain is None and type(None) in arguments:
            return None
        (hint,) = (argument for argument in arguments if argument is not type(None))
        return _build(hint, plain, where)
    if origin is tuple:
        if not isinstance(plain, list):
            raise PlainError(f"{where}: {plain!r} where a list is needed")
        return tuple(_build(arguments[0], inner, f"{where}[{index}]") for index, inner in enumerate(plain))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(plain, dict):
            raise PlainError(f"{where}: {plain!r} where an object is needed")
        return {key: _build(arguments[1], inner, f"{where}.{key}") for key, inner in plain.items()}
    if issubclass(hint, Enum):
        try:
            return hint(plain)
        except ValueError:
            raise PlainError(f"{where}: {plain!r} is none of {', '.join(member.value for member in hint)}") from None
    if hint is float and isinstance(plain, int) and not isinstance(plain, bool):
        return float(plain)
    if not isinstance(plain, hint) or (isinstance(plain, bool) and hint is not bool):
        raise PlainError(f"{where}: {plain!r} where {_NOUNS.get(hint, hint.__name__)} is needed")
    return plain


def _build_dataclass(kind: Any, plain: Any, where: str) -> Any:
    if not isinstance(plain, dict):
        raise PlainError(f"{where}: {plain!r} where an object is needed")
    hints = _hints(kind)
    for name in plain:
        if name not in hints:
            raise PlainError(f"{where}: {_unknown(name, hints)}")
    if missing := [name for name in hints if name not in plain]:
        raise PlainError(f"{where}: it lacks {', '.join(missing)}")
    return kind(**{name: _build(hint, plain[name], f"{where}.{name}") for name, hint in hints.items()})


def _parse(hint: Any, text: str, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if text.lower() == "none":
            return None
        # Of several kinds the first is the one that a line of text can say.
        return _parse(next(argument for argument in arguments if argument is not type(None)), text, where)
    if origin is tuple:
        return [_parse(arguments[0], part.strip(), where) for part in text.split(",") if part.strip()]
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise PlainError(f"{where}: true or false is needed")
        return text.lower() == "true"
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise PlainError(f"{where}: {_NOUNS[hint]} is needed") from None
    if issubclass(hint, Enum) and text not in (choices := [member.value for member in hint]):
        raise PlainError(f"{where}: {text} is none of {', '.join(choices)}")
    return text


_NOUNS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"there is no {name}; " + (f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}")
