"""Accuracy and AUC, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.data.dataset import Part
from recipes.metrics import evaluate, score

CLASSES = ("a", "b", "c")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), step=st.sampled_from([0.25, 1.0]))
def test_the_area_is_the_chance_that_a_member_is_ranked_above_an_outsider(seed: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(3), rng.integers(0, 3, 40)])
    logits = np.round(rng.normal(size=(43, 3)) / step) * step  # with ties
    figures = score(logits, labels, CLASSES)
    assert figures.accuracy == np.mean(logits.argmax(axis=1) == labels)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for number, name in enumerate(CLASSES):
        inside, outside = probability[labels == number, number], probability[labels != number, number]
        above = (inside[:, None] > outside + 1e-12).sum() + 0.5 * (abs(inside[:, None] - outside) <= 1e-12).sum()
        assert figures.class_auc[name] == pytest.approx(above / (len(inside) * len(outside)), abs=0.02)
    assert figures.macro_auc == pytest.approx(np.mean(list(figures.class_auc.values())))


def test_a_perfect_classifier_and_its_opposite() -> None:
    labels = np.arange(9) % 3
    perfect = 100.0 * np.eye(3)[labels]
    assert (score(perfect, labels, CLASSES).accuracy, score(perfect, labels, CLASSES).macro_auc) == (1.0, 1.0)
    assert (score(-perfect, labels, CLASSES).accuracy, score(-perfect, labels, CLASSES).macro_auc) == (0.0, 0.0)


def test_large_logits_do_not_overflow() -> None:
    labels = np.arange(9) % 3
    assert score(1e6 * np.eye(3)[labels], labels, CLASSES).macro_auc == 1.0


def test_figures_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="no sample of class c, so no AUC; evaluate on more samples"):
        score(np.zeros((4, 3)), np.array([0, 1, 0, 1]), CLASSES)
    with pytest.raises(ValueError, match="2 logits are NaN or infinite"):
        score(np.array([[np.nan, np.inf, 0.0]]), np.array([0]), CLASSES)
    with pytest.raises(ValueError, match=r"logits of shape \(4, 2\) for 4 labels and 3 classes"):
        score(np.zeros((4, 2)), np.zeros(4, int), CLASSES)


def test_a_network_is_judged_in_eval_mode_and_given_back_as_it_was() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(0.999), torch.nn.Identity()).train()
    part = Part(np.eye(3, dtype=np.float32).repeat(5, axis=0), np.arange(3).repeat(5))
    assert evaluate(network, part, CLASSES).accuracy == 1.0
    assert network.training
