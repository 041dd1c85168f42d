"""The account of a finished level: what was pruned, what rounds to zero beside that, and how the training went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.checkpoint import save_model, write_bytes
from compress.layers import UnreadableQuantizer, kind, weight_of
from compress.mask import masks_of, prunable
from compress.structure import Structures, structures_of
from compress.train import Epoch, Trained

#: Raised by one whenever a reader of the earlier JSON files would misread the new ones.
SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class Counts:
    """One prunable tensor. Its weights are pruned, rounded to zero, or neither."""

    weights: int  # originally
    pruned: int  # by a mask
    rounded: int | None  # not by a mask, but zero in use: quantized to it; None where the quantizer cannot be read
    groups: int  # what the structure cuts the weights into: as many as weights, neurons, channels or multipliers
    pruned_groups: int  # without a weight left


@dataclass(frozen=True, kw_only=True)
class Level:
    """One finished level: ``folder/model.pt`` holds the network, ``folder/level.json`` this account of it."""

    level: int
    fraction: float  # asked for, of the original weights
    counts: Mapping[str, Counts]  # exact, by prunable tensor, e.g. "fc1.weight"
    history: tuple[Epoch, ...]
    best: Epoch  # the epoch the weights are from; its validation loss and accuracy are the level's metrics
    folder: Path

    @property
    def weights(self) -> dict[str, int]:
        """Original number of weights by prunable tensor."""
        return {name: counts.weights for name, counts in self.counts.items()}

    @property
    def pruned(self) -> dict[str, int]:
        """Exact number of pruned weights by prunable tensor, e.g. {"fc1.weight": 512}."""
        return {name: counts.pruned for name, counts in self.counts.items()}

    @property
    def sparsity(self) -> float:
        """Pruned share of all prunable weights, from the exact counts."""
        return sum(self.pruned.values()) / sum(self.weights.values())


def finish_level(
    model: nn.Module, trained: Trained, level: int, fraction: float, structure: Structures, folder: Path
) -> Level:
    """Leave the finished network and its account in ``folder``, unless they are there already."""
    done = Level(
        level=level,
        fraction=fraction,
        counts=count(model, structure),
        history=trained.history,
        best=trained.best,
        folder=folder,
    )
    account = folder / "level.json"
    if not account.exists():
        save_model(folder / "model.pt", model)
        fields = {name: value for name, value in asdict(done).items() if name != "folder"}
        write_json(account, {"schema": SCHEMA, **fields})
    return done


def count(model: nn.Module, structure: Structures) -> dict[str, Counts]:
    """What there is of every prunable tensor, by plain name in layer order."""
    weights, masks = prunable(model), masks_of(model)
    found = {}
    for name, chosen in structures_of(weights, structure).items():
        kept = masks.get(name, torch.ones_like(weights[name], dtype=torch.bool)).cpu()
        groups = chosen.groups(name, kept.shape)
        living = int(groups[kept].unique().numel())
        zero = _zero(model.get_submodule(name.rpartition(".")[0]), name, weights[name])
        found[name] = Counts(
            weights=kept.numel(),
            pruned=int((~kept).sum()),
            rounded=None if zero is None else int((zero & kept).sum()),
            groups=(total := int(groups.max()) + 1),
            pruned_groups=total - living,
        )
    return found


def _zero(layer: nn.Module, name: str, weight: Tensor) -> Tensor | None:
    """Which weights of ``layer`` are zero as it computes with them; None where that cannot be told."""
    try:
        codes = None if kind(layer) is None else weight_of(layer, name)
    except UnreadableQuantizer:
        return None
    return weight.cpu() == 0 if codes is None else torch.from_numpy(codes.codes == 0)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())
