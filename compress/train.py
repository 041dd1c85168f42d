"""The training loop: Adam and cross entropy on data in memory, repeatable to the last bit, safe to kill.

    trained = train(model, (x, y), (x_val, y_val), TrainConfig(epochs=60, learning_rate=3e-3), out=Path("runs/a"))

Masked weights (``compress.mask``) stay zero, the device follows the model, and the global random state and the
number of threads are the caller's again afterwards.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.board import HISTOGRAM_EPOCHS, bar, board, log
from compress.borrowed import generators_of, mode, preserved, threads
from compress.checkpoint import check_same, describe, read_checkpoint, write_checkpoint
from compress.mask import masks_of, plain_parameters, prunable
from compress.rewind import ModelState, Snapshot, model_state, restore_model, rewind, take_snapshot
from compress.training import (
    Data,
    Epoch,
    NotFiniteError,
    Schedule,
    TrainConfig,
    Trained,
    check_data,
    check_finite,
    digest,
)

__all__ = [
    "CHECKPOINT",
    "Data",
    "Epoch",
    "Loop",
    "NotFiniteError",
    "Schedule",
    "TrainConfig",
    "Trained",
    "evaluate",
    "train",
]

#: The file in a training's folder that it is resumed from.
CHECKPOINT = "last.pt"


def train(
    model: nn.Module,
    train_data: Data,
    validation_data: Data,
    config: TrainConfig,
    *,
    out: Path | None = None,
    resume: bool = False,
    start: Snapshot | None = None,
    keep_step: int | None = None,
    checkpoint_seconds: float = 10.0,
    log_dir: Path | None = None,
    progress: bool = True,
    label: str = "train",
) -> Trained:
    """Train ``model`` in place: Adam, cross entropy, the whole data set in memory.

    The result is a function of the model's state, the data, ``config`` and ``start`` alone. With ``out`` the state is
    written to ``out/last.pt`` at the end of an epoch, at most every ``checkpoint_seconds`` (0: after every epoch) and
    at the end; with ``resume`` a training that was killed at any moment continues from there to the bit-identical end,
    and one that had ended is only loaded. ``start`` rewinds the model, optimiser, data order and schedule to a snapshot
    first (the model's masks stay); ``keep_step`` asks for the snapshot taken before that step (0: at the start), to
    rewind to later. With ``patience`` the model ends with the weights of its best epoch. ``log_dir`` receives
    TensorBoard scalars and histograms of the prunable weights; ``label`` names the training in messages and on the bar.

    The device follows the model, each of whose submodules ends in the mode (train, eval) it came in. Randomness inside
    the model must come from torch's generators; numpy's and Python's are not seeded.

    Raises ``ValueError`` for unusable data, an ``out`` that already holds a training (without ``resume``) or one with
    another configuration, data or masks, and :class:`NotFiniteError` when a loss is NaN or infinite.
    """
    for name, data in (("train_data", train_data), ("validation_data", validation_data)):
        check_data(name, data)
        check_finite(name, data[0])
    path = None if out is None else out / CHECKPOINT
    if path is not None and path.exists() and not resume:
        raise ValueError(f"{out} already holds a training; resume it or choose another folder")
    device = next(iter(plain_parameters(model).values())).device
    generators = generators_of(device)
    with threads(config.threads), mode(model, training=True), preserved(generators):
        loop = Loop(model, to(device, train_data), to(device, validation_data), config, generators, keep_step, label)
        identity = identity_of(loop, start) | data_identity(train_data, validation_data) if path else {}
        if path is not None and path.exists():
            content = read_checkpoint(path, "training")
            check_same(path, content["identity"], identity)
            loop.restore(content, str(path))
        else:
            loop.begin(start)
            if path is not None:
                write_checkpoint(path, "training", {"identity": identity, **loop.content()})
        saved = time.monotonic()
        done = loop.step // loop.steps_per_epoch
        with (
            bar(label, done, config.epochs, progress) as shown,
            board(None if loop.finished else log_dir, loop.step) as writer,
        ):
            while not loop.finished:
                epoch = loop.run_epoch(path)
                shown.update()
                shown.set_postfix(loss=f"{epoch.validation_loss:.4f}", accuracy=f"{epoch.validation_accuracy:.4f}")
                if writer is not None:
                    log(writer, epoch, model, histograms=loop.finished or epoch.epoch % HISTOGRAM_EPOCHS == 0)
                if path is not None and (loop.finished or time.monotonic() - saved >= checkpoint_seconds):
                    write_checkpoint(path, "training", {"identity": identity, **loop.content()})
                    saved = time.monotonic()
        return loop.end()


def evaluate(model: nn.Module, data: Data, batch_size: int = 8192) -> tuple[float, float]:
    """Mean cross entropy (nats) and accuracy of ``model`` in eval mode; the modes of its submodules are restored."""
    check_data("data", data)
    device = next(iter(plain_parameters(model).values())).device
    loss = torch.zeros((), dtype=torch.float64, device=device)
    hits = torch.zeros((), dtype=torch.int64, device=device)
    with mode(model, training=False), torch.no_grad():
        for x, y in zip(data[0].split(batch_size), data[1].split(batch_size), strict=True):
            labels = y.to(device)
            scores = model(x.to(device))
            loss += F.cross_entropy(scores, labels, reduction="sum")
            hits += (scores.argmax(dim=1) == labels).sum()
    rows = len(data[0])
    return float(loss) / rows, int(hits) / rows


@dataclass
class Loop:
    """A training between two epochs: with the model it holds all that a checkpoint must bring back."""

    model: nn.Module
    train_data: Data
    validation_data: Data
    config: TrainConfig
    generators: dict[str, torch.Generator]
    keep_step: int | None
    label: str
    step: int = 0
    history: list[Epoch] = field(default_factory=list)
    best_model: ModelState | None = None  # of the best epoch, where patience asks for it
    kept: Snapshot | None = None

    def __post_init__(self) -> None:
        self.rows = min(self.config.batch_size, len(self.train_data[0]))
        self.steps_per_epoch = len(self.train_data[0]) // self.rows
        self.steps = self.steps_per_epoch * self.config.epochs
        parameters = {name: p for name, p in plain_parameters(self.model).items() if p.requires_grad}
        self.weights = [parameters[name] for name in prunable(self.model) if name in parameters]
        decayed = {id(weight) for weight in self.weights}
        others = {id(p): p for p in parameters.values() if id(p) not in decayed}
        groups = [
            {"params": self.weights, "weight_decay": self.config.weight_decay},
            {"params": list(others.values()), "weight_decay": 0.0},
        ]
        # Fused Adam is one kernel for all parameters; element by element, so it repeats to the last bit.
        self.optimizer = torch.optim.AdamW(groups, lr=self.config.learning_rate, fused=True)
        if self.keep_step is not None and not 0 <= self.keep_step < self.steps:
            raise ValueError(
                f"{self.label}: keep_step must lie between 0 and {self.steps - 1}, the last step, got {self.keep_step}"
            )

    @property
    def best(self) -> Epoch:
        return min(self.history, key=lambda epoch: epoch.validation_loss) if self.config.patience else self.history[-1]

    @property
    def finished(self) -> bool:
        if not self.history:
            return False
        patience = self.config.patience
        return self.step == self.steps or (
            patience is not None and self.history[-1].epoch - self.best.epoch >= patience
        )

    def begin(self, start: Snapshot | None) -> None:
        for generator in self.generators.values():
            generator.manual_seed(self.config.seed)
        if start is not None:
            if start.step >= self.steps:
                raise ValueError(
                    f"{self.label}: the snapshot to start from is at step {start.step}, this training has only "
                    f"{self.steps}; rewind to an earlier step or train longer"
                )
            self._return_to(start, "the snapshot to start from")

    def content(self) -> dict[str, Any]:
        """All that :meth:`restore` needs, for a checkpoint."""
        return {
            "now": self.snapshot(self.generators["order"].get_state()).to_plain(),
            "history": [asdict(epoch) for epoch in self.history],
            "best_model": None if self.best_model is None else vars(self.best_model),
            "kept": None if self.kept is None else self.kept.to_plain(),
        }

    def restore(self, content: Mapping[str, Any], source: str) -> None:
        """Bring back the training that ``content`` was made of; ``source`` says in messages where that came from."""
        self._return_to(Snapshot.from_plain(content["now"]), source)
        self.history = [Epoch(**epoch) for epoch in content["history"]]
        self.best_model = None if content["best_model"] is None else ModelState(**content["best_model"])
        self.kept = None if content["kept"] is None else Snapshot.from_plain(content["kept"])

    def end(self) -> Trained:
        """Leave the weights that the account speaks of in the model."""
        if self.best_model is not None:
            restore_model(self.model, self.best_model)
        return Trained(history=tuple(self.history), best=self.best, kept=self.kept)

    def shuffled(self) -> tuple[Tensor, Tensor]:
        """The next epoch's order of the rows, on the CPU, and the state of its generator before it was drawn."""
        before = self.generators["order"].get_state()
        return torch.randperm(len(self.train_data[0]), generator=self.generators["order"]), before

    def run_epoch(self, checkpoint: Path | None) -> Epoch:
        """One pass over the data, from where in the epoch the step is. Nothing in the loop waits for the device."""
        (x, y), config, optimizer, rows = self.train_data, self.config, self.optimizer, self.rows
        order, order_before = self.shuffled()
        number, first = divmod(self.step, self.steps_per_epoch)
        losses = []
        rate = config.learning_rate
        optimizer.zero_grad()
        for batch in order[first * rows : self.steps_per_epoch * rows].to(x.device).split(rows):
            if self.step == self.keep_step:
                self.kept = self.snapshot(order_before)
            rate = config.rate_at(self.step, self.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = F.cross_entropy(self.model(x.index_select(0, batch)), y.index_select(0, batch))
            loss.backward()
            if config.l1:
                for weight in self.weights:
                    if weight.grad is not None:
                        weight.grad.add_(weight.detach().sign(), alpha=config.l1)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
            self.step += 1
        return self.account(number, torch.stack(losses), rate, checkpoint)

    def account(self, number: int, losses: Tensor, rate: float, checkpoint: Path | None) -> Epoch:
        """Close epoch ``number``, whose last steps had these training losses and the last of them this learning rate.

        Validates, and keeps the model if it is the best one so far. Raises :class:`NotFiniteError`.
        """
        bad = torch.nonzero(~torch.isfinite(losses))
        if len(bad):
            at = int(bad[0])
            self._diverged("training", float(losses[at]), number, self.step - len(losses) + at, checkpoint)
        validation_loss, accuracy = evaluate(self.model, self.validation_data)
        if not math.isfinite(validation_loss):
            self._diverged("validation", validation_loss, number, self.step, checkpoint)
        epoch = Epoch(
            epoch=number,
            step=self.step,
            learning_rate=rate,
            train_loss=float(losses.double().mean()),
            validation_loss=validation_loss,
            validation_accuracy=accuracy,
        )
        self.history.append(epoch)
        if self.config.patience is not None and self.best is epoch:
            self.best_model = model_state(self.model)
        return epoch

    def _diverged(self, which: str, loss: float, epoch: int, step: int, checkpoint: Path | None) -> NoReturn:
        good = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint (out=None)"
        raise NotFiniteError(
            f"{self.label}: the {which} loss is {loss} in epoch {epoch} at step {step}; {good}; "
            f"lower the learning rate ({self.config.learning_rate}) or look for extreme values in the data"
        )

    def snapshot(self, order: Tensor) -> Snapshot:
        states = {name: generator.get_state() for name, generator in self.generators.items()}
        return take_snapshot(self.step, self.model, self.optimizer, {**states, "order": order})

    def _return_to(self, snapshot: Snapshot, source: str) -> None:
        rewind(snapshot, self.model, self.optimizer, source)
        for name, state in snapshot.generators.items():
            if name in self.generators:  # a snapshot from a GPU has one more than a CPU needs
                self.generators[name].set_state(state)
        self.step = snapshot.step


def to(device: torch.device, data: Data) -> Data:
    return data[0].to(device), data[1].to(device)


def identity_of(loop: Loop, start: Snapshot | None) -> dict[str, Any]:
    """With :func:`data_identity`: what must be the same for a resumed training to end as if never interrupted."""
    return {
        **describe(loop.config),
        "device": loop.train_data[0].device.type,
        "keep_step": loop.keep_step,
        "start": None if start is None else f"step {start.step}",
        "masks": digest(*masks_of(loop.model).values()),
    }


def data_identity(train_data: Data, validation_data: Data) -> dict[str, Any]:
    return {"train_data": digest(*train_data), "validation_data": digest(*validation_data)}
