"""Snapshots: everything a training consists of at one step, as a value, and the way back to it.

Every tensor in a snapshot is a copy. (A state dict holds references: kept without copying it follows the training,
and "rewinding" to it does nothing.) A rewind brings back the parameters, the buffers (batch-norm statistics,
activation scales), plain numbers that modules keep beside them (whether a scale has been calibrated), the optimiser's
state and the random generators. The learning rate is a function of the step, so the step brings it back. Masks are not
part of a snapshot: a rewound network keeps the ones it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress.mask import join, layers, masks_of, plain_parameters

Number = bool | int | float


class ArchitectureError(ValueError):
    """A saved state that belongs to another network. The message names the first tensor that differs."""


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """What a network is made of, by plain name, masked or not. Pruned weights are +0.0.

    The names and shapes of ``tensors`` and what ``layers`` say of themselves are the fingerprint of the architecture.
    """

    layers: Mapping[str, str]  # e.g. {"fc1": "QuantLinear(16, 64, 6-bit weights, 16-bit bias)"}
    tensors: Mapping[str, Tensor]  # parameters and buffers, on the CPU
    numbers: Mapping[str, Number]  # attributes of modules, e.g. {"act.scaling.counter": 300}


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A training before its step ``step``, counted in optimiser steps from 0."""

    step: int
    model: ModelState
    optimizer: Mapping[str, Any]  # torch's state dict; parameters numbered as in ``compress.mask.plain_parameters``
    generators: Mapping[str, Tensor]  # states by name; that of the data order dates from the start of its epoch

    def to_plain(self) -> dict[str, Any]:
        """As nested dicts that ``torch.load(weights_only=True)`` reads."""
        return {**vars(self), "model": vars(self.model)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Snapshot:
        return cls(**{**plain, "model": ModelState(**plain["model"])})


def model_state(model: nn.Module) -> ModelState:
    """A copy of the state of ``model``.

    Raises ``ValueError`` for a scripted module: its numbers (Brevitas counts its calibration in one) are out of reach.
    """
    masks = masks_of(model)
    values = {
        name: torch.where(masks[name], tensor, 0.0) if name in masks else tensor.clone()
        for name, tensor in _tensors(model).items()
    }
    return ModelState(
        layers=_layers(model),
        tensors={name: value.detach().cpu() for name, value in values.items()},
        numbers={
            join(prefix, name): value
            for prefix, module in layers(model)
            for name, value in _numbers(prefix, module).items()
        },
    )


def restore_model(model: nn.Module, state: ModelState, source: str = "the snapshot") -> None:
    """Put ``state`` into ``model``, in place, on its device, under the masks it has.

    All is checked before anything changes: raises :class:`ArchitectureError` where names or shapes differ; ``source``
    says in its message where the state came from.
    """
    check_architecture(model, state, source)
    masks = masks_of(model)
    with torch.no_grad():
        for name, tensor in _tensors(model).items():
            tensor.copy_(state.tensors[name])
            if name in masks:
                tensor.masked_fill_(~masks[name], 0.0)
    for prefix, module in layers(model):
        for name in _numbers(prefix, module):
            if join(prefix, name) in state.numbers:
                setattr(module, name, state.numbers[join(prefix, name)])


def check_architecture(model: nn.Module, state: ModelState, source: str) -> None:
    """Raises :class:`ArchitectureError` for the first tensor, then the first layer, in which model and state differ."""
    cure = "build the model that was saved, or take a checkpoint of this one"
    live = _tensors(model)
    for name, tensor in live.items():
        shape = tuple(tensor.shape)
        if name not in state.tensors:
            raise ArchitectureError(f"{name}: {source} has no such tensor, the model has one of shape {shape}; {cure}")
        if (saved := tuple(state.tensors[name].shape)) != shape:
            raise ArchitectureError(f"{name}: shape {saved} in {source}, {shape} in the model; {cure}")
    for name, tensor in state.tensors.items():
        if name not in live:
            raise ArchitectureError(
                f"{name}: of shape {tuple(tensor.shape)} in {source}, the model has no such tensor; {cure}"
            )
    # Shapes do not tell 4 bits from 6, nor ReLU from an identity.
    here = _layers(model)
    for name in [*here, *(name for name in state.layers if name not in here)]:
        if (there := state.layers.get(name)) != here.get(name):
            raise ArchitectureError(f"{name}: {there} in {source}, {here.get(name)} in the model; {cure}")


def take_snapshot(
    step: int, model: nn.Module, optimizer: torch.optim.Optimizer, generators: Mapping[str, Tensor]
) -> Snapshot:
    """Copies of everything, to come back to; ``generators`` are states as ``torch.Generator.get_state`` gives them."""
    return Snapshot(
        step=step,
        model=model_state(model),
        optimizer=_copied(optimizer.state_dict()),
        generators={name: state.clone() for name, state in generators.items()},
    )


def rewind(
    snapshot: Snapshot, model: nn.Module, optimizer: torch.optim.Optimizer, source: str = "the snapshot"
) -> None:
    """Bring ``model`` and ``optimizer`` back to ``snapshot``, under the masks the model has now.

    The optimiser must number its parameters as the one that was saved did. Its memory of pruned weights is zeroed, so
    that even the tensors behind the masks stay zero. The generators' states are the caller's to set.
    """
    restore_model(model, snapshot.model, source)
    optimizer.load_state_dict(_copied(dict(snapshot.optimizer)))
    parameters = plain_parameters(model)
    for name, mask in masks_of(model).items():
        for moment in optimizer.state.get(parameters[name], {}).values():
            if isinstance(moment, Tensor) and moment.shape == mask.shape:
                moment.masked_fill_(~mask, 0.0)


def _copied(state: Any) -> Any:
    """Nested containers with a copy of every tensor in them; of a view the part that it shows."""
    match state:
        case Tensor():
            return state.clone()
        case dict():
            return {key: _copied(value) for key, value in state.items()}
        case list() | tuple():
            return type(state)(map(_copied, state))
    return state


def _layers(model: nn.Module) -> dict[str, str]:
    """The outermost modules that describe themselves in one line, and the innermost of the others.

    Of torch's own the class alone: what they print besides changes from version to version.
    """
    found: dict[str, str] = {}
    for name, module in layers(model):
        if any(name.startswith(f"{outer}.") for outer in found):
            continue
        kind = parametrize.type_before_parametrizations(module)
        foreign = not kind.__module__.startswith("torch.")
        if foreign and kind.__repr__ is not nn.Module.__repr__:
            found[name] = repr(module)
        elif (foreign and module.extra_repr()) or len(list(layers(module))) == 1:
            found[name] = f"{kind.__name__}({module.extra_repr() if foreign else ''})"
    return found


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The live parameters and buffers by plain name, the masks left out."""
    buffers = {
        join(prefix, name): buffer
        for prefix, module in layers(model)
        for name, buffer in module.named_buffers(recurse=False)
    }
    return {**plain_parameters(model), **buffers}


def _numbers(prefix: str, module: nn.Module) -> dict[str, Number]:
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            f"{prefix or 'the model'} is a scripted module, whose calibration cannot be saved; "
            "build the model without torch.jit (unset BREVITAS_JIT)"
        )
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, (bool, int, float)) and name != "training"
    }
