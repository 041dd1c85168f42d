"""What a search varies: settings of a recipe, each with its candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from recipes.plain import parse_setting
from recipes.recipe import Recipe

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: The pruned fraction of all weights. It stands for two settings, ``pruning.fractions`` and ``deploy``.
PRUNED = "pruned"
REUSE = "hardware.reuse_factor"
#: A pruned fraction is rounded to so many decimals, which is finer than one weight of the networks here.
_PRUNED_DECIMALS = 4

_DEFAULT = (
    "spec.weight_width=2:8",
    "spec.activation_width=2:8",
    "spec.input_width=3:10",
    "pruned=0.1:0.95",
    "pruning.ranking=global/relative_to_layer_max",
)


#: Axes of one layer each, whose values together are one setting.
_BY_LAYER = ("weight_widths.", "activation_widths.")


class SpaceError(ValueError):
    """An axis that cannot be searched. The message names it and says what can."""


@dataclass(frozen=True)
class Axis:
    """A setting with all numbers from ``low`` to ``high``, or with ``choices`` written as for ``--set``."""

    key: str
    low: int | float | None = None
    high: int | float | None = None
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.choices and not (self.low is not None and self.high is not None and self.low < self.high):
            raise SpaceError(f"--vary {self.key}={self.low}:{self.high}: the first number must be the smaller one")

    @property
    def title(self) -> str:
        return self.key if self.key.startswith(_BY_LAYER) else self.key.rpartition(".")[2]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """``key=low:high`` for numbers, ``key=a/b/c`` for anything. Raises ``ValueError`` naming the axis."""
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise SpaceError(f"--vary {text}: write key=low:high or key=a/b/c, e.g. --vary spec.weight_width=2:8")
        low, colon, high = values.partition(":")
        if not colon:
            choices = tuple(values.split("/"))
            for choice in choices:
                _value(key, choice)
            return cls(key, choices=choices)
        first, last = _value(key, low), _value(key, high)
        if not isinstance(first, int | float) or not isinstance(last, int | float):
            raise SpaceError(f"--vary {text}: only numbers have a range; list what to try as {key}=a/b/c")
        return cls(key, first, last)

    def distribution(self) -> BaseDistribution:
        """For Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        assert self.low is not None and self.high is not None
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high)
        return FloatDistribution(self.low, self.high)

    def candidates(self) -> tuple[int, ...]:
        """All values of an axis of whole numbers."""
        if self.choices:
            return tuple(map(int, self.choices))
        assert isinstance(self.low, int) and isinstance(self.high, int)
        return tuple(range(self.low, self.high + 1))

    def __str__(self) -> str:
        return f"{self.key}={'/'.join(self.choices) or f'{self.low}:{self.high}'}"


def per_layer(axes: Sequence[Axis], recipe: Recipe) -> tuple[Axis, ...]:
    """With an axis for each layer in place of one for all weights, and of one for all activations."""
    counts = {"weight_width": len(recipe.network.hidden) + 1, "activation_width": len(recipe.network.hidden)}
    split: list[Axis] = []
    for axis in axes:
        count = counts.get(axis.title) if axis.key.startswith("spec.") else None
        split += [axis] if count is None else [replace(axis, key=f"{axis.title}s.{n}") for n in range(1, count + 1)]
    return tuple(split)


def axes_of(vary: Sequence[str], fixed: Sequence[str]) -> tuple[Axis, ...]:
    """The default axes, replaced and extended by those of ``vary``, without those whose setting is ``fixed``."""
    asked = [Axis.parse(text) for text in vary]
    held = {setting.partition("=")[0] for setting in fixed}
    if held & {"pruning.fractions", "deploy"}:
        held.add(PRUNED)
    if both := [axis.key for axis in asked if axis.key in held]:
        raise SpaceError(f"{', '.join(both)}: given to --set and to --vary; it can only be one of them")
    axes = {axis.key: axis for axis in (*map(Axis.parse, _DEFAULT), *asked) if axis.key not in held}
    if not axes:
        raise SpaceError("--set holds everything that could vary; name something with --vary")
    return tuple(axes.values())


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe for trials: ``epochs`` for each training, and one level of pruning instead of many."""
    one_level = [f"pruning.fractions={recipe.deploy!r}"] if recipe.deploy else []
    return recipe.with_settings([f"baseline.epochs={epochs}", f"pruning.training.epochs={epochs}", *one_level])


def settings_of(recipe: Recipe, parameters: Mapping[str, int | float | str]) -> tuple[str, ...]:
    """What ``qapsule run --set`` takes to make the trial with these ``parameters`` from ``recipe``.

    Where the recipe states a binary point beside a width, it moves so that the range stays.
    """
    settings = []
    layers: dict[str, list[str]] = {}
    for key, value in parameters.items():
        if key.startswith(_BY_LAYER):  # in the order of the layers, as the axes were made
            layers.setdefault(key.partition(".")[0], []).append(str(value))
            continue
        if key == PRUNED:
            fraction = repr(round(float(value), _PRUNED_DECIMALS))
            settings += [f"pruning.fractions={fraction}", f"deploy={fraction}"]
            continue
        settings.append(f"{key}={value}")
        room, _, name = key.partition(".")
        frac = getattr(recipe.spec, name.replace("_width", "_frac"), None) if room == "spec" else None
        if name.endswith("_width") and isinstance(frac, int):
            settings.append(f"{key.replace('_width', '_frac')}={int(value) - (getattr(recipe.spec, name) - frac)}")
    return (*settings, *(f"{key}={','.join(values)}" for key, values in layers.items()))


def _value(key: str, text: str) -> object:
    """Raises ``ValueError`` for a setting that is none, or a text that it cannot hold."""
    if key == PRUNED:
        fraction = float(parse_setting(Recipe, "deploy", text))
        if not 0 < fraction <= 1:
            raise SpaceError(f"--vary {PRUNED}: {text} is no fraction above 0 and at most 1")
        return fraction
    return parse_setting(Recipe, key, text)
