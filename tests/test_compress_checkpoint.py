"""Checkpoints are whole or absent, and only fit the network they were taken from."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compress.checkpoint import (
    CheckpointError,
    check_same,
    describe,
    load_model,
    read_checkpoint,
    save_model,
    write_bytes,
    write_checkpoint,
)
from compress.mask import apply_masks, masks_of, prunable
from compress.prune import Ranking, prune
from compress.rewind import ArchitectureError, model_state


def net(hidden: int = 8, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 3))


def masked(fraction: float, seed: int = 0) -> nn.Sequential:
    model = net(seed=seed)
    apply_masks(model, prune(prunable(model), {}, fraction, Ranking.GLOBAL))
    return model


@pytest.mark.parametrize("fresh", [net(seed=1), masked(0.3, seed=1)], ids=["into-plain", "into-masked"])
@pytest.mark.parametrize("saved", [net(), masked(0.6)], ids=["from-plain", "from-masked"])
def test_a_model_returns_with_its_masks(tmp_path: Path, saved: nn.Module, fresh: nn.Module) -> None:
    save_model(tmp_path / "m.pt", saved, {"mean": torch.tensor([1.0, 2.0]), "classes": ["g", "q"]})
    about = load_model(tmp_path / "m.pt", fresh)
    assert about["classes"] == ["g", "q"] and about["mean"].tolist() == [1.0, 2.0]
    before, after = model_state(saved), model_state(fresh)
    assert list(before.tensors) == list(after.tensors)
    assert all(torch.equal(before.tensors[name], after.tensors[name]) for name in before.tensors)
    assert masks_of(saved).keys() == masks_of(fresh).keys()
    assert all(torch.equal(mask, masks_of(fresh)[name]) for name, mask in masks_of(saved).items())


def test_another_architecture_names_tensor_and_shapes_and_leaves_the_model(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    save_model(path, masked(0.5))
    other = net(hidden=9)
    before = model_state(other)
    with pytest.raises(ArchitectureError) as caught:
        load_model(path, other)
    assert str(caught.value) == (
        f"0.bias: shape (8,) in {path}, (9,) in the model; "
        "build the model that was saved, or take a checkpoint of this one"
    )
    assert masks_of(other) == {}
    assert all(torch.equal(before.tensors[n], t) for n, t in model_state(other).tensors.items())


def fail_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(os, "fsync", fsync)


def fail_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(*_: Any) -> None:
        raise OSError(errno.EXDEV, "injected")

    monkeypatch.setattr(os, "replace", replace)


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, content: bytes) -> None:
            self.file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "injected")

    monkeypatch.setattr("builtins.open", lambda name, how, _open=open: Full(_open(name, how)))


def interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise KeyboardInterrupt("injected")

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("fault", [fail_fsync, fail_replace, fill_disk, interrupt])
def test_a_failed_write_leaves_the_previous_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    path = tmp_path / "run" / "last.pt"
    write_checkpoint(path, "training", {"step": 1})
    with monkeypatch.context() as patched:
        fault(patched)
        with pytest.raises((OSError, KeyboardInterrupt), match="injected"):
            write_checkpoint(path, "training", {"step": 2})
    assert read_checkpoint(path, "training") == {"step": 1}
    assert os.listdir(path.parent) == ["last.pt"]


def test_what_a_killed_writer_left_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    (tmp_path / ".last.pt.tmp").write_bytes(b"half a checkp")
    write_bytes(path, b"whole")
    assert os.listdir(tmp_path) == ["last.pt"] and path.read_bytes() == b"whole"


def test_messages(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with pytest.raises(CheckpointError, match=r"last.pt: there is no such checkpoint"):
        read_checkpoint(path, "model")
    write_checkpoint(path, "training", {})
    with pytest.raises(CheckpointError, match=r"last.pt: a checkpoint of a training, a model is needed"):
        read_checkpoint(path, "model")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"last.pt: not a readable checkpoint"):
        read_checkpoint(path, "training")
    torch.save({"schema": 99, "kind": "model", "content": {}}, path)
    with pytest.raises(CheckpointError, match=r"last.pt: written in schema 99, this version reads 1"):
        read_checkpoint(path, "model")
    torch.save({"fc1.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"last.pt: a torch file, but no checkpoint of ours"):
        read_checkpoint(path, "model")


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    size: int
    colour: Colour = Colour.RED


@dataclass(frozen=True)
class Outer:
    inner: Inner
    steps: tuple[int, ...] = (1, 2)


def test_configurations_are_compared_field_by_field() -> None:
    saved = describe(Outer(Inner(3)))
    assert saved == {"inner.size": 3, "inner.colour": "red", "steps": [1, 2]}
    check_same(Path("run"), saved, describe(Outer(Inner(3))))
    with pytest.raises(ValueError, match=r"^run: made with inner.size = 3, this call asks for 4; resume with the same"):
        check_same(Path("run"), saved, describe(Outer(Inner(4))))
    with pytest.raises(ValueError, match=r"^run: made with gone = 1, this call asks for None"):
        check_same(Path("run"), {**saved, "gone": 1}, saved)


def test_what_a_mapping_holds_is_described_by_its_keys():
    @dataclass(frozen=True)
    class Part:
        number: int

    @dataclass(frozen=True)
    class Whole:
        parts: dict[str, Part]

    assert describe(Whole({"fc1": Part(3)})) == {"parts.fc1.number": 3}
    assert describe(Whole({})) == {}
