"""Rankings: which weights go. Pure functions of weights, masks and a fraction; nothing is changed in place."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from fractions import Fraction

import torch
from torch import Tensor

from compress.mask import check_masks


class Ranking(Enum):
    """What is compared to decide which weights are the smallest."""

    GLOBAL = "global"  # |w| over all layers together
    PER_LAYER = "per_layer"  # |w| within each layer, which loses the same fraction as every other
    RELATIVE_TO_LAYER_MAX = "relative_to_layer_max"  # |w| / max |w| of its layer, over all layers together


def prune(
    weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], fraction: float, ranking: Ranking
) -> dict[str, Tensor]:
    """Masks (True: kept) under which ``fraction`` of the ORIGINAL number of weights is pruned, smallest first.

    ``weights`` are the prunable tensors in layer order; ``masks`` those of earlier prunings, a missing one standing
    for a layer not pruned yet. Exactly ``count_pruned(fraction, n)`` weights are pruned: of all weights together, or of
    each layer (``PER_LAYER``). What is pruned stays pruned; of equal weights the one in the earlier layer, then the one
    with the smaller flat index, goes first. Each mask lies on the device of its weight.

    Raises ``ValueError`` for a NaN or infinite weight, a mask that fits no weight, a fraction outside [0, 1], and one
    that asks for fewer weights than are pruned already.
    """
    check_masks(masks, weights)
    groups = [[name] for name in weights] if ranking is Ranking.PER_LAYER else [list(weights)]
    pruned: dict[str, Tensor] = {}
    for names in groups:
        keys = [_sort_keys(name, weights[name], masks.get(name), ranking) for name in names]
        kept = _without_smallest(", ".join(names), torch.cat(keys), fraction) if keys else torch.empty(0)
        for name, part in zip(names, kept.split([weights[name].numel() for name in names]), strict=True):
            pruned[name] = part.reshape(weights[name].shape).to(weights[name].device, copy=True)
    return pruned


def count_pruned(fraction: float, weights: int) -> int:
    """``fraction`` of ``weights`` to the nearest whole number, halves up; the fraction counts as the decimal it prints.

    (0.29 of 50 is 14.5 and gives 15, although the binary number closest to 0.29 lies below it.)
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"the pruned fraction must lie between 0 and 1, got {fraction}")
    return int(Fraction(repr(float(fraction))) * weights + Fraction(1, 2))


# Below every magnitude: what is pruned already sorts before all that is not.
_PRUNED = -1.0


def _sort_keys(name: str, weight: Tensor, mask: Tensor | None, ranking: Ranking) -> Tensor:
    """What the weights of one layer are sorted by, flat; float64 holds every float32 exactly."""
    if bad := weight.numel() - int(torch.isfinite(weight).sum()):
        raise ValueError(
            f"{name}: {bad} of {weight.numel()} weights are NaN or infinite and cannot be ranked; "
            "prune a checkpoint from before the training diverged"
        )
    size = weight.detach().to("cpu", torch.float64).abs().flatten()
    if mask is not None:
        size = torch.where(mask.cpu().flatten(), size, _PRUNED)
    if ranking is Ranking.RELATIVE_TO_LAYER_MAX and (largest := float(size.max())) > 0:
        size = torch.where(size == _PRUNED, _PRUNED, size / largest)
    return size


def _without_smallest(names: str, keys: Tensor, fraction: float) -> Tensor:
    """The flat mask that prunes the smallest ``keys``, as many as the fraction asks for."""
    count = count_pruned(fraction, keys.numel())
    before = int((keys == _PRUNED).sum())
    if before > count:
        raise ValueError(
            f"{names}: {before} of {keys.numel()} weights are pruned already, the fraction {fraction} asks for "
            f"{count}; fractions may only grow"
        )
    kept = torch.ones(keys.numel(), dtype=torch.bool)
    kept[torch.sort(keys, stable=True).indices[:count]] = False
    return kept
