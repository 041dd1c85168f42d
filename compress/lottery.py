"""Quantization-aware pruning: train, prune, rewind, again; level by level, every level resumable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import nn

from compress.checkpoint import check_same, describe, save_model, write_bytes
from compress.mask import apply_masks, masks_of, prunable
from compress.prune import Ranking, prune
from compress.rewind import Snapshot
from compress.train import Data, Epoch, TrainConfig, Trained, train

#: Raised by one whenever a reader of the earlier JSON files would misread the new ones.
SCHEMA = 1

#: What makes a folder one of ours; it holds the configuration that all its levels share.
RUN_FILE = "lottery.json"


class Rewind(Enum):
    """Where the weights that survive a pruning start the next level from."""

    TO_INITIALISATION = "to_initialisation"  # the lottery ticket
    TO_STEP = "to_step"  # the lottery ticket with late rewinding: to ``rewind_step`` of level 0
    FINE_TUNE = "fine_tune"  # where they are; optimiser, schedule and data order start afresh


@dataclass(frozen=True, kw_only=True)
class Level:
    """One finished level: ``folder/model.pt`` holds the network, ``folder/level.json`` this account of it."""

    level: int
    fraction: float  # asked for, of the original weights
    pruned: Mapping[str, int]  # exact number of pruned weights by prunable tensor, e.g. {"fc1.weight": 512}
    weights: Mapping[str, int]  # original number of weights by prunable tensor
    history: tuple[Epoch, ...]
    best: Epoch  # the epoch the weights are from; its validation loss and accuracy are the level's metrics
    folder: Path

    @property
    def sparsity(self) -> float:
        """Pruned share of all prunable weights, from the exact counts."""
        return sum(self.pruned.values()) / sum(self.weights.values())


@dataclass(frozen=True, kw_only=True)
class LotteryTicket:
    """Iterative pruning of a network that is trained again at every level.

    Level 0 trains unpruned; level i prunes to ``fractions[i - 1]`` of the ORIGINAL number of weights. Works alike on
    quantized layers (QAP) and on plain float ones. The iterative pruning of the hls4ml paper is an ``l1`` above zero in
    ``training``, ``Ranking.RELATIVE_TO_LAYER_MAX`` and ``Rewind.FINE_TUNE``.
    """

    training: TrainConfig
    fractions: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    ranking: Ranking = Ranking.GLOBAL
    rewind: Rewind = Rewind.TO_INITIALISATION
    rewind_step: int = 0  # optimiser step of level 0; only with Rewind.TO_STEP

    def __post_init__(self) -> None:
        if not isinstance(self.ranking, Ranking) or not isinstance(self.rewind, Rewind):
            raise ValueError(f"ranking and rewind must be enums, got {self.ranking!r} and {self.rewind!r}")
        if not self.fractions or not self.fractions[0] > 0 or not self.fractions[-1] <= 1:
            raise ValueError(f"fractions must lie above 0 and at most at 1, at least one of them, got {self.fractions}")
        for low, high in pairwise(self.fractions):
            if not low < high:
                raise ValueError(f"fractions must grow from level to level, got {low} before {high}")
        if (self.rewind is Rewind.TO_STEP) != (self.rewind_step > 0):
            raise ValueError(
                f"rewind_step is {self.rewind_step} with {self.rewind}; "
                f"{Rewind.TO_STEP} takes a step from 1 on, the others 0"
            )

    def run(
        self,
        model: nn.Module,
        train_data: Data,
        validation_data: Data,
        *,
        out: Path,
        resume: bool = False,
        checkpoint_seconds: float = 10.0,
        log_dir: Path | None = None,
        progress: bool = True,
    ) -> tuple[Level, ...]:
        """Train and prune ``model`` in place through every level; it ends as the last level left it.

        Each level has its folder ``out/level_00``, ``level_01``, ...: ``last.pt`` (the training, to resume from),
        ``model.pt`` (the finished network; ``compress.checkpoint.load_model(folder / "model.pt", model)`` brings any
        level back, masks included) and ``level.json``, written last: a level that has it is done. With ``resume`` a run
        killed at any moment continues to the bit-identical end. ``log_dir`` receives one TensorBoard folder per level.

        Raises ``ValueError`` where ``out`` already holds levels and ``resume`` is not set, or where it was made with
        another configuration (the message names the field and both values).
        """
        self._claim(out, resume)
        levels: list[Level] = []
        start = None
        for level, fraction in enumerate((0.0, *self.fractions)):
            folder = out / f"level_{level:02}"
            if level > 0:
                apply_masks(model, prune(prunable(model), masks_of(model), fraction, self.ranking))
            trained = train(
                model,
                train_data,
                validation_data,
                self.training,
                start=start,
                keep_step=self._keep_step if level == 0 else None,
                out=folder,
                resume=True,
                checkpoint_seconds=checkpoint_seconds,
                log_dir=None if log_dir is None else log_dir / folder.name,
                progress=progress,
                label=f"level {level}",
            )
            if level == 0:
                start = self._rewind_point(trained)
            levels.append(_finish(model, trained, level, fraction, folder))
        return tuple(levels)

    @property
    def _keep_step(self) -> int | None:
        return None if self.rewind is Rewind.FINE_TUNE else self.rewind_step

    def _rewind_point(self, trained: Trained) -> Snapshot | None:
        if self._keep_step is not None and trained.kept is None:
            raise ValueError(
                f"level 0: rewind_step {self.rewind_step} was never reached, early stopping ended the training at step "
                f"{trained.history[-1].step}; choose an earlier step or more patience"
            )
        return trained.kept

    def _claim(self, out: Path, resume: bool) -> None:
        """Make ``out`` the folder of this run, or see that it is."""
        file = out / RUN_FILE
        config = {"schema": SCHEMA, **describe(self)}
        if file.exists():
            if not resume:
                raise ValueError(f"{out} already holds a lottery ticket; resume it or choose another folder")
            check_same(out, json.loads(file.read_text()), config)
        elif out.exists() and (not out.is_dir() or any(entry.name != f".{RUN_FILE}.tmp" for entry in out.iterdir())):
            raise ValueError(f"{out} is or holds something else already; choose another folder")
        else:
            _write_json(file, config)


def _finish(model: nn.Module, trained: Trained, level: int, fraction: float, folder: Path) -> Level:
    """Leave the finished network and its account in ``folder``, unless they are there already."""
    weights, masks = prunable(model), masks_of(model)
    done = Level(
        level=level,
        fraction=fraction,
        pruned={name: int((~masks[name]).sum()) if name in masks else 0 for name in weights},
        weights={name: weight.numel() for name, weight in weights.items()},
        history=trained.history,
        best=trained.best,
        folder=folder,
    )
    account = folder / "level.json"
    if not account.exists():
        save_model(folder / "model.pt", model)
        fields = {name: value for name, value in asdict(done).items() if name != "folder"}
        _write_json(account, {"schema": SCHEMA, **fields})
    return done


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())
