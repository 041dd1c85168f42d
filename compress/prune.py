"""Rankings: which weights go. Pure functions of weights, masks and a fraction; nothing is changed in place."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from enum import Enum
from fractions import Fraction
from types import MappingProxyType

import torch
from torch import Tensor

from compress.mask import check_masks
from compress.structure import Structure, Structures, structures_of
from compress.wiring import Feed, without_dead


class Ranking(Enum):
    """What is compared to decide which weights are the smallest; of a group of weights, the mean |w|.

    (For filters of one size that is the ranking of Li et al., ICLR 2017, arXiv:1608.08710, who sum |w|; the mean lets
    groups of several sizes compete, and of a single weight it is |w|. Weights pruned already count as zero.)
    """

    GLOBAL = "global"  # |w| over all layers together
    PER_LAYER = "per_layer"  # |w| within each layer, which loses the same fraction as every other
    RELATIVE_TO_LAYER_MAX = "relative_to_layer_max"  # |w| / max |w| of its layer, over all layers together


def prune(
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    fraction: float,
    ranking: Ranking,
    *,
    structure: Structures = MappingProxyType({}),
    feeds: Mapping[str, Feed] = MappingProxyType({}),
) -> dict[str, Tensor]:
    """Masks (True: kept) under which ``fraction`` of the ORIGINAL number of weights is pruned, smallest first.

    ``weights`` are the prunable tensors in layer order; ``masks`` those of earlier prunings, a missing one standing
    for a layer not pruned yet. Single weights are pruned to the exact number ``count_pruned(fraction, n)``: of all
    weights together, or of each layer (``PER_LAYER``). What is pruned stays pruned; of equal weights the one in the
    earlier layer, then the one with the smaller flat index, goes first. Each mask lies on the device of its weight.

    With a ``structure`` whole groups go (``compress.structure``), in the order of their ranking, for as long as that
    number of weights is not exceeded; so there may be fewer, never more, and a layer keeps its strongest group. With
    ``feeds`` (``compress.wiring``) the weights that read a neuron without weights go with it and are counted. A layer
    that is spared has no mask in the result but the one it had.

    Raises ``ValueError`` for a NaN or infinite weight, a mask that fits no weight, a fraction outside [0, 1], one that
    asks for fewer weights than are pruned already, and a structure that a layer does not have.
    """
    check_masks(masks, weights)
    chosen = structures_of(weights, structure)
    layers = {name: _Layer(name, weight, masks.get(name), chosen[name], ranking) for name, weight in weights.items()}
    feeds = {name: feed for name, feed in feeds.items() if chosen[name].prunes}
    pools = [[name] for name in layers] if ranking is Ranking.PER_LAYER else [list(layers)]
    limits = [count_pruned(fraction, sum(weights[name].numel() for name in pool)) for pool in pools]
    kept = without_dead({name: layer.kept for name, layer in layers.items()}, feeds)

    def exceeds(masks: Mapping[str, Tensor]) -> bool:
        return any(_pruned(masks, pool) > limit for pool, limit in zip(pools, limits, strict=True))

    for pool, limit in zip(pools, limits, strict=True):
        if (before := _pruned(kept, pool)) > limit:
            raise ValueError(
                f"{', '.join(pool)}: {before} of {sum(kept[name].numel() for name in pool)} weights are pruned "
                f"already, the fraction {fraction} asks for {limit}; fractions may only grow"
            )
    for pool in pools:
        kept = _without_smallest(kept, {name: layers[name] for name in pool}, feeds, exceeds)
    return {name: mask.to(weights[name].device) for name, mask in kept.items() if chosen[name].prunes or name in masks}


def count_pruned(fraction: float, weights: int) -> int:
    """``fraction`` of ``weights`` to the nearest whole number, halves up; the fraction counts as the decimal it prints.

    (0.29 of 50 is 14.5 and gives 15, although the binary number closest to 0.29 lies below it.)
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"the pruned fraction must lie between 0 and 1, got {fraction}")
    return int(Fraction(repr(float(fraction))) * weights + Fraction(1, 2))


# Below every magnitude: what is pruned already sorts before all that is not.
_PRUNED = -1.0


class _Layer:
    """One weight tensor as its groups: ``keys`` (groups,) are what these are sorted by. On the CPU."""

    def __init__(
        self, name: str, weight: Tensor, mask: Tensor | None, structure: Structure, ranking: Ranking
    ) -> None:
        if bad := weight.numel() - int(torch.isfinite(weight).sum()):
            raise ValueError(
                f"{name}: {bad} of {weight.numel()} weights are NaN or infinite and cannot be ranked; "
                "prune a checkpoint from before the training diverged"
            )
        self.groups = structure.groups(name, weight.shape)
        self.keeps_one = structure.keeps_one
        self.kept = torch.ones(weight.shape, dtype=torch.bool) if mask is None else mask.cpu()
        flat = self.groups.flatten()
        sizes = torch.bincount(flat)
        # float64 holds every float32 exactly.
        size = torch.where(self.kept, weight.detach().to("cpu", torch.float64).abs(), 0.0)
        means = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, flat, size.flatten()) / sizes
        if ranking is Ranking.RELATIVE_TO_LAYER_MAX and (largest := float(means.max())) > 0:
            means = means / largest
        living = torch.bincount(flat[self.kept.flatten()], minlength=len(sizes)) > 0
        self.keys = torch.where(living, means, _PRUNED)


def _without_smallest(
    kept: Mapping[str, Tensor],
    layers: Mapping[str, _Layer],
    feeds: Mapping[str, Feed],
    exceeds: Callable[[Mapping[str, Tensor]], bool],
) -> dict[str, Tensor]:
    """``kept`` without the smallest groups of ``layers``, as many as go before it ``exceeds``."""
    places, candidates = _places(layers)

    def without(first: int) -> dict[str, Tensor]:
        return without_dead({**kept, **{name: kept[name] & (place >= first) for name, place in places.items()}}, feeds)

    # The more groups go, the more weights: the last number that is not too many can be bisected.
    return without(bisect_left(range(candidates + 1), True, key=lambda first: exceeds(without(first))) - 1)


def _places(layers: Mapping[str, _Layer]) -> tuple[dict[str, Tensor], int]:
    """For every weight the place of its group in the common order, smallest first, and the number of places.

    The group that a layer keeps has the place behind the last.
    """
    if not layers:
        return {}, 0
    order = torch.sort(torch.cat([layer.keys for layer in layers.values()]), stable=True).indices
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    ranks = dict(zip(layers, rank.split([len(layer.keys) for layer in layers.values()]), strict=True))
    competes = torch.ones(len(order), dtype=torch.bool)
    for name, layer in layers.items():
        if layer.keeps_one:
            competes[ranks[name].max()] = False
    candidates = int(competes.sum())
    place = torch.where(competes, competes.cumsum(0) - 1, candidates)
    return {name: place[ranks[name][layer.groups]] for name, layer in layers.items()}, candidates


def _pruned(masks: Mapping[str, Tensor], names: list[str]) -> int:
    return sum(int((~masks[name]).sum()) for name in names)
