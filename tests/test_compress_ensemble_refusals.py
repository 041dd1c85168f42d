"""What an ensemble cannot hold is refused by name, with what to do instead; and a folder keeps its own ensemble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.ensemble import train_ensemble
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec
from compress.mask import apply_masks, prunable
from compress.prune import Ranking, prune
from compress.spec import Range, Scale
from compress.train import Data, Schedule, TrainConfig, Trained

CONFIG = TrainConfig(epochs=2, batch_size=16)


def data(seed: int = 0) -> Data:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :3].argmax(dim=1)


def plain(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), *between, nn.Linear(8, 3))


def quantized(**fields: Any) -> nn.Sequential:
    spec = QuantSpec(**fields)
    return nn.Sequential(QuantIdentity(spec=spec), QuantLinear(6, 8, spec=spec), QuantReLU(spec=spec), nn.Linear(8, 3))


def run(*models: nn.Module, configs: list[TrainConfig] | None = None, **more: Any) -> tuple[Trained, ...]:
    return train_ensemble(models, data(), data(1), configs or [CONFIG] * len(models), progress=False, **more)


def frozen() -> nn.Sequential:
    model = plain()
    model[0].bias.requires_grad_(False)
    return model


def hooked() -> nn.Sequential:
    model = plain()
    model[0].register_forward_hook(lambda *_: None)
    return model


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: plain(nn.Dropout(0.1)), "layer 1: a Dropout cannot"),
        (lambda: plain(nn.Tanh()), "layer 1: a Tanh cannot"),
        (Net, "the model: a Net cannot"),
        (frozen, "layer 0: a Linear with a frozen bias cannot"),
        (hooked, "layer 0: a Linear with hooks cannot"),
        (lambda: plain().double(), "layer 0: a Linear in torch.float64 cannot"),
        (
            lambda: plain(nn.BatchNorm1d(8, affine=False)),
            "layer 1: a BatchNorm1d without a momentum, parameters or running statistics cannot",
        ),
        (lambda: plain(nn.Flatten(0)), "layer 1: a Flatten from 0 to -1 cannot"),
        (lambda: quantized(weight_per_channel=True), "layer 1: a QuantLinear with weight_per_channel=True cannot"),
        (lambda: quantized(weight_scale=Scale.FLOAT), "layer 1: a QuantLinear with weight_scale=Scale.FLOAT cannot"),
        (
            lambda: quantized(weight_range=Range.LEARNED),
            "layer 1: a QuantLinear with weight_range=Range.LEARNED cannot",
        ),
        (lambda: quantized(output_width=8), "layer 1: a QuantLinear with output_width=8 cannot"),
        (lambda: quantized(weight_width=1), "layer 1: a QuantLinear with binary weights cannot"),
        (lambda: quantized(input_width=2), "layer 0: a QuantIdentity with binary or ternary values cannot"),
        (lambda: nn.Sequential(QuantLinear(6, 3, lean=False)), "layer 0: a QuantLinear with lean=False cannot"),
    ],
)
def test_what_an_ensemble_cannot_hold(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        run(build())
    assert str(caught.value) == f"replica 0, {message} be trained in an ensemble; train it alone"


def test_options_that_a_layer_does_not_use_are_no_reason() -> None:
    spec = QuantSpec(weight_scale=Scale.FLOAT, output_width=8, activation_scale=Scale.FLOAT)
    run(nn.Sequential(QuantIdentity(spec=spec), nn.Linear(6, 3)))
    run(quantized(weight_range=Range.LARGEST))


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (
            plain(),
            plain(nn.ReLU()),
            r"replica 1 has 1 \(ReLU\) where replica 0 has 1 \(Linear, \(8, 3\), with a bias\)",
        ),
        (plain(nn.ReLU()), nn.Sequential(nn.Linear(6, 8), nn.ReLU()), r"replica 1 has 2 layers, replica 0 has 3"),
        (
            quantized(),
            quantized(bias_width=None),
            r"with a float bias\) where replica 0 has .* with biases in a range of",
        ),
        (
            quantized(),
            quantized(activation_frac=3),
            r"2 \(QuantReLU, a constant range\) where .* a range of their own\)",
        ),
    ],
)
def test_replicas_that_are_not_alike(left: nn.Module, right: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(left, right)


def test_configurations_that_do_not_fit() -> None:
    two = [plain(), plain()]
    for changes, message in [
        (
            {"epochs": 3},
            r"^replica 1 has epochs = 3, replica 0 has 2; .* agree in epochs, batch_size, schedule, threads$",
        ),
        ({"batch_size": 8}, r"^replica 1 has batch_size = 8, replica 0 has 16"),
        (
            {"schedule": Schedule.CONSTANT},
            r"^replica 1 has schedule = Schedule.CONSTANT, replica 0 has Schedule.COSINE",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            run(*two, configs=[CONFIG, replace(CONFIG, **changes)])
    with pytest.raises(ValueError, match=r"^threads = 2: an ensemble computes in one"):
        run(*two, configs=[replace(CONFIG, threads=2)] * 2)
    with pytest.raises(ValueError, match=r"got 2 models, 1 configurations and 2 snapshots$"):
        run(*two, configs=[CONFIG])
    with pytest.raises(ValueError, match=r"at least one model"):
        run()
    kept = [one.kept for one in run(plain(), keep_step=2)]
    with pytest.raises(ValueError, match=r"^the snapshots to start from are of steps 0, 2 \(0: none\)"):
        run(*two, start=[None, *kept])
    with pytest.raises(ValueError, match=r"^ensemble, replica 0: keep_step must lie between 0 and 3"):
        run(plain(), keep_step=4)


def test_tensors_that_two_replicas_share() -> None:
    model = plain()
    with pytest.raises(
        ValueError, match=r"^0.bias of replica 1 is the same tensor as 0.bias of replica 0; give each its"
    ):
        run(model, model)


def test_data_that_no_layer_flattens() -> None:
    x, y = data()
    cube = x.view(40, 2, 3)
    with pytest.raises(
        ValueError, match=r"\(rows, features\), these are torch.float32 of shape \(40, 2, 3\); .* Linear\)$"
    ):
        train_ensemble([plain()], (cube, y), (cube, y), [CONFIG], progress=False)
    train_ensemble([nn.Sequential(nn.Flatten(), plain())], (cube, y), (cube, y), [CONFIG], progress=False)
    with pytest.raises(ValueError, match=r"these are torch.float64"):
        train_ensemble([plain()], (x.double(), y), (x, y), [CONFIG], progress=False)


def test_a_folder_with_another_ensemble(tmp_path: Path) -> None:
    run(plain(), plain(), out=tmp_path)
    with pytest.raises(ValueError, match=r"already holds a training; resume it or choose another folder$"):
        run(plain(), plain(), out=tmp_path)
    with pytest.raises(ValueError, match=r"last.pt: made with replicas = 2, this call asks for 1"):
        run(plain(), out=tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"last.pt, replica 1: made with seed = 0, this call asks for 5"):
        run(plain(), plain(), configs=[CONFIG, replace(CONFIG, seed=5)], out=tmp_path, resume=True)
    pruned = plain()
    apply_masks(pruned, prune(prunable(pruned), {}, 0.5, Ranking.GLOBAL))
    with pytest.raises(ValueError, match=r"replica 0: made with masks = "):
        run(pruned, plain(), out=tmp_path, resume=True)


def test_tensorboard_has_a_folder_for_every_replica(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(plain(), plain(), log_dir=tmp_path)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["replica_00", "replica_01"]
    assert all(list(folder.iterdir()) for folder in tmp_path.iterdir())
