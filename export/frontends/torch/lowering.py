"""Which layer and which call of torch has a lowering: tables that the files beside this one fill.

    @of_layer(nn.PReLU)
    def prelu(site: Site, module: nn.PReLU, x: Operand) -> Value: ...

    @of_call(torch.argmax, "argmax")
    def arg_max(site: Site, x: Operand, dim: int | None = None, keepdim: bool = False) -> Value: ...

A lowering gets the operands in the places of the tensors, and every other argument as the user wrote it. Calls that
``compress.quantize`` knows as layers (``F.max_pool2d``) are lowered as those, and need no entry of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from numpy.typing import NDArray
from torch import nn

from compress import layers
from export.frontends.builder import Builder
from export.frontends.precision import Precision
from export.frontends.value import Raw, UnsupportedLayer, Value

#: What stands for a tensor of the user's model.
Operand: TypeAlias = Value | Raw
Lowering: TypeAlias = Callable[..., Any]
_Made = TypeVar("_Made", bound=Lowering)


class Batch:
    """The number of samples, whatever it is: what ``x.shape[0]`` says."""


BATCH = Batch()


@dataclass(frozen=True, eq=False)
class Constant:
    """A parameter or a buffer that a forward of the user's reads by itself."""

    name: str
    values: NDArray[Any]


@dataclass(frozen=True)
class Site:
    """A place in the user's model: its name, what builds the graph, and the formats stated for it."""

    label: str
    build: Builder
    precision: Precision | None = None

    def settled(self, x: Operand) -> Value:
        """``x``, which something must have quantized."""
        if isinstance(x, Raw):
            raise UnsupportedLayer(
                f"{self.label}: the input width is missing: nothing quantizes the model's input before it; put a "
                "QuantIdentity in front of the model, or pass input_format=FixedPoint(width, frac)"
            )
        return x

    def refusal(self, message: str) -> UnsupportedLayer:
        return UnsupportedLayer(f"{self.label}: {message}")


_LAYERS: dict[type[nn.Module], Lowering] = {}
_KINDS: dict[layers.Kind, Lowering] = {}
_CALLS: dict[Any, Lowering] = {}
_OF_CONSTANTS: set[Any] = set()


def of_layer(*known: type[nn.Module] | layers.Kind) -> Callable[[_Made], _Made]:
    """Registers the lowering of float layers by class, of quantized ones, ours or Brevitas's, by kind."""

    def register(lowering: _Made) -> _Made:
        for one in known:
            if isinstance(one, layers.Kind):
                _KINDS[one] = lowering
            else:
                _LAYERS[one] = lowering
        return lowering

    return register


def of_call(*targets: Any, constants: bool = False) -> Callable[[_Made], _Made]:
    """Registers the lowering of functions, and of methods by name; with ``constants`` one that takes those too."""

    def register(lowering: _Made) -> _Made:
        _CALLS.update(dict.fromkeys(targets, lowering))
        if constants:
            _OF_CONSTANTS.update(targets)
        return lowering

    return register


def layer_lowering(module: nn.Module) -> Lowering | None:
    if (kind := layers.kind(module)) is not None and kind in _KINDS:
        return _KINDS[kind]
    return next((lowering for layer, lowering in _LAYERS.items() if _is_a(module, layer)), None)


def call_lowering(target: Any) -> Lowering | None:
    return _CALLS.get(target)


def takes_constants(target: Any) -> bool:
    return target in _OF_CONSTANTS


def is_whole(module: nn.Module) -> bool:
    """Whether ``module`` is a layer that is read as a whole, whoever wrote it."""
    return any(_is_a(module, layer) for layer in _LAYERS)


def supported() -> tuple[str, ...]:
    """The layers of torch that have a lowering, by name."""
    return tuple(sorted(layer.__name__ for layer in _LAYERS))


def _is_a(module: nn.Module, layer: type[nn.Module]) -> bool:
    """A subclass with a forward of its own is another function, and traced like any module of the user's."""
    return isinstance(module, layer) and type(module).forward is layer.forward
