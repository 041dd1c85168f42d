"""The lottery ticket and its relatives: what a level prunes to, and where the next one starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from torch import nn

from compress.checkpoint import check_same, describe
from compress.layers.weighted import WeightedLayer
from compress.lottery.level import SCHEMA, Level, finish_level, write_json
from compress.mask import apply_masks, masks_of, prunable
from compress.prune import Ranking, prune
from compress.rewind import Snapshot
from compress.structure import Group, Structure, Structures, structures_of
from compress.train import Data, TrainConfig, Trained, train
from compress.wiring import Feed, wiring_of

#: What makes a folder one of ours; it holds the configuration that all its levels share.
RUN_FILE = "lottery.json"


class Rewind(Enum):
    """Where the weights that survive a pruning start the next level from."""

    TO_INITIALISATION = "to_initialisation"  # the lottery ticket
    TO_STEP = "to_step"  # the lottery ticket with late rewinding: to ``rewind_step`` of level 0
    FINE_TUNE = "fine_tune"  # where they are; optimiser, schedule and data order start afresh


@dataclass(frozen=True, kw_only=True)
class LotteryTicket:
    """Iterative pruning of a network that is trained again at every level.

    Level 0 trains unpruned; level i prunes to ``fractions[i - 1]`` of the ORIGINAL number of weights. Works alike on
    quantized layers (QAP) and on plain float ones. ``structure`` says, by layer, which weights go together (``{"*":
    NEURONS, "fc4": WEIGHTS}``, see ``compress.structure``); with a neuron or channel goes all that reads nothing else.
    """

    training: TrainConfig
    fractions: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    ranking: Ranking = Ranking.GLOBAL
    rewind: Rewind = Rewind.TO_INITIALISATION
    rewind_step: int = 0  # optimiser step of level 0; only with Rewind.TO_STEP
    structure: Mapping[str, Structure] = field(default_factory=dict)  # by layer name or pattern; {}: single weights

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
        if not isinstance(self.structure, Mapping):
            raise ValueError(f'structure must go by layer name or pattern, {{"*": NEURONS}}, got {self.structure!r}')

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

        Raises ``ValueError`` where ``out`` already holds levels and ``resume`` is not set, where it was made with
        another configuration (the message names the field and both values), and for a structure that does not fit.
        """
        cutter = self.cutter(model)
        self.claim(out, resume)
        levels: list[Level] = []
        start = None
        for level, fraction in enumerate((0.0, *self.fractions)):
            folder = out / folder_name(level)
            if level > 0:
                cutter.cut(model, fraction)
            trained = train(
                model,
                train_data,
                validation_data,
                self.training,
                start=start,
                keep_step=self.keep_step if level == 0 else None,
                out=folder,
                resume=True,
                checkpoint_seconds=checkpoint_seconds,
                log_dir=None if log_dir is None else log_dir / folder.name,
                progress=progress,
                label=f"level {level}",
            )
            if level == 0:
                start = self.rewind_point(trained)
            levels.append(finish_level(model, trained, level, fraction, self.structure, folder))
        return tuple(levels)

    @property
    def keep_step(self) -> int | None:
        """The step of level 0 that later levels start from; None: there is none."""
        return None if self.rewind is Rewind.FINE_TUNE else self.rewind_step

    def rewind_point(self, trained: Trained, where: str = "level 0") -> Snapshot | None:
        """What later levels start from, out of the training of level 0; errors call that ``where``."""
        if self.keep_step is not None and trained.kept is None:
            raise ValueError(
                f"{where}: rewind_step {self.rewind_step} was never reached, early stopping ended the training at step "
                f"{trained.history[-1].step}; choose an earlier step or more patience"
            )
        return trained.kept

    def cutter(self, model: nn.Module) -> Cutter:
        """What prunes ``model``. Raises ``ValueError`` for binary weights and structures its layers cannot have."""
        weights = prunable(model)
        chosen = structures_of(weights, self.structure)
        for name, structure in chosen.items():
            structure.groups(name, weights[name].shape)
            layer = name.rpartition(".")[0]
            if structure.prunes and _is_binary(model.get_submodule(layer)):
                raise ValueError(
                    f"{layer}: binary weights have no zero to prune to; leave them with "
                    f'structure={{"{layer}": SPARED, ...}}, or use weight_width=2, whose codes are -1, 0 and +1'
                )
        whole = {name for name, structure in chosen.items() if structure.group in (Group.NEURON, Group.CHANNEL)}
        if not whole:
            return Cutter(self.ranking, self.structure, {})
        wiring = wiring_of(model)
        if outputs := sorted(whole & wiring.outputs):
            layer = outputs[0].removesuffix(".weight")
            raise ValueError(
                f"{layer}: its {chosen[outputs[0]].group.value}s are the outputs of the network; "
                f'leave them with structure={{"{layer}": WEIGHTS, ...}}'
            )
        feeds = {name: feed for name, feed in wiring.feeds.items() if feed.producer in whole}
        return Cutter(self.ranking, self.structure, feeds)

    def claim(self, out: Path, resume: bool) -> None:
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
            write_json(file, config)


@dataclass(frozen=True)
class Cutter:
    """How one network is pruned from level to level."""

    ranking: Ranking
    structure: Structures
    feeds: Mapping[str, Feed]  # through which the weights behind a pruned neuron or channel go with it

    def cut(self, model: nn.Module, fraction: float) -> None:
        """Put the masks on ``model`` under which ``fraction`` of its original weights is pruned."""
        masks = prune(
            prunable(model), masks_of(model), fraction, self.ranking, structure=self.structure, feeds=self.feeds
        )
        apply_masks(model, masks)


def iterative_l1(
    training: TrainConfig,
    *,
    step: float = 0.1,
    until: float = 0.9,
    per_layer: bool = False,
    rewind: Rewind = Rewind.FINE_TUNE,
    rewind_step: int = 0,
    structure: Structures | None = None,
) -> LotteryTicket:
    """The iterative pruning of the hls4ml tinyML paper (Fahim et al., arXiv:2103.05579, section 3.2).

    Train with ``lambda * sum |w|`` added to the loss (``training.l1``, say 1e-4), rank the weights by |w| relative to
    the largest |w| of their layer, remove those below a percentile, and train what is left again, with the same loss,
    under the mask. Every level removes another ``step`` of the original weights, up to ``until``. The percentile is of
    all layers together or, with ``per_layer``, of each. Raises ``ValueError`` for a training without L1 and for steps
    that lead nowhere.
    """
    if training.l1 == 0:
        raise ValueError("training.l1 is 0, but weights are small only because an L1 term made them; take 1e-4")
    if not 0 < step <= until <= 1:
        raise ValueError(f"step and until must grow from above 0 to at most 1, got step={step} and until={until}")
    exact, last = Fraction(repr(step)), Fraction(repr(until))
    between = [float(number * exact) for number in range(1, int(last / exact) + 1)]
    return LotteryTicket(
        training=training,
        fractions=tuple(between) if between[-1] == until else (*between, until),
        ranking=Ranking.PER_LAYER if per_layer else Ranking.RELATIVE_TO_LAYER_MAX,
        rewind=rewind,
        rewind_step=rewind_step,
        structure=structure or {},
    )


def folder_name(level: int) -> str:
    return f"level_{level:02}"


def _is_binary(layer: nn.Module) -> bool:
    return isinstance(layer, WeightedLayer) and layer.spec.weight_grid.binary
