"""How a training is watched: a progress bar on the terminal, scalars and histograms in TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from compress.mask import prunable
from compress.training import Epoch

#: Epochs between two TensorBoard histograms.
HISTOGRAM_EPOCHS = 10


def bar(label: str, done: int, epochs: int, shown: bool) -> Any:
    """A bar of ``epochs``, ``done`` of which are; silent unless ``shown``."""
    return tqdm(total=epochs, initial=done, desc=label, unit="epoch", disable=not shown)


@contextmanager
def board(log_dir: Path | None, step: int) -> Iterator[Any]:
    """A TensorBoard writer that forgets what a killed run logged after ``step``; None without a folder."""
    if log_dir is None:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import

    with SummaryWriter(log_dir, purge_step=step) as writer:
        yield writer


def log(writer: Any, epoch: Epoch, model: nn.Module, histograms: bool) -> None:
    writer.add_scalar("loss/train", epoch.train_loss, epoch.step)
    writer.add_scalar("loss/validation", epoch.validation_loss, epoch.step)
    writer.add_scalar("accuracy/validation", epoch.validation_accuracy, epoch.step)
    writer.add_scalar("learning_rate", epoch.learning_rate, epoch.step)
    if histograms:
        for name, weight in prunable(model).items():
            writer.add_histogram(name, weight, epoch.step)
