"""Train, prune, rewind: legible from outside, resumable from anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.checkpoint import load_model, read_checkpoint
from compress.layers import QuantIdentity, QuantLinear, QuantReLU
from compress.lottery import Level, LotteryTicket, Rewind
from compress.mask import masks_of, prunable
from compress.prune import Ranking, count_pruned
from compress.rewind import model_state
from compress.spec import QuantSpec
from compress.train import Data, TrainConfig

TRAINING = TrainConfig(epochs=3, batch_size=32, learning_rate=0.02)
TICKET = LotteryTicket(training=TRAINING, fractions=(0.3, 0.6, 0.85))
WEIGHTS = 6 * 12 + 12 * 3


def data(rows: int = 200, seed: int = 0) -> Data:
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :3].argmax(dim=1)


def net(seed: int = 0) -> nn.Sequential:
    """The tiny network that is compressed here: 6-12-3, 5 bits."""
    torch.manual_seed(seed)
    spec = QuantSpec(weight_width=5, activation_width=5, input_width=5)
    return nn.Sequential(
        QuantIdentity(spec=spec),
        QuantLinear(6, 12, spec=spec),
        nn.BatchNorm1d(12),
        QuantReLU(spec=spec),
        QuantLinear(12, 3, spec=spec),
    )


def run(ticket: LotteryTicket, out: Path, model: nn.Module | None = None, **more: Any) -> tuple[Level, ...]:
    return ticket.run(model or net(), data(), data(100, 1), out=out, progress=False, checkpoint_seconds=0, **more)


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit, through nested containers."""
    if isinstance(left, Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@pytest.mark.parametrize("ranking", list(Ranking))
def test_levels_count_on_the_original_weights_and_only_lose(tmp_path: Path, ranking: Ranking) -> None:
    model = net()
    levels = run(replace(TICKET, ranking=ranking), tmp_path, model)
    assert [level.fraction for level in levels] == [0.0, 0.3, 0.6, 0.85]
    kept: dict[str, Tensor] = {}
    for level in levels:
        if ranking is Ranking.PER_LAYER:
            assert level.pruned == {name: count_pruned(level.fraction, n) for name, n in level.weights.items()}
        else:
            assert sum(level.pruned.values()) == count_pruned(level.fraction, WEIGHTS)
        assert level.sparsity == sum(level.pruned.values()) / WEIGHTS
        loaded = net(seed=9)
        load_model(level.folder / "model.pt", loaded)
        masks = masks_of(loaded)
        assert {name: int((~mask).sum()) for name, mask in masks.items()} == (level.pruned if level.level else {})
        assert all(not (masks[name] & ~mask).any() for name, mask in kept.items())
        assert all(prunable(loaded)[name][~mask].count_nonzero() == 0 for name, mask in masks.items())
        kept = masks
    assert same(vars(model_state(model)), vars(model_state(loaded)))


def initial(folder: Path) -> dict[str, Any]:
    """What a level started from: killed before its first step, it has saved just that."""
    now: dict[str, Any] = read_checkpoint(folder / "last.pt", "training")["now"]
    return now


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    ("rewind", "step"), [(Rewind.TO_INITIALISATION, 0), (Rewind.TO_STEP, 8), (Rewind.FINE_TUNE, 0)]
)
def test_where_a_level_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewind: Rewind, step: int) -> None:
    """Every tensor, batch-norm statistics, calibration and Adam's memory included, is the kept one under the mask."""
    import compress.lottery

    real = compress.lottery.train
    starts: list[dict[str, Any]] = []

    def stop_at_level_one(model: nn.Module, *args: Any, **more: Any) -> Any:
        if more["label"] == "level 1":
            with monkeypatch.context() as patched:
                patched.setattr("compress.train._Loop.run_epoch", lambda *_: (_ for _ in ()).throw(Stopped))
                real(model, *args, **more)
        trained = real(model, *args, **more)
        starts.append({"kept": trained.kept, "end": model_state(model)})
        return trained

    monkeypatch.setattr(compress.lottery, "train", stop_at_level_one)
    ticket = replace(TICKET, rewind=rewind, rewind_step=step)
    fresh = model_state(net())
    with pytest.raises(Stopped):
        run(ticket, tmp_path)
    start = initial(tmp_path / "level_01")
    masks = {f"{name}.weight": start["model"]["tensors"][f"{name}.weight"] != 0 for name in ("1", "4")}
    assert sum(int((~mask).sum()) for mask in masks.values()) == count_pruned(0.3, WEIGHTS)

    reference = starts[0]["end"] if rewind is Rewind.FINE_TUNE else starts[0]["kept"].model
    if rewind is Rewind.TO_INITIALISATION:
        assert same(dict(reference.tensors), dict(fresh.tensors))
    for name, tensor in start["model"]["tensors"].items():
        expected = reference.tensors[name]
        assert torch.equal(tensor, torch.where(masks[name], expected, 0.0) if name in masks else expected), name
    assert start["step"] == step
    if rewind is Rewind.TO_STEP:
        kept = starts[0]["kept"].optimizer["state"]
        assert start["optimizer"]["state"].keys() == kept.keys() and len(kept) > 0
        assert all(torch.equal(start["optimizer"]["state"][i]["step"], kept[i]["step"]) for i in kept)
        assert torch.equal(start["generators"]["order"], starts[0]["kept"].generators["order"])
    else:
        assert start["optimizer"]["state"] == {}


def test_a_plain_float_network_with_l1_and_relative_ranking(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))
    ticket = LotteryTicket(
        training=replace(TRAINING, l1=1e-3, epochs=10, patience=4),
        fractions=(0.25, 0.5),
        ranking=Ranking.RELATIVE_TO_LAYER_MAX,
        rewind=Rewind.FINE_TUNE,
    )
    levels = run(ticket, tmp_path, model)
    assert [sum(level.pruned.values()) for level in levels] == [0, 27, 54]
    assert levels[-1].best.validation_accuracy > 0.8


def test_the_account_of_a_level(tmp_path: Path) -> None:
    levels = run(TICKET, tmp_path)
    for level in levels:
        account = json.loads((level.folder / "level.json").read_text())
        assert account["schema"] == 1
        assert (account["level"], account["fraction"]) == (level.level, level.fraction)
        assert account["pruned"] == level.pruned and account["weights"] == level.weights
        assert account["best"] == vars(level.best)
        assert account["history"] == [vars(epoch) for epoch in level.history]
    assert [level.folder.name for level in levels] == ["level_00", "level_01", "level_02", "level_03"]


def test_a_finished_run_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, again = net(), net(seed=4)
    levels = run(TICKET, tmp_path, model)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    monkeypatch.setattr("compress.train._Loop.run_epoch", lambda *_: pytest.fail("trained again"))
    assert run(TICKET, tmp_path, again, resume=True) == levels
    assert same(vars(model_state(model)), vars(model_state(again)))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


KILLING = '''
"""Trains in forked children. Each is killed by SIGKILL at a given moment: the n-th line of compress/ it executes, or
the n-th call of a function of os. Prints how many lines an undisturbed life takes, then the fate of each life."""
import os, random, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import test_compress_lottery as tests
ROOM = os.path.dirname(sys.modules["compress.lottery"].__file__)
FILES = {os.path.join(ROOM, f"{name}.py") for name in
         ("train", "lottery", "checkpoint", "rewind", "mask", "prune", "borrowed")}

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def life(folder, where=None, nth=0):
    sys.stdout.flush()
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return "killed" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    lines = 0
    def local(frame, event, arg):
        nonlocal lines
        lines += event == "line"
        if where == "line" and lines == nth:
            die()
        return local
    if where in ("fsync", "replace"):
        real, calls = getattr(os, where), iter(range(1, 10**9))
        def deadly(*args):
            if next(calls) == nth:
                die()
            return real(*args)
        setattr(os, where, deadly)
    sys.settrace(lambda frame, event, arg: local if frame.f_code.co_filename in FILES else None)
    ticket = tests.replace(tests.TICKET, training=tests.replace(tests.TRAINING, patience=2), fractions=(0.3, 0.6),
                           rewind=tests.Rewind.TO_STEP, rewind_step=8)
    tests.run(ticket, Path(folder), resume=True)
    sys.settrace(None)
    Path(folder + ".lines").write_text(str(lines))
    os._exit(0)

whole, cut = sys.argv[1:]
assert life(whole) == 0
lines = int(Path(whole + ".lines").read_text())
chance = random.Random(20)
moments = [("line", 40), ("replace", 2), ("line", lines // 8), ("fsync", 3)]
moments += [("line", chance.randrange(lines // 12, lines // 4)) for _ in range(8)]
moments += [("fsync", 4), ("replace", 3)]
for moment in moments:
    print(moment, life(cut, *moment))
print("last", life(cut))
'''


def test_killed_at_any_moment_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    script = tmp_path / "killing.py"
    script.write_text(KILLING)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(script), str(whole), str(cut)],
        env={"PYTHONPATH": f"{root}:{root / 'tests'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *lives, last = done.stdout.splitlines()
    assert last == "last 0", done.stderr
    assert sum(life.endswith("killed") for life in lives) >= 8, lives

    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(cut) for path in cut.rglob("*") if path.is_file())
    assert len(files) == 1 + 3 * 3
    for file in files:
        if file.suffix == ".json":
            assert (whole / file).read_text() == (cut / file).read_text(), file
        else:
            kind = "model" if file.name == "model.pt" else "training"
            assert same(read_checkpoint(whole / file, kind), read_checkpoint(cut / file, kind)), file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fractions": ()}, r"^fractions must lie above 0 and at most at 1, at least one of them, got \(\)$"),
        ({"fractions": (0.0, 0.5)}, r"^fractions must lie above 0"),
        ({"fractions": (0.5, 1.1)}, r"^fractions must lie above 0"),
        ({"fractions": (0.5, 0.5)}, r"^fractions must grow from level to level, got 0.5 before 0.5$"),
        ({"rewind_step": 5}, r"^rewind_step is 5 with Rewind.TO_INITIALISATION; Rewind.TO_STEP takes a step from 1 on"),
        ({"rewind": Rewind.TO_STEP}, r"^rewind_step is 0 with Rewind.TO_STEP"),
        ({"ranking": "global"}, r"^ranking and rewind must be enums, got 'global' and"),
    ],
)
def test_bad_configurations(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TICKET, **changes)


def test_folders_that_belong_to_something_else(tmp_path: Path) -> None:
    ticket = replace(TICKET, fractions=(0.5,))
    out = tmp_path / "run"
    run(ticket, out)
    with pytest.raises(ValueError, match=r"run already holds a lottery ticket; resume it or choose another folder$"):
        run(ticket, out)
    with pytest.raises(ValueError, match=r"run: made with training.learning_rate = 0.02, this call asks for 0.03; res"):
        run(replace(ticket, training=replace(TRAINING, learning_rate=0.03)), out, resume=True)
    with pytest.raises(ValueError, match=r"run: made with fractions = \[0.5\], this call asks for \[0.4\]"):
        run(replace(ticket, fractions=(0.4,)), out, resume=True)
    with pytest.raises(ValueError, match=r"run: made with rewind = 'to_initialisation', this call asks for 'fine_"):
        run(replace(ticket, rewind=Rewind.FINE_TUNE), out, resume=True)
    (tmp_path / "thesis.tex").touch()
    for taken in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(ValueError, match=r"is or holds something else already; choose another folder$"):
            run(ticket, taken, resume=True)


def test_early_stopping_before_the_rewind_step_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr("compress.train.evaluate", lambda *_: (next(losses), 0.5))
    ticket = replace(TICKET, training=replace(TRAINING, patience=1), rewind=Rewind.TO_STEP, rewind_step=15)
    with pytest.raises(ValueError, match=r"^level 0: rewind_step 15 was never reached, early stopping .* step 12;"):
        run(ticket, tmp_path)
