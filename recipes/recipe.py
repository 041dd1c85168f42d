"""What a recipe is: everything that decides the outcome of a run, as one value.

Derive one recipe from another with ``dataclasses.replace``, or on the command line with ``--set key=value``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from compress.layers import QuantSpec
from compress.lottery import LotteryTicket
from compress.train import TrainConfig
from recipes.data.dataset import Scaling
from recipes.data.sources import DataKind
from recipes.plain import PlainError, from_plain, parse_setting, to_plain, with_setting


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which samples, and how they are cut and scaled."""

    kind: DataKind
    source: str  # one of the loader's own names, or a path
    scaling: Scaling
    validation: float = 0.1  # fractions of the samples (of those not held out, where the data has a test set)
    test: float = 0.2
    split_seed: int = 0  # not the run's: every seed of a recipe is judged on the same test samples


@dataclass(frozen=True, kw_only=True)
class Network:
    """A multilayer perceptron: dense layers, each but the last with batch norm (if any) and ReLU behind it."""

    hidden: tuple[int, ...]  # widths of the layers between input and output
    batch_norm: bool = False

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"network.hidden: every layer needs at least one neuron, got {self.hidden}")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """How the compressed network becomes a hardware project, and how much of it is checked after a run."""

    backend: str = "vitis"
    part: str | None = "xcvu9p-flga2104-2L-e"  # None: the backend's own default
    clock_ns: float = 5.0
    reuse_factor: int = 1  # products that share one multiplier
    samples: int = 10_000  # checked at every level of equality at the end of a run


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete run: float baseline, then quantization-aware pruning, whose unpruned level 0 is plain QAT."""

    name: str
    summary: str  # one line
    data: DataConfig
    network: Network
    spec: QuantSpec
    baseline: TrainConfig
    pruning: LotteryTicket
    deploy: float  # the pruned fraction whose network goes to hardware: 0 or one of ``pruning.fractions``
    hardware: Hardware = field(default_factory=Hardware)
    #: Bits of the weights of each dense layer, and of what each ReLU gives; empty: the spec's for all of them.
    weight_widths: tuple[int, ...] = ()
    activation_widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        hidden = len(self.network.hidden)
        for name, needed in (("weight_widths", hidden + 1), ("activation_widths", hidden)):
            widths = getattr(self, name)
            if widths and len(widths) != needed:
                raise ValueError(f"{name}: {len(widths)} widths, this network needs {needed}, or none for the spec's")
        levels = (0.0, *self.pruning.fractions)
        if self.deploy not in levels:
            raise ValueError(
                f"deploy={self.deploy} is no level of this recipe, which prunes to {', '.join(map(str, levels))}; "
                "choose one of these or change pruning.fractions"
            )

    def with_seed(self, seed: int) -> Recipe:
        """The same recipe from another starting point: initial weights and data order, not the split."""
        training = replace(self.pruning.training, seed=seed)
        return replace(
            self, baseline=replace(self.baseline, seed=seed), pruning=replace(self.pruning, training=training)
        )

    def with_settings(self, settings: Sequence[str]) -> Recipe:
        """With ``key=value`` texts applied, e.g. ``spec.weight_width=4``. Raises ``ValueError`` naming the setting."""
        plain = to_plain(self)
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise PlainError(f"--set {setting}: write key=value, e.g. --set baseline.epochs=20")
            plain = with_setting(plain, key, parse_setting(Recipe, key, text))
        return from_plain(Recipe, plain, f"recipe {self.name}")
