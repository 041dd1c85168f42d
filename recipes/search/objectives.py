"""What a trial is judged by: how good its network is on the validation part, and what it costs in hardware."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from torch import nn

from compress.ebops import ebops
from recipes.metrics import Metrics
from recipes.result import Result
from recipes.search.space import REUSE, Axis, SpaceError


class Objective(Enum):
    MACRO_AUC = "macro_auc"
    ACCURACY = "accuracy"
    BOPS = "bops"  # bit operations of one inference (compress.bops)
    EBOPS = "ebops"  # the same by the bits that every weight really has (compress.ebops)
    MULTIPLIERS = "multipliers"  # weights that are not zero in hardware over the reuse factor, rounded up by layer
    INTERVAL = "interval"  # cycles between two samples: the reuse factor

    @property
    def maximised(self) -> bool:
        return self in (Objective.MACRO_AUC, Objective.ACCURACY)

    @property
    def title(self) -> str:
        return {
            Objective.MACRO_AUC: "macro AUC",
            Objective.ACCURACY: "accuracy",
            Objective.BOPS: "BOPs",
            Objective.EBOPS: "EBOPs",
            Objective.MULTIPLIERS: "multipliers",
            Objective.INTERVAL: "cycles per sample",
        }[self]

    def spell(self, value: float) -> str:
        return f"{value:.4f}" if self.maximised else f"{value:,.0f}"

    def value_of(self, result: Result, network: nn.Module, validation: Metrics) -> float:
        """Of the ``network`` of a finished run that goes to hardware. Raises ``ValueError`` where it has none."""
        reuse = result.recipe.hardware.reuse_factor
        match self:
            case Objective.MACRO_AUC:
                return validation.macro_auc
            case Objective.ACCURACY:
                return validation.accuracy
            case Objective.BOPS:
                return result.deployed.bops
            case Objective.EBOPS:
                return float(ebops(network).total)
            case Objective.MULTIPLIERS:
                layers = result.deployed.layers.values()
                return float(sum(-(-(layer.weights - layer.zeros) // reuse) for layer in layers))
            case Objective.INTERVAL:
                return float(reuse)


def objectives_of(text: str | None, axes: Sequence[Axis]) -> tuple[Objective, ...]:
    """From ``macro_auc,bops``; without a text these two, and what reuse is traded for where that varies.

    Raises ``ValueError`` where there is nothing to trade: sharing multipliers costs nothing but time, and saves nothing
    but multipliers, so a search that varies reuse and does not count both would only ever find one end of the range.
    """
    varies_reuse = any(axis.key == REUSE for axis in axes)
    if text is None:
        reuse = (Objective.MULTIPLIERS, Objective.INTERVAL) if varies_reuse else ()
        return (Objective.MACRO_AUC, Objective.BOPS, *reuse)
    known = {objective.value: objective for objective in Objective}
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise SpaceError(f"--objectives: {', '.join(unknown)} is none of {', '.join(known)}")
    chosen = tuple(dict.fromkeys(known[name] for name in names))
    if not any(o.maximised for o in chosen) or all(o.maximised for o in chosen):
        raise SpaceError(
            f"--objectives {text}: a search trades how good a network is for what it costs; name at least one of "
            "macro_auc, accuracy and one of bops, ebops, multipliers, interval"
        )
    missing = [o.value for o in (Objective.MULTIPLIERS, Objective.INTERVAL) if o not in chosen]
    if varies_reuse and missing:
        raise SpaceError(
            f"--vary {REUSE}: reuse trades multipliers for time; add {', '.join(missing)} to --objectives or fix it"
        )
    return chosen
