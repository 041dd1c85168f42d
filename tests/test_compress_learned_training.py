"""Training with learned widths: repeatable, resumable to the last bit, and what it keeps on the way."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compress.checkpoint import load_model
from compress.ebops import ebops
from compress.learned import freeze, learn_precision
from compress.learned.chain import Chain
from compress.learned.training import (
    CHECKPOINT,
    FRONT,
    Compromise,
    PrecisionConfig,
    front_file,
    front_of,
    train_precision,
)
from compress.train import Data, NotFiniteError, evaluate

CONFIG = PrecisionConfig(epochs=8, price=1e-4, first_price=1e-5, batch_size=32, learning_rate=0.01, evaluate_every=1)


def data(rows: int, seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 6, generator=generator)
    noise = 0.3 * torch.randn(rows, 3, generator=generator)
    return x, (x[:, :3] + noise).argmax(dim=1)


TRAIN, VALIDATION = data(400, 0), data(200, 1)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return learn_precision(nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3)), TRAIN[0])


def run(model: nn.Sequential, config: PrecisionConfig = CONFIG, **more: Any) -> Any:
    return train_precision(model, TRAIN, VALIDATION, config, progress=False, **more)


def state(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / FRONT).iterdir()}


def test_it_learns_and_gets_cheaper():
    model = net()
    before, (_, accuracy) = ebops(model).total, evaluate(model, VALIDATION)
    found = run(model, replace(CONFIG, epochs=30))
    assert found.final.ebops < 0.5 * before and found.final.accuracy > accuracy + 0.2
    assert found.final.ebops == ebops(model).total == ebops(freeze(model)).total
    assert found.final.accuracy == evaluate(model, VALIDATION)[1]


def test_a_higher_price_buys_less():
    found = [run(net(), replace(CONFIG, epochs=20, price=price)).final for price in (2e-5, 2e-4, 2e-3)]
    assert all(dear.ebops < cheap.ebops for cheap, dear in pairwise(found))


def test_an_absurd_price_prunes_everything():
    model = net()
    run(model, replace(CONFIG, epochs=40, price=10.0))
    assert [layer.products for layer in ebops(model).layers] == [0, 0]
    assert len(freeze(model)(VALIDATION[0]).unique(dim=0)) == 1


def test_the_same_seed_gives_the_same_bits():
    first, second, other = net(), net(), net()
    assert run(first) == run(second)
    run(other, replace(CONFIG, seed=1))
    assert torch.equal(state(first), state(second)) and not torch.equal(state(first), state(other))


@pytest.mark.parametrize("killed_in", [1, 37, 50, 95])
@pytest.mark.parametrize("checkpoint_every", [1, 3])
def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path, monkeypatch, killed_in, checkpoint_every):
    whole = net()
    expected = run(whole, out=tmp_path / "whole", checkpoint_every=checkpoint_every)
    step, steps = Chain.step, iter(range(killed_in))

    def killing(self: Chain, *args: Any, **more: Any) -> torch.Tensor:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return step(self, *args, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Chain, "step", killing)
        run(net(), out=tmp_path / "killed", checkpoint_every=checkpoint_every)
    resumed = net()
    assert run(resumed, out=tmp_path / "killed", checkpoint_every=checkpoint_every, resume=True) == expected
    assert torch.equal(state(resumed), state(whole))
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_finished_training_is_only_loaded(tmp_path, monkeypatch):
    model, again = net(), net()
    expected = run(model, out=tmp_path)
    monkeypatch.setattr(Chain, "step", None)
    assert run(again, out=tmp_path, resume=True) == expected and torch.equal(state(model), state(again))


def test_the_front_is_kept_and_nothing_else(tmp_path):
    found = run(net(), replace(CONFIG, epochs=20), out=tmp_path)
    assert {path.name for path in (tmp_path / FRONT).iterdir()} == {
        front_file(tmp_path, point).name for point in found.front
    }
    for point in found.front:
        model = net()
        load_model(front_file(tmp_path, point), model)
        assert ebops(model).total == point.ebops and evaluate(model, VALIDATION)[1] == point.accuracy


def test_the_front_is_what_no_other_beats():
    points = [
        Compromise(epoch=number, ebops=cost, accuracy=accuracy, loss=1.0)
        for number, (cost, accuracy) in enumerate([(10, 0.5), (20, 0.7), (20, 0.6), (30, 0.7), (5, 0.4), (40, 0.9)])
    ]
    front = front_of(points)
    assert [point.epoch for point in front] == [4, 0, 1, 5]
    for point in points:
        others = [other for other in points if other is not point]
        beaten = any(other.ebops <= point.ebops and other.accuracy >= point.accuracy for other in others)
        assert (point in front) != beaten


def test_price_and_rate_follow_the_schedule():
    config = replace(CONFIG, price=1e-4, first_price=1e-6, rise=0.5, constant=0.5, learning_rate=0.1)
    prices = [config.price_at(step, 100) for step in range(100)]
    assert prices[0] == 1e-6 and prices[25] == pytest.approx(1e-5) and set(prices[50:]) == {1e-4}
    rates = [config.rate_at(step, 100) for step in range(100)]
    assert set(rates[:50]) == {0.1} and rates[75] == pytest.approx(0.05) and rates[99] < 2e-4
    assert replace(config, price=1e-7).price_at(0, 100) == 1e-7
    assert replace(config, rise=0.0).price_at(0, 100) == 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"batch_size": 2.0}, "batch_size must be a whole number"),
        ({"price": 0.0}, "price must be a positive number, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number, got nan"),
        ({"rise": 1.5}, "rise is a part of the training, from 0 to 1, got 1.5"),
    ],
)
def test_a_bad_configuration_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_bad_data_and_folders_are_named(tmp_path):
    x, y = TRAIN
    with pytest.raises(ValueError, match="train_data: 400 of 400 rows hold NaN"):
        train_precision(net(), (x * math.nan, y), VALIDATION, CONFIG)
    with pytest.raises(ValueError, match="validation_data: needs at least one row"):
        train_precision(net(), TRAIN, (x, y.int()), CONFIG)
    with pytest.raises(ValueError, match="on the CPU, got tensors on meta"):
        train_precision(net().to("meta"), TRAIN, VALIDATION, CONFIG)
    run(net(), out=tmp_path)
    with pytest.raises(ValueError, match="already holds a training"):
        run(net(), out=tmp_path)
    with pytest.raises(ValueError, match=r"made with price = 0.0001, this call asks for 0.001"):
        run(net(), replace(CONFIG, price=1e-3), out=tmp_path, resume=True)
    other = net()
    with torch.no_grad():
        other[1].weight[0, 0] += 1
    with pytest.raises(ValueError, match="made with start = "):
        run(other, out=tmp_path, resume=True)


def test_divergence_stops_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    step, count = Chain.step, iter(range(1000))

    def poisoned(self: Chain, *args: Any, **more: Any) -> torch.Tensor:
        if next(count) == 60:
            self.vector[0] = math.nan
        return step(self, *args, **more)

    monkeypatch.setattr(Chain, "step", poisoned)
    with pytest.raises(NotFiniteError, match=r"jets: a weight or width is NaN or infinite after epoch 6, step 72"):
        run(net(), out=tmp_path, checkpoint_every=1, label="jets")
    assert (tmp_path / CHECKPOINT).exists()
    monkeypatch.setattr(Chain, "step", step)
    resumed, whole = net(), net()
    assert run(resumed, out=tmp_path, resume=True) == run(whole) and torch.equal(state(resumed), state(whole))
