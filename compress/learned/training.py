"""Training weights and widths together, while the price of hardware rises; every good compromise on the way is kept.

    learned = learn_precision(network, x)
    config = PrecisionConfig(epochs=200, price=5e-6)
    found = train_precision(learned, (x, y), (x_val, y_val), config, out=Path("runs/a"))
    hardware = freeze(learned)

The price is what one effective bit operation costs in nats of cross entropy. It rises while the learning rate is
constant, and stays at its highest while the learning rate falls to zero. Repeatable to the last bit, and safe to kill
at any moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from compress.borrowed import threads
from compress.checkpoint import check_same, describe, read_checkpoint, save_model, write_checkpoint
from compress.ebops import ebops
from compress.learned.chain import Chain
from compress.train import NotFiniteError
from compress.training import Data, check_data, check_finite, digest

#: In a training's folder: the file that it is resumed from, and the folder of the networks on the front.
CHECKPOINT, FRONT = "last.pt", "front"


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig:
    """Everything that decides the outcome, the network and the data aside. Raises ``ValueError`` naming a bad field."""

    epochs: int
    price: float  # nats per effective bit operation, at the end
    first_price: float = 2e-6  # and at the start; lower, if ``price`` is
    rise: float = 0.2  # the part of the training over which the price rises, exponentially
    constant: float = 0.2  # the part over which the learning rate is constant; a cosine to zero follows
    batch_size: int = 256
    learning_rate: float = 2.5e-3
    width_rate: float = 2.0  # the learning rate of widths, in units of ``learning_rate``
    activation_every: int = 4  # steps between two gradients of activation widths, which cost more than the others
    evaluate_every: int = 2  # epochs between two candidates for the front
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "activation_every": 1, "evaluate_every": 1, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}")
        for name in ("price", "first_price", "learning_rate", "width_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value!r}")
        for name in ("rise", "constant"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a part of the training, from 0 to 1, got {getattr(self, name)!r}")

    def price_at(self, step: int, steps: int) -> float:
        """The price in step ``step`` (from 0) of ``steps``."""
        start = min(self.first_price, self.price)
        risen = min(1.0, step / (self.rise * steps)) if self.rise else 1.0
        return start * (self.price / start) ** risen

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate in step ``step`` (from 0) of ``steps``."""
        done = step / steps
        if done < self.constant:
            return self.learning_rate
        return 0.5 * self.learning_rate * (1 + math.cos(math.pi * (done - self.constant) / (1 - self.constant)))


@dataclass(frozen=True, kw_only=True)
class Compromise:
    """A network met in training: what it costs, and how good it is on the validation data."""

    epoch: int  # finished epochs
    ebops: int
    accuracy: float
    loss: float  # cross entropy, nats


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The account of a training. The model ends as ``final`` says; ``front`` is by rising cost and accuracy."""

    history: tuple[Compromise, ...]
    front: tuple[Compromise, ...]

    @property
    def final(self) -> Compromise:
        return self.history[-1]


def front_file(out: Path, point: Compromise) -> Path:
    """Where the network of a point on the front is kept, to be loaded with ``compress.checkpoint.load_model``."""
    return out / FRONT / f"epoch_{point.epoch}.pt"


def train_precision(
    model: nn.Sequential,
    train_data: Data,
    validation_data: Data,
    config: PrecisionConfig,
    *,
    out: Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 10,
    progress: bool = True,
    label: str = "widths",
) -> Learned:
    """Train ``model`` (of ``learn_precision``) in place, on one thread of the CPU, the data in memory.

    With ``out`` the networks on the front are kept as checkpoints (:func:`front_file`), and the state is written every
    ``checkpoint_every`` evaluations and at the end; with ``resume`` a training that was killed continues to the
    bit-identical end. Raises ``ValueError`` for unusable data or an ``out`` that holds another training, and
    ``NotFiniteError`` when the loss is NaN or infinite.
    """
    for name, data in (("train_data", train_data), ("validation_data", validation_data)):
        check_data(name, data)
        check_finite(name, data[0])
    tensors = [*train_data, *validation_data, *model.parameters()]
    if devices := {tensor.device.type for tensor in tensors} - {"cpu"}:
        raise ValueError(f"widths are learned on the CPU, got tensors on {', '.join(devices)}; move them with .cpu()")
    path = None if out is None else out / CHECKPOINT
    if path is not None and path.exists() and not resume:
        raise ValueError(f"{out} already holds a training; resume it or choose another folder")
    with threads(1), torch.no_grad():
        loop = _Loop(model, train_data, validation_data, config)
        if path is not None and path.exists():
            loop.load(path)
        bar = tqdm(total=config.epochs, initial=loop.epoch, desc=label, unit="epoch", disable=not progress)
        with bar:
            while loop.epoch < config.epochs:
                loop.run_epoch(label)
                bar.update()
                if loop.epoch % config.evaluate_every and loop.epoch < config.epochs:
                    continue
                point = loop.evaluate()
                bar.set_postfix(ebops=point.ebops, accuracy=f"{point.accuracy:.4f}")
                if out is not None and path is not None:
                    loop.keep(out, point)
                    if len(loop.history) % checkpoint_every == 0 or loop.epoch == config.epochs:
                        loop.save(path)
        return Learned(history=tuple(loop.history), front=front_of(loop.history))


class _Loop:
    """A training between two epochs."""

    def __init__(
        self, model: nn.Sequential, train_data: Data, validation_data: Data, config: PrecisionConfig
    ) -> None:
        self.model, self.config = model, config
        self.train_data, self.validation_data = train_data, validation_data
        self.chain = Chain(model, width_rate=config.width_rate)
        self.order = torch.Generator().manual_seed(config.seed)
        self.epoch = 0
        self.history: list[Compromise] = []
        self.rows = min(config.batch_size, len(train_data[0]))
        self.steps_per_epoch = len(train_data[0]) // self.rows
        self.identity = {
            **describe(config),
            "layers": repr(model),
            "train_data": digest(*train_data),
            "validation_data": digest(*validation_data),
            "start": digest(self.chain.vector),
        }

    def run_epoch(self, label: str) -> None:
        config, chain = self.config, self.chain
        steps = self.steps_per_epoch * config.epochs
        step = self.epoch * self.steps_per_epoch
        used = torch.randperm(len(self.train_data[0]), generator=self.order)[: self.steps_per_epoch * self.rows]
        x, y = self.train_data[0][used], self.train_data[1][used]
        for rows, classes in zip(x.split(self.rows), y.split(self.rows), strict=True):
            price, rate = config.price_at(step, steps), config.rate_at(step, steps)
            chain.step(rows, classes, price, rate, with_activations=step % config.activation_every == 0)
            step += 1
        self.epoch += 1
        if not torch.isfinite(chain.vector).all():
            raise NotFiniteError(
                f"{label}: a weight or width is NaN or infinite after epoch {self.epoch}, step {step}; "
                f"lower the learning rate ({config.learning_rate})"
            )

    def evaluate(self) -> Compromise:
        x, y = self.validation_data
        self.chain.quantize()
        scores = self.chain.scores(x)
        point = Compromise(
            epoch=self.epoch,
            ebops=ebops(self.model).total,
            accuracy=int((scores.argmax(dim=1) == y).sum()) / len(y),
            loss=float(nn.functional.cross_entropy(scores, y)),
        )
        self.history.append(point)
        return point

    def keep(self, out: Path, point: Compromise) -> None:
        """Save the network if it is on the front, and drop those that it takes off it."""
        front = front_of(self.history)
        if point not in front:
            return
        save_model(front_file(out, point), self.model, asdict(point))
        for other in self.history:
            if other not in front:
                front_file(out, other).unlink(missing_ok=True)

    def save(self, path: Path) -> None:
        chain = self.chain
        content = {
            "identity": self.identity,
            "epoch": self.epoch,
            "vector": chain.vector,
            "gradient": chain.gradient,
            "mean": chain.mean,
            "square": chain.square,
            "steps": chain.steps,
            "order": self.order.get_state(),
            "history": [asdict(point) for point in self.history],
        }
        write_checkpoint(path, "precision training", content)

    def load(self, path: Path) -> None:
        content: dict[str, Any] = read_checkpoint(path, "precision training")
        check_same(path, content["identity"], self.identity)
        for name in ("vector", "gradient", "mean", "square"):
            getattr(self.chain, name).copy_(content[name])
        self.chain.steps, self.epoch = content["steps"], content["epoch"]
        self.order.set_state(content["order"])
        self.history = [Compromise(**point) for point in content["history"]]


def front_of(points: Sequence[Compromise]) -> tuple[Compromise, ...]:
    """Those that no other equals or beats in both cost and accuracy, by rising cost; of equals the first."""
    found: list[Compromise] = []
    for point in sorted(points, key=lambda point: (point.ebops, -point.accuracy, point.epoch)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return tuple(found)
