"""Recipes as values: complete, changeable by text, and the same after a trip through JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from compress.lottery import Rewind
from recipes.plain import PlainError, from_plain, to_plain
from recipes.recipe import Recipe
from recipes.run import recipes


@pytest.mark.parametrize("make", recipes().values(), ids=recipes())
def test_a_recipe_survives_json(make: Callable[[], Recipe]) -> None:
    recipe = make()
    assert from_plain(Recipe, json.loads(json.dumps(to_plain(recipe))), "recipe") == recipe


def test_every_recipe_is_listed_under_its_own_name() -> None:
    assert all(make().name == name for name, make in recipes().items())


def test_settings_reach_every_kind_of_field() -> None:
    jet = recipes()["jet"]()
    changed = jet.with_settings(
        [
            "spec.weight_width=4",
            "spec.bias_width=none",
            "spec.input_signed=false",
            "network.hidden=32, 16",
            "baseline.learning_rate=1e-4",
            "pruning.rewind=to_initialisation",
            "pruning.fractions=0.25,0.5",
            "deploy=0.5",
        ]
    )
    assert changed.spec == replace(jet.spec, weight_width=4, bias_width=None, input_signed=False)
    assert changed.network.hidden == (32, 16)
    assert changed.baseline == replace(jet.baseline, learning_rate=1e-4)
    assert changed.pruning == replace(jet.pruning, rewind=Rewind.TO_INITIALISATION, fractions=(0.25, 0.5))
    assert (changed.deploy, changed.hardware, changed.data) == (0.5, jet.hardware, jet.data)


def test_a_seed_reaches_both_trainings_and_not_the_split() -> None:
    recipe = recipes()["jet"]().with_seed(7)
    assert (recipe.baseline.seed, recipe.pruning.training.seed, recipe.data.split_seed) == (7, 7, 0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "--set epochs: write key=value, e.g. --set baseline.epochs=20"),
        ("spec.weigth_width=4", "--set spec.weigth_width: there is no weigth_width; did you mean weight_width?"),
        (
            "zzz=1",
            "--set zzz: there is no zzz; there are name, summary, data, network, spec, baseline, pruning, deploy,",
        ),
        ("spec=4", "--set spec: it has parts of its own; set one of them: weight_width, bias_width,"),
        ("name.first=x", "--set name.first: name is a single value and has no first"),
        ("spec.weight_width=six", "--set spec.weight_width=six: a whole number is needed"),
        ("spec.input_signed=maybe", "--set spec.input_signed=maybe: true or false is needed"),
        ("deploy=most", "--set deploy=most: a number is needed"),
        (
            "pruning.rewind=back",
            "--set pruning.rewind=back: back is none of to_initialisation, to_step, fine_tune",
        ),
        ("spec.weight_width=99", "weight_width is a whole number of bits from 1 to 32, got 99"),
        ("network.hidden=64,0", "network.hidden: every layer needs at least one neuron, got (64, 0)"),
        ("deploy=0.55", "deploy=0.55 is no level of this recipe, which prunes to 0.0, 0.1, 0.2, 0.3,"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        recipes()["jet"]().with_settings([setting])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"deploy": "0.8"}, "recipe.deploy: '0.8' where a number is needed"),
        ({"deploy": True}, "recipe.deploy: True where a number is needed"),
        ({"network": 3}, "recipe.network: 3 where an object is needed"),
        (
            {"network": {"hidden": [3.5], "batch_norm": True}},
            "recipe.network.hidden[0]: 3.5 where a whole number is needed",
        ),
        ({"network": {"hidden": [3]}}, "recipe.network: it lacks batch_norm"),
        ({"sumary": ""}, "recipe: there is no sumary; did you mean summary?"),
    ],
)
def test_plain_values_of_a_wrong_type_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(PlainError) as caught:
        from_plain(Recipe, {**to_plain(recipes()["jet"]()), **change}, "recipe")
    assert str(caught.value) == message
