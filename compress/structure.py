"""Structures: which weights of a layer go together. A group of them is pruned as a whole or stays as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import TypeAlias

import torch
from torch import Tensor


class Group(Enum):
    """What the weights of a layer are grouped by."""

    WEIGHT = "weight"  # each by itself
    NEURON = "neuron"  # all that come into one output of a dense layer: a row
    CHANNEL = "channel"  # all that come into one output channel of a convolution: a filter
    MULTIPLIER = "multiplier"  # all that one multiplier of a time-multiplexed layer handles
    NONE = "none"  # nothing of the layer is ever pruned; its weights still count among the original ones


@dataclass(frozen=True, kw_only=True)
class Structure:
    """How one layer is cut into groups: ``WEIGHTS``, ``NEURONS``, ``CHANNELS``, ``multipliers(R)``, or ``SPARED``.

    A layer keeps at least one of its groups, the strongest, unless ``may_empty`` says that it may lose them all.
    (A layer without weights hands the same to the next one whatever comes in. Single weights may always all go.)
    """

    group: Group = Group.WEIGHT
    reuse_factor: int = 1  # products that share one multiplier; above 1 only with ``Group.MULTIPLIER``
    may_empty: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.group, Group):
            raise ValueError(f"group must be a Group ({', '.join(map(str, Group))}), got {self.group!r}")
        if not isinstance(self.reuse_factor, int) or self.reuse_factor < 1:
            raise ValueError(f"reuse_factor must be a whole number from 1 on, got {self.reuse_factor!r}")
        if self.may_empty and self.group is Group.NONE:
            raise ValueError(f"may_empty with {self.group}, of which nothing goes; leave one of them out")
        if self.reuse_factor > 1 and self.group is not Group.MULTIPLIER:
            raise ValueError(f"reuse_factor={self.reuse_factor} with {self.group}; only {Group.MULTIPLIER} has one")

    @property
    def keeps_one(self) -> bool:
        """Whether the strongest group of a layer is out of reach."""
        return self.group is not Group.WEIGHT and not self.may_empty

    @property
    def prunes(self) -> bool:
        """Whether anything of a layer may go at all."""
        return self.group is not Group.NONE

    def groups(self, name: str, shape: torch.Size) -> Tensor:
        """The group of every weight, numbered from 0 (int64, of ``shape``), for the tensor of the plain name ``name``.

        Weights are (outputs, inputs) or (output channels, input channels, pixels...). Raises ``ValueError`` for a
        structure that a layer of this shape does not have, and for an illegal reuse factor.
        """
        convolution = len(shape) > 2
        match self.group:
            case Group.WEIGHT:
                return torch.arange(shape.numel()).reshape(shape)
            case Group.NEURON | Group.CHANNEL if convolution == (self.group is Group.CHANNEL):
                return torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
            case Group.NONE:
                return torch.zeros(shape, dtype=torch.int64)
            case Group.MULTIPLIER:
                try:
                    return reuse_blocks(shape[1:].numel(), shape[0], self.reuse_factor).reshape(shape)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
        has = f"weights, {'channels' if convolution else 'neurons'} or multipliers"
        raise ValueError(f"{name}: weights of shape {tuple(shape)} have no {self.group.value}s; group them as {has}")


WEIGHTS = Structure()
NEURONS = Structure(group=Group.NEURON)
CHANNELS = Structure(group=Group.CHANNEL)
SPARED = Structure(group=Group.NONE)

#: By a layer's name (``fc1``) or a pattern (``fc?``, ``*``). A name goes before patterns, of which the first that fits
#: decides; a layer that nothing fits loses single weights.
Structures: TypeAlias = Mapping[str, Structure]


def multipliers(reuse_factor: int) -> Structure:
    """The weights that share a multiplier where each multiplier serves ``reuse_factor`` of them."""
    return Structure(group=Group.MULTIPLIER, reuse_factor=reuse_factor)


def reuse_blocks(n_in: int, n_out: int, reuse_factor: int) -> Tensor:
    """The multiplier (from 0, int64) that handles each weight of a dense layer, in the weight's shape (n_out, n_in).

    Of a convolution the inputs are those of an output at one position: input channels of its group times pixels.

    The layer has ``M = n_in * n_out / reuse_factor`` multipliers, each of which does a product in every step
    (``hls_lib/qapsule/dense.h``). In input-major order number m serves the products m, m + M, m + 2M, ...: in
    ``dense_reuse`` step after step, in ``dense_serial``, where M divides ``n_out``, all of one output before those of
    the next. A multiplier all of whose weights are zero is left out of the design. Pruning by such blocks is the method
    of Ramhorst et al. (arXiv:2308.05170), whose multipliers take neighbouring weights instead.

    Raises ``ValueError`` for a reuse factor that gives an accumulator changing multipliers: it must divide ``n_in``, or
    be ``n_in`` times a divisor of ``n_out``.
    """
    whole_inputs = n_in % reuse_factor == 0
    part_of_outputs = reuse_factor % n_in == 0 and n_out % (reuse_factor // n_in) == 0
    if not (whole_inputs or part_of_outputs):
        raise ValueError(
            f"reuse factor {reuse_factor} is not legal for {n_in} inputs and {n_out} outputs; "
            f"take a divisor of {n_in}, or {n_in} times a divisor of {n_out}"
        )
    product = torch.arange(n_in * n_out).reshape(n_in, n_out)
    return (product % (n_in * n_out // reuse_factor)).T.contiguous()


def structures_of(weights: Iterable[str], structure: Structures) -> dict[str, Structure]:
    """The structure of every weight, by plain name (``fc1.weight``, of the layer ``fc1``).

    Raises ``ValueError`` for a name or pattern that fits no layer.
    """
    layers = {name: name.removesuffix(".weight") for name in weights}
    for key in structure:
        if not any(fnmatchcase(layer, key) for layer in layers.values()):
            there = ", ".join(layers.values()) or "none"
            raise ValueError(f"{key}: a structure for no prunable layer; there are {there}")
    return {name: _first_fit(layer, structure) for name, layer in layers.items()}


def _first_fit(layer: str, structure: Mapping[str, Structure]) -> Structure:
    if layer in structure:
        return structure[layer]
    return next((chosen for key, chosen in structure.items() if fnmatchcase(layer, key)), WEIGHTS)
