"""Data sets and splits: what is refused, and the laws of a split."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.data.dataset import DataError, Dataset, Scaling, Standardisation, split


def events(number: int, seed: int = 0) -> Dataset:
    """``number`` events of two samples each, in three classes."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(rng.permutation(10 * number)[:number], 2)
    return Dataset(
        source="events",
        x=rng.normal(3.0, 2.0, (2 * number, 2)).astype(np.float32),
        y=np.arange(2 * number) // 2 % 3,
        groups=groups,
        features=("a", "b"),
        classes=("p", "q", "r"),
    )


def test_the_split_keeps_every_sample_once_and_events_whole() -> None:
    data = events(500)
    marked = replace(data, x=np.column_stack([data.groups, np.arange(len(data))]).astype(np.float32))
    splits = split(marked, validation=0.1, test=0.2, scaling=Scaling.NONE)
    parts = [splits.train.x, splits.validation.x, splits.test.x]
    assert sorted(np.concatenate(parts)[:, 1]) == list(range(len(data)))
    sides = [set(part[:, 0]) for part in parts]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert [len(part) / len(data) for part in parts] == pytest.approx([0.7, 0.1, 0.2], abs=0.05)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), order=st.randoms(use_true_random=False))
def test_the_side_of_an_event_depends_on_its_number_and_the_seed_alone(seed: int, order: Any) -> None:
    data = events(300)
    rows = list(range(len(data)))
    order.shuffle(rows)
    some = rows[:450]
    part = replace(data, x=data.x[some], y=data.y[some], groups=data.groups[some])
    whole = split(data, validation=0.2, test=0.2, scaling=Scaling.NONE, seed=seed)
    fewer = split(part, validation=0.2, test=0.2, scaling=Scaling.NONE, seed=seed)
    for name in ("train", "validation", "test"):
        theirs = {tuple(row) for row in getattr(whole, name).x.tolist()}
        assert {tuple(row) for row in getattr(fewer, name).x.tolist()} <= theirs


def test_another_split_seed_is_another_split() -> None:
    first, second = (split(events(300), validation=0.1, test=0.2, scaling=Scaling.NONE, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.test.x, second.test.x)


def test_standardisation_is_fitted_on_the_training_part_only() -> None:
    data = events(500)
    plain = split(data, validation=0.1, test=0.2, scaling=Scaling.NONE)
    scaled = split(data, validation=0.1, test=0.2, scaling=Scaling.STANDARD)
    assert scaled.standardisation == Standardisation.fit(plain.train.x)
    assert scaled.train.x.mean(axis=0) == pytest.approx([0, 0], abs=1e-6)
    assert scaled.train.x.std(axis=0) == pytest.approx([1, 1], abs=1e-6)
    exact = (plain.test.x.astype(np.float64) - scaled.standardisation.mean) / scaled.standardisation.std
    assert np.array_equal(scaled.test.x, exact.astype(np.float32))
    assert abs(scaled.test.x.mean(axis=0)).max() > 1e-4


def test_a_constant_feature_becomes_zero() -> None:
    scale = Standardisation.fit(np.full((5, 1), 7.0, np.float32))
    assert scale.apply(np.full((2, 1), 7.0, np.float32)).tolist() == [[0.0], [0.0]]


def test_a_held_out_set_is_the_test_part() -> None:
    data = replace(events(300), held_out=np.arange(600) >= 500)
    splits = split(data, validation=0.25, test=0.2, scaling=Scaling.NONE)
    assert np.array_equal(splits.test.x, data.x[500:])
    assert len(splits.train.y) + len(splits.validation.y) == 500
    assert len(splits.validation.y) == pytest.approx(125, abs=30)


def test_the_digest_tells_data_apart_and_not_their_names() -> None:
    data = events(20)
    assert replace(data, source="elsewhere").digest == data.digest
    other = data.x.copy()
    other[0, 0] += 1
    for changed in (
        {"x": other},
        {"y": data.y[::-1].copy()},
        {"groups": data.groups + 1},
        {"classes": ("p", "q", "s")},
    ):
        assert replace(data, **changed).digest != data.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x": np.full((600, 2), np.nan, np.float32)},
            "events: 600 of 600 samples hold NaN or infinite features, the first in row 0, feature a; "
            "drop or repair these rows",
        ),
        (
            {"x": np.zeros((600, 3), np.float32)},
            "events: the samples have shape (600, 3), 600 labels and 2 features need (600, 2); "
            "store one row per label and one column per feature",
        ),
        (
            {"classes": ("p", "q")},
            "events: labels from 0 to 2, the 2 classes p, q need 0 to 1; number the labels from 0",
        ),
        ({"groups": np.zeros(3, int)}, "events: groups of shape (3,), 600 samples need (600,); store one each"),
        ({"y": np.zeros(0, int)}, "events: it holds no samples; give a file with at least one"),
    ],
)
def test_unusable_data_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        replace(events(300), **changes)
    assert str(caught.value) == message


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(DataError, match=r"^events: validation=0.5 and test=0.5 must be positive fractions"):
        split(events(9), validation=0.5, test=0.5, scaling=Scaling.NONE)
    with pytest.raises(DataError, match=r"^events: the validation part has 0 of 2 samples and none of class p"):
        split(replace(events(1), classes=("p",)), validation=0.001, test=0.001, scaling=Scaling.NONE)
