"""The training of an ensemble: what :func:`compress.train.train` is to one network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.board import HISTOGRAM_EPOCHS, bar, board, log
from compress.borrowed import mode, own_generators, threads
from compress.checkpoint import check_same, read_checkpoint, write_checkpoint
from compress.ensemble.layers import features_of, layers_of
from compress.ensemble.network import Network
from compress.mask import plain_parameters
from compress.rewind import Snapshot
from compress.train import CHECKPOINT, Loop, data_identity, identity_of, to
from compress.training import Data, Epoch, TrainConfig, Trained, check_data, check_finite

#: What the configurations of an ensemble have to agree in.
_COMMON = ("epochs", "batch_size", "schedule", "threads")


def train_ensemble(
    models: Sequence[nn.Module],
    train_data: Data,
    validation_data: Data,
    configs: Sequence[TrainConfig],
    *,
    out: Path | None = None,
    resume: bool = False,
    start: Sequence[Snapshot | None] | None = None,
    keep_step: int | None = None,
    checkpoint_seconds: float = 10.0,
    log_dir: Path | None = None,
    progress: bool = True,
    label: str = "ensemble",
) -> tuple[Trained, ...]:
    """Train ``models`` in place, all at once, each as ``train(models[i], train_data, validation_data, configs[i])``.

    On the CPU every one ends exactly as it would alone, to the last bit; on a graphics card the library that multiplies
    matrices may round a batched product differently. The models are ``nn.Sequential`` of Linear or QuantLinear,
    BatchNorm1d, ReLU or QuantReLU, QuantIdentity, Flatten and Identity, in float32 and alike but for their widths,
    constant binary points and masks. The configurations agree in epochs, batch size and schedule and say one thread.

    The arguments are those of :func:`compress.train.train`; ``start`` has a snapshot (or None) for every replica, all
    of one step. ``out/last.pt`` holds the whole ensemble. A replica whose patience has run out leaves the computation;
    the others go on. ``log_dir`` receives a folder per replica.

    Raises ``ValueError`` as ``train`` does, and naming the replica and layer that an ensemble cannot hold, or the
    configuration that does not fit the others. A loss that is not finite stops the whole ensemble, naming the replica.
    """
    starts = [None] * len(models) if start is None else list(start)
    _check_alike(models, configs, starts)
    for name, data in (("train_data", train_data), ("validation_data", validation_data)):
        check_data(name, data)
        check_finite(name, data[0])
    layers_of(models)
    features = features_of(models[0], train_data[0])
    path = None if out is None else out / CHECKPOINT
    if path is not None and path.exists() and not resume:
        raise ValueError(f"{out} already holds a training; resume it or choose another folder")
    device = next(iter(plain_parameters(models[0]).values())).device
    with ExitStack() as borrowed:
        borrowed.enter_context(threads(1))
        for model in models:
            borrowed.enter_context(mode(model, training=True))
        here = to(device, (features, train_data[1])), to(device, validation_data)
        loops = [
            Loop(model, *here, config, own_generators(device), keep_step, f"{label}, replica {i}")
            for i, (model, config) in enumerate(zip(models, configs, strict=True))
        ]
        identity = _identity(loops, train_data, validation_data, starts) if path else []
        if path is not None and path.exists():
            _restore(path, loops, identity)
        else:
            for loop, snapshot in zip(loops, starts, strict=True):
                loop.begin(snapshot)
            if path is not None:
                _save(path, loops, identity)
        _run(loops, path, identity, checkpoint_seconds, log_dir, progress, label)
        return tuple(loop.end() for loop in loops)


def _run(
    loops: Sequence[Loop],
    path: Path | None,
    identity: Sequence[dict[str, Any]],
    checkpoint_seconds: float,
    log_dir: Path | None,
    progress: bool,
    label: str,
) -> None:
    saved = time.monotonic()
    done = max(loop.step // loop.steps_per_epoch for loop in loops)
    with ExitStack() as watching:
        shown = watching.enter_context(bar(label, done, loops[0].config.epochs, progress))
        writers = [
            watching.enter_context(board(None if log_dir is None else log_dir / f"replica_{i:02}", loop.step))
            for i, loop in enumerate(loops)
            if not loop.finished
        ]
        writer_of = dict(zip([id(loop) for loop in loops if not loop.finished], writers, strict=True))
        while active := [loop for loop in loops if not loop.finished]:
            with _side_by_side(active) as network:
                while not any(loop.finished for loop in active):
                    epochs = _run_epoch(active, network, path)
                    shown.update()
                    best = min(epoch.validation_loss for epoch in epochs)
                    shown.set_postfix(replicas=len(active), best_loss=f"{best:.4f}")
                    for loop, epoch in zip(active, epochs, strict=True):
                        if (writer := writer_of[id(loop)]) is not None:
                            histograms = loop.finished or epoch.epoch % HISTOGRAM_EPOCHS == 0
                            log(writer, epoch, loop.model, histograms=histograms)
                    finished = all(loop.finished for loop in loops)
                    if path is not None and (finished or time.monotonic() - saved >= checkpoint_seconds):
                        _save(path, loops, identity)
                        saved = time.monotonic()


@contextmanager
def _side_by_side(loops: Sequence[Loop]) -> Iterator[Network]:
    """The replicas as one network; each has its own memory again afterwards, come what may."""
    network = Network(loops, loops[0].rows)
    try:
        yield network
    finally:
        network.release()


def _run_epoch(loops: Sequence[Loop], network: Network, checkpoint: Path | None) -> list[Epoch]:
    """``Loop.run_epoch`` for all. Nothing between its first and its last step waits for the device."""
    first = loops[0]
    rows, device = first.rows, first.train_data[0].device
    shuffled = [loop.shuffled() for loop in loops]
    number, done = divmod(first.step, first.steps_per_epoch)
    order = torch.stack([order[done * rows : first.steps_per_epoch * rows] for order, _ in shuffled]).to(device)
    losses = torch.empty(first.steps_per_epoch - done, len(loops), device=device)
    rates: list[float] = []
    for batch, of_step in zip(order.split(rows, dim=1), losses, strict=True):
        if first.step == first.keep_step:
            network.adam.write_back()
            for loop, (_, order_before) in zip(loops, shuffled, strict=True):
                loop.kept = loop.snapshot(order_before)
        rates = [loop.config.rate_at(loop.step, loop.steps) for loop in loops]
        network.step(batch, of_step, rates)
        for loop in loops:
            loop.step += 1
    network.adam.write_back()
    of_each = zip(loops, losses.t().contiguous(), rates, strict=True)
    return [loop.account(number, of_loop, rate, checkpoint) for loop, of_loop, rate in of_each]


def _check_alike(
    models: Sequence[nn.Module], configs: Sequence[TrainConfig], starts: Sequence[Snapshot | None]
) -> None:
    if not models or not len(models) == len(configs) == len(starts):
        raise ValueError(
            f"an ensemble needs at least one model and as many configurations and snapshots to start from, got "
            f"{len(models)} models, {len(configs)} configurations and {len(starts)} snapshots"
        )
    for i, config in enumerate(configs):
        for name in _COMMON:
            if (here := getattr(config, name)) != (there := getattr(configs[0], name)):
                raise ValueError(
                    f"replica {i} has {name} = {here}, replica 0 has {there}; replicas of one ensemble agree in "
                    f"{', '.join(_COMMON)}"
                )
    if configs[0].threads != 1:
        raise ValueError(
            f"threads = {configs[0].threads}: an ensemble computes in one, since sums shared among several round "
            "differently; use threads=1, and several processes for several ensembles"
        )
    steps = {0 if snapshot is None else snapshot.step for snapshot in starts}
    if len(steps) > 1:
        raise ValueError(
            f"the snapshots to start from are of steps {', '.join(map(str, sorted(steps)))} (0: none); "
            "replicas of one ensemble start at the same step"
        )
    devices = {parameter.device for model in models for parameter in plain_parameters(model).values()}
    if len(devices) > 1:
        raise ValueError(f"the models are on {', '.join(sorted(map(str, devices)))}; move them to one device")


def _identity(
    loops: Sequence[Loop], train_data: Data, validation_data: Data, starts: Sequence[Snapshot | None]
) -> list[dict[str, Any]]:
    data = data_identity(train_data, validation_data)
    return [{**identity_of(loop, snapshot), **data} for loop, snapshot in zip(loops, starts, strict=True)]


def _save(path: Path, loops: Sequence[Loop], identity: Sequence[dict[str, Any]]) -> None:
    content = {"identity": list(identity), "replicas": [loop.content() for loop in loops]}
    write_checkpoint(path, "ensemble", content)


def _restore(path: Path, loops: Sequence[Loop], identity: Sequence[dict[str, Any]]) -> None:
    content = read_checkpoint(path, "ensemble")
    check_same(path, {"replicas": len(content["identity"])}, {"replicas": len(identity)})
    for i, (saved, asked) in enumerate(zip(content["identity"], identity, strict=True)):
        check_same(Path(f"{path}, replica {i}"), saved, asked)
    for i, (loop, state) in enumerate(zip(loops, content["replicas"], strict=True)):
        loop.restore(state, f"{path}, replica {i}")
