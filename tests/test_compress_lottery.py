"""Train, prune, rewind: legible from outside, resumable from anywhere."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tickets import TICKET, TRAINING, WEIGHTS, data, net, same
from torch import Tensor, nn

from compress.checkpoint import load_model, read_checkpoint
from compress.layers import QuantLinear, QuantSpec, weight_of
from compress.lottery import Level, LotteryTicket, Rewind, iterative_l1
from compress.lottery.level import Counts, count
from compress.mask import apply_masks, masks_of, prunable
from compress.prune import Ranking, count_pruned
from compress.rewind import model_state
from compress.structure import CHANNELS, NEURONS, SPARED, multipliers
from compress.structure import WEIGHTS as SINGLE


def run(ticket: LotteryTicket, out: Path, model: nn.Module | None = None, **more: Any) -> tuple[Level, ...]:
    return ticket.run(model or net(), data(), data(100, 1), out=out, progress=False, checkpoint_seconds=0, **more)


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
    import compress.lottery.ticket

    real = compress.lottery.ticket.train
    starts: list[dict[str, Any]] = []

    def stop_at_level_one(model: nn.Module, *args: Any, **more: Any) -> Any:
        if more["label"] == "level 1":
            with monkeypatch.context() as patched:
                patched.setattr("compress.train.Loop.run_epoch", lambda *_: (_ for _ in ()).throw(Stopped))
                real(model, *args, **more)
        trained = real(model, *args, **more)
        starts.append({"kept": trained.kept, "end": model_state(model)})
        return trained

    monkeypatch.setattr(compress.lottery.ticket, "train", stop_at_level_one)
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
        assert account["schema"] == 2
        assert (account["level"], account["fraction"]) == (level.level, level.fraction)
        assert account["counts"] == {name: vars(counts) for name, counts in level.counts.items()}
        assert account["best"] == vars(level.best)
        assert account["history"] == [vars(epoch) for epoch in level.history]
    assert [level.folder.name for level in levels] == ["level_00", "level_01", "level_02", "level_03"]


def test_a_finished_run_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, again = net(), net(seed=4)
    levels = run(TICKET, tmp_path, model)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    monkeypatch.setattr("compress.train.Loop.run_epoch", lambda *_: pytest.fail("trained again"))
    assert run(TICKET, tmp_path, again, resume=True) == levels
    assert same(vars(model_state(model)), vars(model_state(again)))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


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
        ({"structure": NEURONS}, r'^structure must go by layer name or pattern, {"\*": NEURONS}, got Structure\('),
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
    with pytest.raises(ValueError, match=r"run: made with structure.1.group = None, this call asks for 'neuron'; res"):
        run(replace(ticket, structure={"1": NEURONS}), out, resume=True)
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


# --- what a level counts ---


def test_a_weight_that_rounds_to_zero_is_counted_apart_from_a_pruned_one() -> None:
    model = net(width=3)
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, 1.0, 0.01, 0.01, 0.0, 1.0]).repeat(12, 1))
    kept = torch.ones(12, 6, dtype=torch.bool)
    kept[:, 0] = False
    kept[3, 3], kept[5] = False, False
    apply_masks(model, {"1.weight": kept})
    counts = count(model, {"1": NEURONS})
    assert counts["1.weight"] == Counts(weights=72, pruned=12 + 1 + 5, rounded=3 * 11 - 1, groups=12, pruned_groups=1)
    codes = weight_of(model[4]).codes
    untouched = Counts(weights=36, pruned=0, rounded=int((codes == 0).sum()), groups=36, pruned_groups=0)
    assert counts["4.weight"] == untouched and untouched.rounded


def test_float_weights_are_rounded_where_they_are_zero() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight[0, 0] = 0.0
    apply_masks(model, {"0.weight": torch.tensor([[True, False, True], [True, True, True]])})
    assert count(model, {}) == {"0.weight": Counts(weights=6, pruned=1, rounded=1, groups=6, pruned_groups=1)}


# --- structures ---


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            square=nn.Unflatten(1, (1, 2, 3)),
            conv=nn.Conv2d(1, 6, 2),
            bn=nn.BatchNorm2d(6),
            relu=nn.ReLU(),
            flat=nn.Flatten(),
            fc1=nn.Linear(12, 8),
            act=nn.ReLU(),
            fc2=nn.Linear(8, 3),
        )
    )


def test_whole_channels_neurons_and_multipliers_level_by_level(tmp_path: Path) -> None:
    model = convolutional()
    structure = {"conv": CHANNELS, "fc1": NEURONS, "fc2": multipliers(4)}
    ticket = replace(TICKET, structure=structure, ranking=Ranking.RELATIVE_TO_LAYER_MAX)
    levels = run(ticket, tmp_path, model)
    assert [level.counts["conv.weight"].groups for level in levels] == [6] * 4
    assert [level.counts[name].groups for level in levels[:1] for name in ("fc1.weight", "fc2.weight")] == [8, 6]
    for level in levels:
        loaded = convolutional()
        load_model(level.folder / "model.pt", loaded)
        masks = masks_of(loaded) or {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable(loaded).items()}
        assert sum(level.pruned.values()) <= count_pruned(level.fraction, 24 + 96 + 24)
        gone = (~masks["conv.weight"]).flatten(1).all(dim=1)
        assert int(gone.sum()) == level.counts["conv.weight"].pruned_groups
        assert not masks["fc1.weight"][:, gone.repeat_interleave(2)].any()  # each channel has two pixels
        rows = (~masks["fc1.weight"]).all(dim=1)
        assert int(rows.sum()) == level.counts["fc1.weight"].pruned_groups and not masks["fc2.weight"][:, rows].any()
        assert torch.equal(masks["fc1.weight"], ~rows[:, None] & ~gone.repeat_interleave(2))
    last = levels[-1].counts
    assert 0 < last["conv.weight"].pruned_groups < 6 and 0 < last["fc1.weight"].pruned_groups < 8


def test_neurons_that_are_the_outputs_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    ticket = replace(TICKET, structure={"*": NEURONS})
    with pytest.raises(ValueError, match=r'^4: its neurons are the outputs of the network; leave them with .*"4": WEI'):
        run(ticket, tmp_path)
    with pytest.raises(ValueError, match=r"^1.weight: reuse factor 5 is not legal for 6 inputs and 12 outputs"):
        run(replace(TICKET, structure={"1": multipliers(5)}), tmp_path)
    assert not list(tmp_path.iterdir())
    run(replace(ticket, structure={"*": NEURONS, "4": SINGLE}, fractions=(0.5,)), tmp_path)


def test_binary_weights_are_refused_before_anything_is_trained_or_spared(tmp_path: Path) -> None:
    model = net()
    model[1] = QuantLinear(6, 12, spec=QuantSpec(weight_width=1))
    with pytest.raises(ValueError, match=r'^1: binary weights have no zero to prune to; .*{"1": SPARED, ...}, or use'):
        run(TICKET, tmp_path, model)
    assert not list(tmp_path.iterdir())
    levels = run(replace(TICKET, structure={"1": SPARED}, fractions=(0.1, 0.3)), tmp_path, model)
    assert [level.pruned for level in levels] == [{"1.weight": 0, "4.weight": n} for n in (0, 11, 32)]
    assert levels[-1].counts["1.weight"] == Counts(weights=72, pruned=0, rounded=0, groups=1, pruned_groups=0)


# --- the paper's iterative pruning ---


def test_iterative_l1_goes_by_steps_of_the_original_weights() -> None:
    training = replace(TRAINING, l1=1e-4)
    ticket = iterative_l1(training)
    assert ticket == LotteryTicket(
        training=training,
        fractions=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        ranking=Ranking.RELATIVE_TO_LAYER_MAX,
        rewind=Rewind.FINE_TUNE,
    )
    assert iterative_l1(training, step=0.3, until=0.7).fractions == (0.3, 0.6, 0.7)
    late = iterative_l1(training, per_layer=True, rewind=Rewind.TO_STEP, rewind_step=4, structure={"fc": NEURONS})
    assert late.ranking is Ranking.PER_LAYER and late.structure == {"fc": NEURONS}
    assert (late.rewind, late.rewind_step) == (Rewind.TO_STEP, 4)
    with pytest.raises(ValueError, match=r"^training.l1 is 0, but weights are small only because an L1 term made them"):
        iterative_l1(TRAINING)
    with pytest.raises(ValueError, match=r"^step and until must grow .*, got step=0.5 and until=0.2$"):
        iterative_l1(training, step=0.5, until=0.2)


def test_iterative_l1_prunes_what_the_l1_term_made_small(tmp_path: Path) -> None:
    levels = run(iterative_l1(replace(TRAINING, l1=2e-3, epochs=12), step=0.2, until=0.4), tmp_path)
    assert [sum(level.pruned.values()) for level in levels] == [0, 22, 43]
    before = net()
    load_model(levels[0].folder / "model.pt", before)
    relative = {name: weight.abs() / weight.abs().max() for name, weight in prunable(before).items()}
    after = net()
    load_model(levels[1].folder / "model.pt", after)
    masks = masks_of(after)
    gone = torch.cat([relative[name][~mask] for name, mask in masks.items()])
    left = torch.cat([relative[name][mask] for name, mask in masks.items()])
    assert gone.max() <= left.min()
