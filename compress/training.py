"""What a training is made of: its data, its configuration, and the account it gives of itself."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from compress.rewind import Snapshot

#: Features ``(rows, ...)`` of a floating-point type and class numbers ``(rows,)`` of type int64.
Data = tuple[Tensor, Tensor]


class Schedule(Enum):
    """How the learning rate moves over the steps of a training; a pure function of the step."""

    CONSTANT = "constant"
    COSINE = "cosine"  # half a cosine from the learning rate down to zero at the last step


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the outcome of a training, the network and the data aside.

    Raises ``ValueError`` naming the field, its value and what it may be.
    """

    epochs: int
    batch_size: int = 1024  # rows; what is left over of an epoch sits out until the next shuffle
    learning_rate: float = 1e-3
    schedule: Schedule = Schedule.COSINE
    weight_decay: float = 0.0  # decoupled (AdamW), on the prunable weights alone
    l1: float = 0.0  # lambda of lambda * sum |w| over the prunable weights
    patience: int | None = None  # epochs without a better validation loss; None: never stop, keep the last weights
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("threads", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.patience is not None and (not isinstance(self.patience, int) or self.patience < 1):
            raise ValueError(f"patience must be a whole number of epochs from 1 on, or None, got {self.patience!r}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate!r}")
        for name in ("weight_decay", "l1"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be zero or a positive number, got {getattr(self, name)!r}")
        if not isinstance(self.schedule, Schedule):
            raise ValueError(f"schedule must be a Schedule ({', '.join(map(str, Schedule))}), got {self.schedule!r}")

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of step ``step`` (from 0) of a training of ``steps``."""
        match self.schedule:
            case Schedule.CONSTANT:
                return self.learning_rate
            case Schedule.COSINE:
                return 0.5 * self.learning_rate * (1.0 + math.cos(math.pi * step / steps))


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the training data gave. Losses are cross entropies in nats, without the L1 term."""

    epoch: int  # from 0
    step: int  # optimiser steps done at its end
    learning_rate: float  # of its last step
    train_loss: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The account of a training; the trained weights are in the model that was handed in."""

    history: tuple[Epoch, ...]
    best: Epoch  # the epoch the weights are from: the first of lowest validation loss, or (patience=None) the last
    kept: Snapshot | None  # the snapshot asked for with ``keep_step``


class NotFiniteError(ValueError):
    """A loss became NaN or infinite. The message names the training, epoch, step and the last good checkpoint."""


def check_data(what: str, data: Data) -> None:
    x, y = data
    if len(x) == 0 or y.shape != (len(x),) or y.dtype != torch.int64 or int(y.min()) < 0:
        raise ValueError(
            f"{what}: needs at least one row and as many class numbers (int64, from 0), got features of shape "
            f"{tuple(x.shape)} and labels of {y.dtype} and shape {tuple(y.shape)}"
        )


def check_finite(what: str, x: Tensor) -> None:
    if bad := int((~torch.isfinite(x)).flatten(1).any(dim=1).sum()):
        raise ValueError(f"{what}: {bad} of {len(x)} rows hold NaN or infinite features; drop or repair them")


def digest(*tensors: Tensor) -> str:
    """Shapes and a checksum, to tell data sets apart by."""
    checksum = 0
    for tensor in tensors:
        checksum = zlib.crc32(tensor.detach().cpu().contiguous().numpy().data, checksum)
    return f"{[tuple(tensor.shape) for tensor in tensors]}, crc32 {checksum:08x}"
