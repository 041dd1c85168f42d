"""Which spec a layer gets: its name goes before patterns and classes, and those go in the order given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import nn

from compress.layers import QuantIdentity, QuantSpec
from compress.quantize.decisions import Choice

Key: TypeAlias = str | type[nn.Module]

#: A layer's name, a pattern for names (``block*.fc?``) or a module class. None leaves the layer as it is.
Specs: TypeAlias = QuantSpec | Mapping[Key, QuantSpec | None]


class Keys:
    """The specs of one model, and what they have been asked for so far."""

    def __init__(self, specs: Specs) -> None:
        self.specs = specs
        self._layers: list[str] = []
        self._fitting: set[Key] = set()
        self._missing: list[str] = []

    def of_layer(self, names: Sequence[str], kind: type[nn.Module]) -> Choice:
        """The choice for a layer with these names (more than one if it is shared)."""
        if isinstance(self.specs, QuantSpec):
            self._layers.append(names[0])
            return Choice(self.specs, "all")
        if (choice := self.of_float_layer(names, kind)) is not None:
            return choice
        self._missing.append(f"{names[0]}: no spec fits this {kind.__name__}; add one for {names[0]!r} or for '*'")
        return Choice(None, "none")

    def of_float_layer(self, names: Sequence[str], kind: type[nn.Module]) -> Choice | None:
        """The choice for a layer that may do without one."""
        self._layers.append(names[0])
        if isinstance(self.specs, QuantSpec) or not (keys := self._keys(names, kind)):
            return None
        return Choice(self.specs[keys[0]], _written(keys[0]))

    def of_quantizer(self, name: str, fallback: Choice | None) -> Choice:
        """The choice for a quantizer that the conversion inserts.

        Its own name may say None, which leaves it out; patterns and classes that say None are not about it. Where no
        key says anything it gets the ``fallback``, the spec of the layer whose results it quantizes.
        """
        if isinstance(self.specs, QuantSpec):
            return Choice(self.specs, "all")
        self._layers.append(name)
        for key in self._keys((name,), QuantIdentity):
            if self.specs[key] is not None or key == name:
                return Choice(self.specs[key], _written(key))
        if fallback is None:
            self._missing.append(f"{name}: no spec fits this quantizer; add one for {name!r}")
        return fallback or Choice(None, "none")

    def check(self) -> None:
        """Raises ``ValueError`` for a key that fits nothing, and for a layer that no key fits."""
        if not isinstance(self.specs, QuantSpec) and (idle := [key for key in self.specs if key not in self._fitting]):
            layers = ", ".join(dict.fromkeys(self._layers)) or "none"
            raise ValueError(f"{', '.join(map(_written, idle))}: fits no layer; the layers to quantize are {layers}")
        if self._missing:
            raise ValueError(self._missing[0])

    def _keys(self, names: Sequence[str], kind: type[nn.Module]) -> list[Key]:
        """The fitting keys, the one that decides first."""
        if isinstance(self.specs, QuantSpec):
            return []
        fitting = [key for key in self.specs if _fits(key, names, kind)]
        self._fitting.update(fitting)
        return sorted(fitting, key=lambda key: key not in names)


def _fits(key: Key, names: Sequence[str], kind: type[nn.Module]) -> bool:
    if isinstance(key, str):
        return any(name == key or fnmatchcase(name, key) for name in names)
    return issubclass(kind, key)


def _written(key: Key) -> str:
    return repr(key) if isinstance(key, str) else key.__name__
