"""Trainings, lone and in an ensemble, outlive being killed at any moment, full disks and Ctrl-C."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.checkpoint import read_checkpoint
from compress.ensemble import train_ensemble
from compress.ensemble.network import Network
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec
from compress.mask import plain_parameters
from compress.train import CHECKPOINT, NotFiniteError, TrainConfig, train

ROOT = Path(__file__).parents[1]
CONFIG = TrainConfig(epochs=5, batch_size=32, learning_rate=0.02, l1=1e-4, patience=4)
KILLS = 20


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    spec = QuantSpec(weight_width=6, activation_width=6, input_width=6)
    return nn.Sequential(
        QuantIdentity(spec=spec),
        QuantLinear(6, 12, spec=spec),
        nn.BatchNorm1d(12),
        QuantReLU(spec=spec),
        nn.Linear(12, 3),
    )


def lone(out: Path, config: TrainConfig = CONFIG, **more: Any) -> list[nn.Sequential]:
    model = net(0)
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    data = x, x[:, :3].argmax(dim=1)
    train(model, data, data, config, out=out, checkpoint_seconds=0, progress=False, **more)
    return [model]


def ensemble(out: Path, config: TrainConfig = CONFIG, **more: Any) -> list[nn.Sequential]:
    models = [net(0), net(1)]
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    data = x, x[:, :3].argmax(dim=1)
    configs = [config, replace(config, seed=1)]
    train_ensemble(models, data, data, configs, out=out, checkpoint_seconds=0, progress=False, **more)
    return models


Training = Callable[..., list[nn.Sequential]]
TRAININGS = {"training": lone, "ensemble": ensemble}
trainings = pytest.mark.parametrize("kind", list(TRAININGS))


def content(out: Path, kind: str) -> dict[str, Any]:
    return read_checkpoint(out / CHECKPOINT, kind)


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit, through nested containers."""
    if isinstance(left, Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


# Imports once, then forks: a killed process that had to import torch first would die importing it.
KILLER = """
import os, random, signal, sys, time
from dataclasses import replace
from pathlib import Path
from tests.test_compress_train_robustness import CONFIG, TRAININGS
run, out, kills = TRAININGS[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3])
config = replace(CONFIG, epochs=120, patience=None)

def fork(folder):
    if (child := os.fork()) == 0:
        try:
            run(out / folder, config, resume=True)
            os._exit(0)
        finally:
            os._exit(1)
    return child

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

begun = time.monotonic()
assert ended(fork("whole")) == 0
longest = 1.2 * (time.monotonic() - begun) / kills  # so that the last kill still finds something to kill
moments = random.Random(0)
codes = []
while len(codes) < kills and 0 not in codes:
    child = fork("killed")
    time.sleep(moments.uniform(0.0, longest))
    os.kill(child, signal.SIGKILL)
    codes.append(ended(child))
assert codes.count(-signal.SIGKILL) >= kills - 5, codes
assert ended(fork("killed")) == 0
"""


@trainings
def test_killed_at_random_moments_and_resumed_is_bit_identical(tmp_path: Path, kind: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLER, kind, str(tmp_path), str(KILLS)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert same(content(tmp_path / "killed", kind), content(tmp_path / "whole", kind))
    assert os.listdir(tmp_path / "killed") == [CHECKPOINT]


class FullDisk:
    """Fails as a full disk does, once, in the ``at``-th writing of a checkpoint."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, "injected")


def full_at_write(monkeypatch: pytest.MonkeyPatch, disk: FullDisk) -> None:
    def opened(name: Any, how: str = "r", *args: Any, _open: Any = open, **more: Any) -> Any:
        file = _open(name, how, *args, **more)
        if str(name).endswith(".tmp"):
            write = file.write
            half = lambda data: (write(data[: len(data) // 2]), disk(), write(data[len(data) // 2 :]))  # noqa: E731
            return _Wrapped(file, half)
        return file

    monkeypatch.setattr("builtins.open", opened)


class _Wrapped:
    """A file with another ``write``."""

    def __init__(self, file: Any, write: Any) -> None:
        self.file, self.write = file, write

    def __enter__(self) -> _Wrapped:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def full_at_fsync(monkeypatch: pytest.MonkeyPatch, disk: FullDisk) -> None:
    real = os.fsync
    is_file = lambda number: os.path.isfile(f"/proc/self/fd/{number}")  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda number: (disk() if is_file(number) else None, real(number)))


def full_at_replace(monkeypatch: pytest.MonkeyPatch, disk: FullDisk) -> None:
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (disk(), real(*paths)))


@trainings
@pytest.mark.parametrize("fault", [full_at_write, full_at_fsync, full_at_replace])
def test_a_full_disk_costs_no_more_than_what_was_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, fault: Any
) -> None:
    run = TRAININGS[kind]
    run(tmp_path / "whole")
    with monkeypatch.context() as patched:
        fault(patched, FullDisk(4))  # the start and two epochs are written, the third is not
        with pytest.raises(OSError, match="injected"):
            run(tmp_path / "full")
    assert os.listdir(tmp_path / "full") == [CHECKPOINT]
    saved = content(tmp_path / "full", kind)
    one = saved["replicas"][0] if kind == "ensemble" else saved
    assert len(one["history"]) == 2
    run(tmp_path / "full", resume=True)
    assert same(content(tmp_path / "full", kind), content(tmp_path / "whole", kind))


@trainings
def test_ctrl_c_leaves_a_resumable_state_and_usable_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run = TRAININGS[kind]
    owner: Any = Network if kind == "ensemble" else torch.optim.AdamW
    run(tmp_path / "whole")
    real, left = owner.step, [7]
    seen: list[nn.Module] = []
    monkeypatch.setattr(f"{__name__}.net", lambda seed, _net=net: seen.append(_net(seed)) or seen[-1])

    def step(self: Any, *args: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(owner, "step", step)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped")
    for model in seen:
        model.eval()(torch.zeros(2, 6))
        storages = [p.untyped_storage() for p in plain_parameters(model).values()]
        assert len({storage.data_ptr() for storage in storages}) == len(storages)
        assert all(s.nbytes() == 4 * p.numel() for s, p in zip(storages, plain_parameters(model).values(), strict=True))
    run(tmp_path / "stopped", resume=True)
    assert same(content(tmp_path / "stopped", kind), content(tmp_path / "whole", kind))


def test_one_diverging_replica_stops_the_ensemble_by_name(tmp_path: Path) -> None:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    data = x, x[:, :3].argmax(dim=1)
    configs = [CONFIG, replace(CONFIG, learning_rate=1e38)]
    plain = [nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)) for _ in range(2)]
    with pytest.raises(NotFiniteError) as caught:
        train_ensemble(plain, data, data, configs, out=tmp_path, checkpoint_seconds=0, progress=False, label="level 3")
    message = str(caught.value)
    assert message.startswith("level 3, replica 1: the training loss is ")
    assert (
        f"in epoch 0 at step 1; the last good checkpoint is {tmp_path / CHECKPOINT}; lower the learning rate" in message
    )
    for state in content(tmp_path, "ensemble")["replicas"]:
        assert state["now"]["step"] == 0
        assert all(torch.isfinite(tensor).all() for tensor in state["now"]["model"]["tensors"].values())
