"""How good a classifier is: accuracy and areas under the ROC curves, on samples it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn

from recipes.data.dataset import Part

_BATCH = 8192


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Figures on one set of samples."""

    accuracy: float
    macro_auc: float  # mean of ``class_auc``, every class counting alike
    class_auc: dict[str, float]  # one class against the rest, by its name
    samples: int


def score(logits: NDArray[np.floating], labels: NDArray[np.int64], classes: Sequence[str]) -> Metrics:
    """Figures from ``logits`` (samples, classes) and true ``labels`` (samples,).

    The AUC of a class ranks the samples by the softmax probability of that class, as the jet-tagging papers do. Equal
    largest logits count as the first of them, as in argmax. Raises ``ValueError`` where a class has no sample (it has
    no AUC then) or a logit is not finite.
    """
    if logits.shape != (len(labels), len(classes)):
        raise ValueError(f"logits of shape {logits.shape} for {len(labels)} labels and {len(classes)} classes")
    if not np.isfinite(logits).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(logits))} logits are NaN or infinite; look at the weights")
    if absent := [name for number, name in enumerate(classes) if not (labels == number).any()]:
        raise ValueError(f"no sample of class {', '.join(absent)}, so no AUC; evaluate on more samples")
    exact = logits.astype(np.float64)
    # Adding a constant to the logits of a sample changes nothing, so the largest is taken off before the exponential.
    probabilities = np.exp(exact - exact.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    areas = {
        name: float(roc_auc_score(labels == number, probabilities[:, number])) for number, name in enumerate(classes)
    }
    return Metrics(
        accuracy=float(np.mean(exact.argmax(axis=1) == labels)),
        macro_auc=float(np.mean(list(areas.values()))),
        class_auc=areas,
        samples=len(labels),
    )


def logits_of(model: nn.Module, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ``model`` in eval mode makes of ``x`` (samples, features). The model's mode is restored."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return torch.cat([model(batch) for batch in torch.from_numpy(x).split(_BATCH)]).numpy()
    finally:
        model.train(training)


def evaluate(model: nn.Module, part: Part, classes: Sequence[str]) -> Metrics:
    return score(logits_of(model, part.x), part.y, classes)
