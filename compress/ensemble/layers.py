"""Which networks an ensemble can hold, read off the models layer by layer; the others are refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from compress.fakequant import Grid
from compress.layers import QuantIdentity, QuantLinear, QuantReLU
from compress.mask import join, plain_parameters
from compress.spec import Range

#: What a specification may say freely of a layer; what else concerns that layer must be as it comes.
_FREE = {"input_signed"} | {
    f"{of}_{what}" for of in ("weight", "bias", "activation", "input") for what in ("width", "frac")
}
#: How the names of the fields begin that concern one kind of layer only.
_CONCERNS = {
    QuantLinear: ("weight_", "bias_", "output_", "accumulator"),
    QuantReLU: ("activation_",),
    QuantIdentity: ("input_",),
}


class Kind(Enum):
    LINEAR = "linear"
    NORM = "batch norm"
    RELU = "float ReLU"
    ACTIVATION = "quantized activation"


_KINDS: dict[type, Kind | None] = {
    nn.Linear: Kind.LINEAR,
    QuantLinear: Kind.LINEAR,
    nn.BatchNorm1d: Kind.NORM,
    nn.ReLU: Kind.RELU,
    QuantReLU: Kind.ACTIVATION,
    QuantIdentity: Kind.ACTIVATION,
    nn.Flatten: None,
    nn.Identity: None,
}


@dataclass(frozen=True)
class Layer:
    """One layer of every replica."""

    name: str
    kind: Kind
    modules: tuple[Any, ...]

    @property
    def grids(self) -> tuple[Grid, ...] | None:
        """Of the weights, or of the activations; None for floats."""
        if not hasattr(self.modules[0], "spec"):
            return None
        specs = [module.spec for module in self.modules]
        if self.kind is Kind.LINEAR:
            return tuple(spec.weight_grid for spec in specs)
        return tuple(spec.activation_grid if self.rectifies else spec.input_grid for spec in specs)

    @property
    def bias_grids(self) -> tuple[Grid, ...] | None:
        """None where there is no bias, and for float ones."""
        first = self.modules[0]
        if first.bias is None or not hasattr(first, "spec") or first.spec.bias_grid is None:
            return None
        return tuple(module.spec.bias_grid for module in self.modules)

    def name_of(self, parameter: str) -> str:
        return join(self.name, parameter)

    @property
    def rectifies(self) -> bool:
        """Whether an activation sets negative numbers to zero first."""
        return isinstance(self.modules[0], QuantReLU)

    @property
    def learns(self) -> bool:
        """Whether a gradient has to reach it."""
        return self.kind in (Kind.LINEAR, Kind.NORM) or any(True for _ in self.modules[0].parameters())


def layers_of(models: Sequence[nn.Module]) -> tuple[Layer, ...]:
    """The layers that compute something, in order.

    Raises ``ValueError`` naming the replica and the layer that an ensemble cannot hold, or in which they differ.
    """
    _check_separate(models)
    rows = [list(_flattened("", model)) for model in models]
    for i, row in enumerate(rows):
        for name, module in row:
            if why := _unsupported(module):
                where = f"layer {name}" if name else "the model"
                raise ValueError(f"replica {i}, {where}: {why} cannot be trained in an ensemble; train it alone")
        for (name, module), (first_name, first) in zip(row, rows[0], strict=False):
            if (here := (name, _shape(module))) != (there := (first_name, _shape(first))):
                raise ValueError(
                    f"replica {i} has {_words(*here)} where replica 0 has {_words(*there)}; replicas of one ensemble "
                    "differ in widths, seeds and masks alone"
                )
        if len(row) != len(rows[0]):
            raise ValueError(f"replica {i} has {len(row)} layers, replica 0 has {len(rows[0])}; they must be alike")
    columns = zip(*rows, strict=True)
    found = [(column[0][0], tuple(module for _, module in column)) for column in columns]
    kinds = [(name, _KINDS[_class(modules[0])], modules) for name, modules in found]
    layers = tuple(Layer(name, kind, modules) for name, kind, modules in kinds if kind is not None)
    if not any(layer.kind is Kind.LINEAR for layer in layers):
        raise ValueError("an ensemble needs networks with a linear layer")
    return layers


def features_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``x`` as rows of features, (rows, features), which is what the first layer that computes something reads.

    Raises ``ValueError`` for data of another type or of more dimensions than the network flattens.
    """
    name, first = next(_flattened("", model))
    if x.dtype != torch.float32 or (x.dim() != 2 and _class(first) is not nn.Flatten):
        raise ValueError(
            f"an ensemble trains on float32 features of shape (rows, features), these are {x.dtype} of shape "
            f"{tuple(x.shape)}; convert them, or begin the network with a Flatten (it begins with {name}, a "
            f"{_class(first).__name__})"
        )
    return x.flatten(1)


def _flattened(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if _class(module) is nn.Sequential and not _hooked(module):
        for child, inner in module.named_children():
            yield from _flattened(join(name, child), inner)
    else:
        yield name, module


def _class(module: nn.Module) -> type:
    return parametrize.type_before_parametrizations(module)


def _hooked(module: nn.Module) -> bool:
    return any(getattr(module, f"_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre"))


def _unsupported(module: nn.Module) -> str | None:
    """Why an ensemble cannot hold this module, in words that end before "cannot be trained"."""
    kind = _class(module)
    if kind not in _KINDS:
        return f"a {kind.__name__}"
    if _hooked(module):
        return f"a {kind.__name__} with hooks"
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            return f"a {kind.__name__} with a frozen {name.rpartition('.')[2]}"
        if parameter.dtype != torch.float32:
            return f"a {kind.__name__} in {parameter.dtype}"
    match module:
        case nn.Flatten() if (module.start_dim, module.end_dim) != (1, -1):
            return f"a Flatten from {module.start_dim} to {module.end_dim}"
        case nn.BatchNorm1d() if module.momentum is None or not module.affine or not module.track_running_stats:
            return "a BatchNorm1d without a momentum, parameters or running statistics"
        case QuantLinear() | QuantReLU() | QuantIdentity():
            return _unsupported_quantizer(module)
    return None


def _unsupported_quantizer(module: QuantLinear | QuantReLU | QuantIdentity) -> str | None:
    kind, spec = _class(module).__name__, module.spec
    others = tuple(start for of, starts in _CONCERNS.items() if of is not _class(module) for start in starts)
    if not module.lean:
        return f"a {kind} with lean=False"
    for field in fields(spec):
        value = getattr(spec, field.name)
        usual = value == field.default or (field.name == "weight_range" and value is Range.LARGEST)
        if not usual and field.name not in _FREE and not field.name.startswith(others):
            return f"a {kind} with {field.name}={value}"
    if isinstance(module, QuantLinear):
        return f"a {kind} with binary weights" if spec.weight_grid.width == 1 else None
    grid = spec.activation_grid if isinstance(module, QuantReLU) else spec.input_grid
    if grid.signed and (grid.width == 1 or grid.narrow):
        return f"a {kind} with binary or ternary values"
    return None


def _shape(module: Any) -> tuple[object, ...]:
    """What all replicas must have in common in one layer, in words and numbers."""
    kind = _class(module)
    match module:
        case nn.Linear():
            shape = (module.in_features, module.out_features)
            bias = "without bias" if module.bias is None else "with a bias"
            if not isinstance(module, QuantLinear):
                return kind.__name__, shape, bias
            grid = module.spec.bias_grid
            if module.bias is not None:
                bias = "with a float bias" if grid is None else f"with biases in {_point(grid)}"
            return kind.__name__, shape, f"weights in {_point(module.spec.weight_grid)}", bias
        case nn.BatchNorm1d():
            return kind.__name__, module.num_features, f"momentum {module.momentum}", f"eps {module.eps}"
        case QuantReLU():
            return kind.__name__, _point(module.spec.activation_grid)
        case QuantIdentity():
            return kind.__name__, _point(module.spec.input_grid)
    return (kind.__name__,)


def _point(grid: Grid) -> str:
    return "a range of their own" if grid.frac is None else "a constant range"


def _words(name: str, shape: tuple[object, ...]) -> str:
    return f"{name} ({', '.join(map(str, shape))})"


def _check_separate(models: Sequence[nn.Module]) -> None:
    owners: dict[int, tuple[int, str]] = {}
    for i, model in enumerate(models):
        for name, parameter in plain_parameters(model).items():
            j, other = owners.setdefault(id(parameter), (i, name))
            if (i, name) != (j, other):
                raise ValueError(
                    f"{name} of replica {i} is the same tensor as {other} of replica {j}; "
                    "give each its own (copy.deepcopy the model)"
                )
