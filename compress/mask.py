"""Pruning masks as torch parametrizations: a pruned weight is exactly +0.0 at every moment a reader can look.

A masked layer computes its ``weight`` from a trainable tensor and a boolean mask whenever it is read, so no optimiser
step, deepcopy or load can bring a pruned weight back; its gradient is exactly zero. The trainable tensor behind it is
zeroed as well, for readers that hold on to it (Brevitas takes weight scales from there).

Throughout ``compress`` a tensor goes by its *plain* name (``fc1.weight``), masked or not; torch's own state dict calls
it ``fc1.parametrizations.weight.original`` while it is masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Mask(nn.Module):
    """The parametrization: weights where ``kept`` is True, +0.0 elsewhere."""

    kept: Tensor

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept)

    def forward(self, weight: Tensor) -> Tensor:
        # A product with the mask would leave -0.0, and NaN where a pruned entry had diverged.
        return torch.where(self.kept, weight, 0.0)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self.forward(weight)


def layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every submodule by name in definition order, masked or not: the modules that make up a mask are left out."""
    for name, module in model.named_modules():
        if "parametrizations" not in name.split("."):
            yield name, module


def plain_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable tensors by plain name, in an order that masking does not change.

    torch's own order does change (a masked weight moves behind its bias), and optimisers number their state by order:
    restored into a masked model, the momentum of a weight would land on a bias. For a masked weight this is the tensor
    behind the mask. A tensor shared by two layers has two names. Raises ``ValueError`` for a parametrization other
    than a mask.
    """
    found: dict[str, nn.Parameter] = {}
    for prefix, module in layers(model):
        own = dict(module.named_parameters(recurse=False))
        own |= {name: _parametrizations(module)[name].original for name in _masked(prefix, module)}
        found |= {join(prefix, name): own[name] for name in sorted(own)}
    return found


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """The weights a pruning may take, by plain name in layer order: every ``weight`` of two or more dimensions.

    Biases and the vectors of a batch norm never are. Values are as the layer uses them, pruned ones +0.0, detached.
    Raises ``ValueError`` where two layers share one weight.
    """
    owners: dict[int, str] = {}
    found: dict[str, Tensor] = {}
    for name, parameter in plain_parameters(model).items():
        prefix, _, tensor = name.rpartition(".")
        if tensor != "weight" or parameter.dim() < 2:
            continue
        if (owner := owners.setdefault(id(parameter), name)) != name:
            raise ValueError(f"{name} is the same tensor as {owner}; give each layer its own weight to prune them")
        layer: Any = model.get_submodule(prefix)
        found[name] = layer.weight.detach()
    return found


def check_masks(masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Raises ``ValueError`` naming the first mask that has no weight of its name, shape and ``torch.bool``."""
    for name, mask in masks.items():
        if name not in weights:
            raise ValueError(f"{name}: a mask for no prunable weight; there are {', '.join(weights) or 'none'}")
        if mask.dtype != torch.bool or mask.shape != weights[name].shape:
            raise ValueError(
                f"{name}: the mask is {mask.dtype} of shape {tuple(mask.shape)}, "
                f"the weight needs torch.bool of shape {tuple(weights[name].shape)}"
            )


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Put ``masks`` (True: kept) on the weights of these plain names; layers not named stay as they are.

    A mask replaces the one its layer had; what that one pruned is zero and comes back as zero. Parameters keep their
    identity, so an optimiser made before goes on working. All masks are checked before anything changes. Raises
    ``ValueError`` for a name that is not prunable and for a mask of another shape or type.
    """
    weights = prunable(model)
    check_masks(masks, weights)
    for name, mask in masks.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        kept = mask.to(weights[name].device, copy=True)
        if parametrize.is_parametrized(layer, "weight"):
            _parametrizations(layer)["weight"][0].kept = kept
            layer.weight = weights[name]  # through Mask.right_inverse, which zeroes the tensor behind the mask too
        else:
            parametrize.register_parametrization(layer, "weight", Mask(kept))


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the masks by plain name in layer order; layers without one are left out."""
    return {
        join(prefix, name): _parametrizations(module)[name][0].kept.clone()
        for prefix, module in layers(model)
        for name in _masked(prefix, module)
    }


def remove_masks(model: nn.Module) -> None:
    """Make every masked weight a plain parameter again, its zeros baked in. Parameters keep their identity."""
    for prefix, module in list(layers(model)):
        for name in _masked(prefix, module):
            parametrize.remove_parametrizations(module, name)


def join(prefix: str, name: str) -> str:
    """The plain name of the tensor ``name`` of the layer ``prefix`` ("" for the model itself)."""
    return f"{prefix}.{name}" if prefix else name


def _parametrizations(module: nn.Module) -> dict[str, Any]:
    chains: Any = module.parametrizations if parametrize.is_parametrized(module) else {}
    return dict(chains.items())


def _masked(prefix: str, module: nn.Module) -> list[str]:
    """The names of the masked tensors of one layer."""
    for name, chain in _parametrizations(module).items():
        if len(chain) != 1 or not isinstance(chain[0], Mask):
            others = ", ".join(type(link).__name__ for link in chain if not isinstance(link, Mask)) or "a second mask"
            raise ValueError(
                f"{join(prefix, name)} carries a parametrization that is not a mask ({others}); "
                "bake it in first with torch.nn.utils.parametrize.remove_parametrizations"
            )
    return list(_parametrizations(module))
