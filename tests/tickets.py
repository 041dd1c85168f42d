"""A network small enough to be pruned many times in a test, its data, and equality to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.checkpoint import read_checkpoint
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec
from compress.lottery import LotteryTicket, Rewind
from compress.train import Data, TrainConfig

TRAINING = TrainConfig(epochs=3, batch_size=32, learning_rate=0.02)
TICKET = LotteryTicket(training=TRAINING, fractions=(0.3, 0.6, 0.85))
#: Everything that a resumed run has to bring back: a snapshot from the middle, the best epoch, a level's end.
INTRICATE = replace(
    TICKET, training=replace(TRAINING, patience=2), fractions=(0.3, 0.6), rewind=Rewind.TO_STEP, rewind_step=8
)
WEIGHTS = 6 * 12 + 12 * 3


def data(rows: int = 200, seed: int = 0) -> Data:
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :3].argmax(dim=1)


def net(seed: int = 0, width: int = 5) -> nn.Sequential:
    """The tiny network that is compressed here: 6-12-3, quantized to ``width`` bits."""
    torch.manual_seed(seed)
    spec = QuantSpec(weight_width=width, activation_width=width, input_width=width)
    return nn.Sequential(
        QuantIdentity(spec=spec),
        QuantLinear(6, 12, spec=spec),
        nn.BatchNorm1d(12),
        QuantReLU(spec=spec),
        QuantLinear(12, 3, spec=spec),
    )


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit, through nested containers."""
    if isinstance(left, Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def differing_files(one: Path, other: Path, checkpoints: str = "training") -> list[str]:
    """The files of two runs that are not there twice, or say something else; ``checkpoints`` are of this kind."""
    found = {folder: {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} for folder in (one, other)}
    unequal = found[one] ^ found[other]
    for name in found[one] & found[other]:
        if name.endswith(".json"):
            equal = (one / name).read_text() == (other / name).read_text()
        else:
            kind = "model" if Path(name).name == "model.pt" else checkpoints
            equal = same(read_checkpoint(one / name, kind), read_checkpoint(other / name, kind))
        unequal |= set() if equal else {name}
    return sorted(unequal)
