"""Every replica of an ensemble ends as it would have ended alone, to the last bit, whatever it is made of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import compress.ensemble.network
import compress.ensemble.products
import compress.ensemble.stages
from compress.borrowed import own_generators, threads
from compress.checkpoint import read_checkpoint
from compress.ensemble import train_ensemble
from compress.ensemble.network import Network
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec
from compress.mask import apply_masks, prunable
from compress.prune import Ranking, prune
from compress.readout import UncalibratedQuantizer
from compress.rewind import Snapshot
from compress.train import CHECKPOINT, Data, Loop, Schedule, TrainConfig, train

CONFIG = TrainConfig(epochs=3, batch_size=32, learning_rate=0.02)


def data(rows: int = 150, seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 6, generator=generator)
    noise = 0.2 * torch.randn(rows, 3, generator=generator)
    return x, (x[:, :3] + noise).argmax(dim=1)


TRAIN, VALIDATION = data(), data(60, 1)
#: Models, their configurations, and the step to keep a snapshot of.
Drawn = tuple[list[nn.Sequential], list[TrainConfig], int | None]


def net(
    spec: QuantSpec | None,
    sizes: Sequence[int] = (6, 12, 16, 3),
    *,
    norm: bool = True,
    bias: bool = True,
    seed: int = 0,
) -> nn.Sequential:
    """A network of linear layers; float ones without a specification."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()] if spec is None else [nn.Identity(), QuantIdentity(spec=spec)]
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        if i:
            layers += [nn.BatchNorm1d(inputs)] if norm else []
            layers.append(nn.ReLU() if spec is None else QuantReLU(spec=spec))
        layers.append(
            nn.Linear(inputs, outputs, bias) if spec is None else QuantLinear(inputs, outputs, bias, spec=spec)
        )
    return nn.Sequential(*layers)


def masked(model: nn.Sequential, fraction: float) -> nn.Sequential:
    if fraction:
        apply_masks(model, prune(prunable(model), {}, fraction, Ranking.GLOBAL))
    return model


def replicas(number: int = 3, **more: Any) -> list[nn.Sequential]:
    """Networks of 6, 4 and 32 bits, and so on, the second of them pruned."""
    specs = [QuantSpec(weight_width=width, activation_width=width, input_width=width) for width in (6, 4, 32)]
    return [masked(net(specs[i % 3], seed=i, **more), 0.6 * (i % 3 == 1)) for i in range(number)]


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit, the signs of zeros included, through nested containers."""
    if isinstance(left, Tensor):
        if left.dtype == torch.float32:
            left, right = left.contiguous().view(torch.int32), right.contiguous().view(torch.int32)
        return torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def hold_against_lone_trainings(models: Sequence[nn.Module], configs: Sequence[TrainConfig], **more: Any) -> list[Any]:
    """Train copies alone, then all together, and compare all that a checkpoint holds. Returns the accounts."""
    starts: Sequence[Snapshot | None] = more.pop("start", None) or [None] * len(models)
    alone = copy.deepcopy(list(models))
    with TemporaryDirectory() as folder:
        out = Path(folder)
        expected = [
            train(
                model,
                TRAIN,
                VALIDATION,
                config,
                start=start,
                out=out / str(i),
                checkpoint_seconds=1e9,
                progress=False,
                **more,
            )
            for i, (model, config, start) in enumerate(zip(alone, configs, starts, strict=True))
        ]
        got = train_ensemble(
            models, TRAIN, VALIDATION, configs, start=starts, out=out, checkpoint_seconds=1e9, progress=False, **more
        )
        states = read_checkpoint(out / CHECKPOINT, "ensemble")["replicas"]
        for i, state in enumerate(states):
            lone = read_checkpoint(out / str(i) / CHECKPOINT, "training")
            for part, value in state.items():
                assert same(value, lone[part]), f"replica {i}: {part} differs"
    for i, (left, right) in enumerate(zip(got, expected, strict=True)):
        assert left.history == right.history and left.best == right.best, f"replica {i}"
        assert same(dict(models[i].state_dict()), dict(alone[i].state_dict())), f"replica {i}"
    return list(got)


@st.composite
def ensembles(draw: Callable[[Any], Any]) -> Drawn:
    """A mix of networks of one architecture, a configuration for each, and a step to keep a snapshot of."""
    sizes = (6, *draw(st.lists(st.sampled_from([1, 3, 5, 12, 16, 32]), min_size=1, max_size=3)), 3)
    norm, bias, floats = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    constant = {name: draw(st.booleans()) for name in ("weight", "bias", "activation", "input")}
    bias_width = draw(st.sampled_from([None, 8, 16]))
    common = replace(
        CONFIG,
        epochs=draw(st.integers(1, 3)),
        batch_size=draw(st.sampled_from([7, 32, 50, 64])),
        schedule=draw(st.sampled_from(Schedule)),
    )

    def spec() -> QuantSpec:
        width = draw(st.sampled_from([4, 6, 8, 12, 32]))
        fracs = {f"{name}_frac": draw(st.integers(0, 5)) if constant[name] else None for name in constant}
        if bias_width is None:
            fracs.pop("bias_frac")
        return QuantSpec(
            weight_width=width,
            activation_width=draw(st.sampled_from([2, 4, 6, 16, 32])),
            input_width=draw(st.sampled_from([3, 8, 16, 32])),
            bias_width=bias_width if bias_width is None else draw(st.sampled_from([8, 16])),
            **fracs,
        )

    models, configs = [], []
    for _ in range(draw(st.integers(1, 4))):
        model = net(None if floats else spec(), sizes, norm=norm, bias=bias, seed=draw(st.integers(0, 9)))
        models.append(masked(model, draw(st.sampled_from([0.0, 0.0, 0.5, 0.8]))))
        configs.append(
            replace(
                common,
                seed=draw(st.integers(0, 3)),
                learning_rate=draw(st.sampled_from([0.003, 0.02])),
                l1=draw(st.sampled_from([0.0, 1e-3])),
                weight_decay=draw(st.sampled_from([0.0, 0.1])),
                patience=draw(st.sampled_from([None, 1])),
            )
        )
    return models, configs, draw(st.sampled_from([None, 0, 1]))


@settings(max_examples=40)
@given(ensembles())
def test_every_replica_ends_as_it_would_alone(ensemble: Drawn) -> None:
    models, configs, keep_step = ensemble
    try:
        for model, config in zip(copy.deepcopy(models), configs, strict=True):
            train(model, TRAIN, VALIDATION, replace(config, epochs=1), progress=False)
    except UncalibratedQuantizer:  # a layer that is dead from the start
        with pytest.raises(UncalibratedQuantizer):
            train_ensemble(models, TRAIN, VALIDATION, configs, progress=False)
    else:
        hold_against_lone_trainings(models, configs, keep_step=keep_step)


@pytest.mark.parametrize("sizes", [(6, 5, 16, 3), (6, 16, 5, 16), (6, 3, 32)])
def test_whole_lines_and_odd_ones_in_any_order(sizes: tuple[int, ...]) -> None:
    for bias in (False, True):
        models = replicas(2, sizes=sizes, bias=bias, norm=False)
        hold_against_lone_trainings(models, [replace(CONFIG, epochs=1, weight_decay=0.1)] * 2)


@pytest.mark.parametrize("step", [0, 3, 5])
def test_starting_from_snapshots(step: int) -> None:
    kept = hold_against_lone_trainings(replicas(), [CONFIG] * 3, keep_step=step)
    pruned = [masked(model, 0.7) for model in replicas()]
    again = hold_against_lone_trainings(pruned, [replace(CONFIG, seed=1)] * 3, start=[one.kept for one in kept])
    assert all(len(trained.history) == 3 - step // 4 for trained in again)


def test_a_snapshot_of_an_ensemble_starts_a_lone_training_and_the_other_way_round() -> None:
    kept = train_ensemble(replicas(), TRAIN, VALIDATION, [CONFIG] * 3, keep_step=5, progress=False)
    whole = replicas(1)[0]
    lone = train(whole, TRAIN, VALIDATION, CONFIG, keep_step=5, progress=False)
    assert lone.kept is not None and kept[0].kept is not None
    assert same(lone.kept.to_plain(), kept[0].kept.to_plain())
    again = replicas(1)[0]
    train(again, TRAIN, VALIDATION, CONFIG, start=kept[0].kept, progress=False)
    assert same(dict(again.state_dict()), dict(whole.state_dict()))


def test_a_replica_whose_patience_has_run_out_leaves_the_others_alone() -> None:
    # Rates so high that the losses go up and down: the replicas stop at different epochs.
    configs = [replace(CONFIG, epochs=12, learning_rate=0.3, patience=p, seed=p) for p in (1, 2, 5)]
    stopped = hold_against_lone_trainings(replicas(), configs)
    assert len({len(trained.history) for trained in stopped}) > 1


@pytest.mark.parametrize("group", [1, 2, 5])
@pytest.mark.parametrize("wide", [0, 1 << 20])
@pytest.mark.parametrize("batched", [False, True])
def test_how_it_is_computed_does_not_decide_what(
    monkeypatch: pytest.MonkeyPatch, group: int, wide: int, batched: bool
) -> None:
    monkeypatch.setattr(compress.ensemble.network, "GROUP_FLOATS", group * CONFIG.batch_size * 32)
    monkeypatch.setattr(compress.ensemble.stages, "WIDE_BATCH_NORM", wide)
    if not batched:
        monkeypatch.setattr(compress.ensemble.products, "_batches_exactly", lambda *_: False)
    models = replicas(5, sizes=(6, 32, 16, 3))
    hold_against_lone_trainings(models, [replace(CONFIG, epochs=2, seed=i) for i in range(5)])


def test_shapes_whose_batched_product_would_round_differently_are_multiplied_one_by_one() -> None:
    def batches(rows: int, inputs: int, outputs: int) -> bool:
        left, right, out = torch.zeros(4, rows, inputs), torch.zeros(4, outputs, inputs), torch.zeros(4, rows, outputs)
        return compress.ensemble.products.Product(left, right.transpose(1, 2), out).batched

    assert batches(128, 64, 32)
    assert not all(batches(rows, inputs, 3) for rows in (3, 33) for inputs in (5, 33))


@contextmanager
def _counted(name: str) -> Iterator[list[str]]:
    """What waits for the device: the reading of a number off a tensor."""
    seen: list[str] = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if name in str(func):
                seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Count():
        yield seen


def test_nothing_in_a_step_waits_for_the_device() -> None:
    models = replicas(4)
    for model in models:
        model.train()
    configs = [replace(CONFIG, l1=1e-3, seed=i) for i in range(4)]
    loops = [
        Loop(model, TRAIN, VALIDATION, config, own_generators(torch.device("cpu")), None, "x")
        for model, config in zip(models, configs, strict=True)
    ]
    network = Network(loops, 32)
    rows, losses = torch.stack([loop.shuffled()[0][:32] for loop in loops]), torch.empty(4)
    with threads(1):
        with _counted("_local_scalar_dense") as calibrating:
            network.step(rows, losses, [0.01] * 4)
        with _counted("_local_scalar_dense") as training:
            network.step(rows, losses, [0.01] * 4)
    network.release()
    assert calibrating and not training


class Killed(Exception):
    pass


@pytest.mark.parametrize("steps", [1, 5, 9])
def test_killed_and_resumed_is_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    configs = [replace(CONFIG, learning_rate=0.1, patience=p, seed=i) for i, p in enumerate((None, 1, 2))]

    def run(models: list[nn.Sequential], folder: str, **more: Any) -> Any:
        return train_ensemble(
            models,
            TRAIN,
            VALIDATION,
            configs,
            out=tmp_path / folder,
            checkpoint_seconds=0,
            progress=False,
            keep_step=2,
            **more,
        )

    whole = replicas()
    expected = run(whole, "whole")
    left = [steps]
    real = Network.step

    def step(self: Network, *args: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        real(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Network, "step", step)
        with pytest.raises(Killed):
            run(replicas(), "cut")
    others = replicas()
    for model in others:  # the checkpoint brings everything but the masks
        for parameter in model.parameters():
            nn.init.ones_(parameter)
    got = run(others, "cut", resume=True)
    assert [one.history for one in got] == [one.history for one in expected]
    assert all(same(one.kept.to_plain(), two.kept.to_plain()) for one, two in zip(got, expected, strict=True))
    assert all(same(dict(a.state_dict()), dict(b.state_dict())) for a, b in zip(others, whole, strict=True))
    again = run(replicas(), "cut", resume=True)  # a finished one is only loaded
    assert [one.history for one in again] == [one.history for one in expected]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")
def test_on_a_graphics_card_it_follows_the_lone_trainings() -> None:
    models = [model.cuda() for model in replicas()]
    alone = copy.deepcopy(models)
    configs = [replace(CONFIG, epochs=2, learning_rate=1e-3)] * 3
    together = train_ensemble(models, TRAIN, VALIDATION, configs, progress=False)
    for model, config, trained in zip(alone, configs, together, strict=True):
        lone = train(model, TRAIN, VALIDATION, config, progress=False)
        assert trained.best.validation_loss == pytest.approx(lone.best.validation_loss, rel=0.02)
