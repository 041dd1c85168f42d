"""The loop repeats to the last bit, resumes to the last bit, stops when it must and gives back what it borrowed."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import compress.train
from compress.borrowed import threads
from compress.checkpoint import read_checkpoint
from compress.layers import QuantIdentity, QuantLinear, QuantReLU
from compress.mask import apply_masks, masks_of, plain_parameters, prunable
from compress.prune import Ranking, prune
from compress.rewind import model_state
from compress.spec import QuantSpec
from compress.train import CHECKPOINT, Data, NotFiniteError, Schedule, TrainConfig, evaluate, train

CONFIG = TrainConfig(epochs=4, batch_size=32, learning_rate=0.02)


def data(rows: int = 200, seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 6, generator=generator)
    noise = 0.2 * torch.randn(rows, 3, generator=generator)
    return x, (x[:, :3] + noise).argmax(dim=1)


TRAIN, VALIDATION = data(), data(100, 1)


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    spec = QuantSpec(weight_width=6, activation_width=6, input_width=6)
    return nn.Sequential(
        QuantIdentity(spec=spec),
        QuantLinear(6, 12, spec=spec),
        nn.BatchNorm1d(12),
        QuantReLU(spec=spec),
        nn.Dropout(0.1),  # draws from torch's global generator
        QuantLinear(12, 3, spec=spec),
    )


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))


def run(model: nn.Module, config: TrainConfig = CONFIG, **more: Any) -> Any:
    return train(model, TRAIN, VALIDATION, config, progress=False, **more)


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model_state(model).tensors)


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class Killed(Exception):
    pass


def kill_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Die in the middle of the epoch after so many whole ones."""
    counter = itertools.count(1)
    real = F.cross_entropy
    steps = epochs * (200 // 32) + 3

    def cross_entropy(*args: Any, **kwargs: Any) -> Tensor:
        if "reduction" not in kwargs and next(counter) > steps:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(compress.train.F, "cross_entropy", cross_entropy)


def test_equals_a_hand_written_loop_to_the_last_bit() -> None:
    model, by_hand = plain(), plain()
    config = replace(CONFIG, l1=1e-3, weight_decay=0.01, schedule=Schedule.CONSTANT)
    run(model, config)

    weights, others = ([p for p in by_hand.parameters() if (p.dim() > 1) == matrix] for matrix in (True, False))
    groups = [{"params": weights, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.02, fused=True)
    order = torch.Generator().manual_seed(0)
    with threads(1):
        for _ in range(4):
            for batch in torch.randperm(200, generator=order)[:192].split(32):
                optimizer.zero_grad()
                F.cross_entropy(by_hand(TRAIN[0][batch]), TRAIN[1][batch]).backward()
                for weight in weights:
                    assert weight.grad is not None
                    weight.grad.add_(weight.detach().sign(), alpha=1e-3)
                optimizer.step()
    assert same(tensors(model), tensors(by_hand))


def test_same_seed_same_bits_whatever_the_global_state() -> None:
    first, second, third = net(), net(), net()
    a = run(first)
    torch.manual_seed(99)
    b = run(second)
    c = run(third, replace(CONFIG, seed=1))
    assert a.history == b.history and same(tensors(first), tensors(second))
    assert a.history != c.history and not same(tensors(first), tensors(third))


def test_it_learns() -> None:
    model = net()
    trained = run(model, replace(CONFIG, epochs=20))
    assert trained.history[0].validation_loss > trained.best.validation_loss
    assert trained.best.validation_accuracy > 0.75
    assert evaluate(model, VALIDATION) == (trained.best.validation_loss, trained.best.validation_accuracy)


def test_what_was_borrowed_is_given_back() -> None:
    model = net()
    model.eval()
    model[2].train()
    modes = [module.training for module in model.modules()]
    number = torch.get_num_threads()
    noise = torch.random.get_rng_state()
    run(model, replace(CONFIG, threads=number + 1))
    assert torch.get_num_threads() == number
    assert torch.equal(torch.random.get_rng_state(), noise)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_killed_in_mid_epoch_and_resumed_is_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, patience: int | None
) -> None:
    config = replace(CONFIG, epochs=6, patience=patience)
    whole, resumed = net(), net()
    expected = run(whole, config, keep_step=8, out=tmp_path / "whole", checkpoint_seconds=0)
    with monkeypatch.context() as patched:
        kill_after(patched, epochs)
        with pytest.raises(Killed):
            run(resumed, config, keep_step=8, out=tmp_path / "cut", checkpoint_seconds=0)
    other = net(seed=5)  # the checkpoint brings everything, the initial weights too
    got = run(other, config, keep_step=8, out=tmp_path / "cut", resume=True, checkpoint_seconds=0)
    assert got.history == expected.history and got.best == expected.best
    assert same(tensors(whole), tensors(other))
    assert same(dict(got.kept.model.tensors), dict(expected.kept.model.tensors))


def test_a_finished_training_is_only_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, again = net(), net(seed=5)
    trained = run(model, out=tmp_path)
    kill_after(monkeypatch, -10)
    assert run(again, out=tmp_path, resume=True) == trained
    assert same(tensors(model), tensors(again))


@pytest.mark.parametrize("step", [0, 1, 7, 12])
def test_starting_from_a_kept_step_repeats_the_rest(step: int) -> None:
    model, again = net(), net(seed=5)
    trained = run(model, keep_step=step)
    repeated = run(again, start=trained.kept)
    assert trained.kept.step == step
    assert same(tensors(model), tensors(again))
    whole = -(-step // 6)  # epochs of six steps; one that was entered in its middle has its own mean loss
    assert repeated.history[-(4 - whole) :] == trained.history[whole:]


@pytest.mark.parametrize("l1", [0.0, 0.01])
def test_pruned_stays_zero_behind_the_mask_too(l1: float) -> None:
    model = net()
    kept = run(model, keep_step=7).kept
    masks = prune(prunable(model), {}, 0.6, Ranking.GLOBAL)
    apply_masks(model, masks)
    run(model, replace(CONFIG, l1=l1, weight_decay=0.1), start=kept)
    for name, mask in masks.items():
        assert torch.equal(masks_of(model)[name], mask)
        for tensor in (prunable(model)[name], plain_parameters(model)[name].detach()):
            assert tensor[~mask].view(torch.int32).count_nonzero() == 0
            assert tensor[mask].count_nonzero() > 0


def test_l1_and_weight_decay_shrink_the_weights() -> None:
    def size(**changes: Any) -> float:
        model = plain()
        run(model, replace(CONFIG, **changes))
        return sum(float(weight.abs().sum()) for weight in prunable(model).values())

    assert size(l1=0.05) < size()
    assert size(weight_decay=0.5) < size()


def scripted_losses(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    following = iter(losses)
    monkeypatch.setattr(compress.train, "evaluate", lambda *_: (next(following), 0.5))


def test_early_stopping_ends_with_the_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, epochs=9, patience=3, schedule=Schedule.CONSTANT)
    reference, model = net(), net()
    run(reference, replace(config, epochs=3, patience=None))
    scripted_losses(monkeypatch, [5.0, 4.0, 2.0, 3.0, 2.0, 2.5, 1.0])
    trained = run(model, config)
    assert [epoch.epoch for epoch in trained.history] == [0, 1, 2, 3, 4, 5]
    assert trained.best is trained.history[2]  # an equal loss is no better
    assert same(tensors(model), tensors(reference))


def test_without_patience_the_last_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted_losses(monkeypatch, [1.0, 2.0, 3.0, 4.0])
    trained = run(net())
    assert len(trained.history) == 4 and trained.best is trained.history[-1]


@pytest.mark.parametrize("schedule", list(Schedule))
def test_schedules(schedule: Schedule) -> None:
    config = replace(CONFIG, schedule=schedule)
    rates = [config.rate_at(step, 100) for step in (0, 50, 100)]
    assert rates == pytest.approx([0.02, 0.02, 0.02] if schedule is Schedule.CONSTANT else [0.02, 0.01, 0.0])
    trained = run(net(), config)
    assert [epoch.learning_rate for epoch in trained.history] == [config.rate_at(6 * e + 5, 24) for e in range(4)]


class Diverging(nn.Module):
    """Gives NaN or infinite scores from one training step on."""

    def __init__(self, at: int, value: float) -> None:
        super().__init__()
        self.layer, self.left, self.value = nn.Linear(6, 3), at, value

    def forward(self, x: Tensor) -> Tensor:
        self.left -= self.training
        return self.layer(x) * (1.0 if self.left >= 0 else self.value)


def test_nan_names_training_epoch_step_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError) as caught:
        run(Diverging(8, math.nan), out=tmp_path, label="level 3", checkpoint_seconds=0)
    assert str(caught.value) == (
        f"level 3: the training loss is nan in epoch 1 at step 8; the last good checkpoint is {tmp_path / CHECKPOINT}; "
        "lower the learning rate (0.02) or look for extreme values in the data"
    )
    saved = read_checkpoint(tmp_path / CHECKPOINT, "training")
    assert saved["now"]["step"] == 6 and len(saved["history"]) == 1
    assert all(torch.isfinite(tensor).all() for tensor in saved["now"]["model"]["tensors"].values())


def test_an_infinite_validation_loss_stops_too(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted_losses(monkeypatch, [1.0, math.inf])
    with pytest.raises(NotFiniteError, match=r"^train: the validation loss is inf in epoch 1 at step 12; there is no"):
        run(net())


def test_evaluate_by_hand_in_any_batch_size() -> None:
    model = plain()
    model(TRAIN[0])
    model.eval()
    scores = model(VALIDATION[0]).detach()
    loss = -scores.double().log_softmax(1)[torch.arange(100), VALIDATION[1]].mean()
    hits = int((scores.argmax(1) == VALIDATION[1]).sum())
    model.train()
    for batch in (1, 33, 100, 8192):
        assert evaluate(model, VALIDATION, batch) == (pytest.approx(float(loss), rel=1e-6), hits / 100)
    assert model.training


def test_fewer_rows_than_a_batch() -> None:
    trained = train(plain(), data(10), VALIDATION, CONFIG, progress=False)
    assert [epoch.step for epoch in trained.history] == [1, 2, 3, 4]


def test_tensorboard_scalars_and_histograms(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trained = run(net(), log_dir=tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path), size_guidance={accumulator.HISTOGRAMS: 0}).Reload()
    logged = {event.step: event.value for event in events.Scalars("loss/validation")}
    assert logged == {epoch.step: pytest.approx(epoch.validation_loss) for epoch in trained.history}
    assert [event.step for event in events.Histograms("1.weight")] == [6, 24]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number, got nan"),
        ({"l1": -1.0}, "l1 must be zero or a positive number, got -1.0"),
        ({"patience": 0}, "patience must be a whole number of epochs from 1 on, or None, got 0"),
        ({"schedule": "cosine"}, "schedule must be a Schedule .*, got 'cosine'"),
    ],
)
def test_bad_configurations(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        replace(CONFIG, **changes)


def test_bad_data() -> None:
    x, y = TRAIN
    bad = x.clone()
    bad[3, 2] = math.nan
    for broken, message in [
        ((bad, y), r"^train_data: 1 of 200 rows hold NaN or infinite features; drop or repair them$"),
        ((x, y[:9]), r"^train_data: needs .* features of shape \(200, 6\) and labels of torch.int64 and shape \(9,\)$"),
        ((x, y.float()), r"^train_data: .* labels of torch.float32"),
        ((x[:0], y[:0]), r"^train_data: needs at least one row"),
        ((x, y - 1), r"^train_data: needs .* class numbers \(int64, from 0\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            train(net(), broken, VALIDATION, CONFIG, progress=False)


def test_a_folder_with_another_training_is_refused(tmp_path: Path) -> None:
    run(net(), out=tmp_path)
    with pytest.raises(ValueError, match=r"already holds a training; resume it or choose another folder$"):
        run(net(), out=tmp_path)
    with pytest.raises(ValueError, match=r"last.pt: made with epochs = 4, this call asks for 5; resume with the same"):
        run(net(), replace(CONFIG, epochs=5), out=tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"made with train_data = .*crc32 .*, this call asks for .*crc32"):
        train(net(), data(seed=8), VALIDATION, CONFIG, out=tmp_path, resume=True, progress=False)
    masked = net()
    apply_masks(masked, prune(prunable(masked), {}, 0.5, Ranking.GLOBAL))
    with pytest.raises(ValueError, match=r"made with masks = "):
        run(masked, out=tmp_path, resume=True)


def test_steps_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"^train: keep_step must lie between 0 and 23, the last step, got 24$"):
        run(net(), keep_step=24)
    late = run(net(), keep_step=20).kept
    with pytest.raises(ValueError, match=r"^train: the snapshot to start from is at step 20, this training has only"):
        run(net(), replace(CONFIG, epochs=2), start=late)
