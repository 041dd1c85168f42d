"""Many tickets at once are many tickets: folder by folder, file by file, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tickets import INTRICATE, TICKET, TRAINING, WEIGHTS, data, differing_files, net, same
from torch import nn

from compress.lottery import Level, LotteryTicket, Rewind, iterative_l1, run_together
from compress.prune import Ranking, count_pruned
from compress.rewind import model_state
from compress.structure import NEURONS, multipliers

SEVERAL = {
    "lottery tickets": [replace(TICKET, training=replace(TRAINING, seed=seed)) for seed in (0, 1, 5)],
    "fine-tuned": [replace(TICKET, ranking=ranking, rewind=Rewind.FINE_TUNE) for ranking in Ranking],
    "intricate": [replace(INTRICATE, training=replace(INTRICATE.training, seed=seed)) for seed in (0, 1, 2)],
    "structured": [replace(TICKET, structure=chosen) for chosen in ({}, {"1": NEURONS}, {"*": multipliers(3)})],
    "L1": [iterative_l1(replace(TRAINING, l1=l1), step=0.3) for l1 in (1e-4, 1e-3, 1e-2)],
}
NAMES = ("a", "b", "c")


def together(
    tickets: Sequence[LotteryTicket], models: Sequence[nn.Module], out: Path, **more: Any
) -> dict[str, tuple[Level, ...]]:
    named = dict(zip(NAMES, tickets, strict=False)), dict(zip(NAMES, models, strict=False))
    return run_together(
        *named, data(), data(100, 1), out=out, **{"checkpoint_seconds": 0, "progress": False, **more}
    )


def replicas() -> list[nn.Sequential]:
    return [net(seed, width) for seed, width in ((0, 5), (1, 3), (1, 8))]


@pytest.mark.parametrize("tickets", SEVERAL.values(), ids=SEVERAL)
def test_every_replica_equals_its_lone_run(tmp_path: Path, tickets: list[LotteryTicket]) -> None:
    models, lone = replicas(), replicas()
    levels = together(tickets, models, tmp_path / "together")
    for name, ticket, model, alike in zip(NAMES, tickets, models, lone, strict=True):
        out = tmp_path / "alone" / name
        alone = ticket.run(alike, data(), data(100, 1), out=out, progress=False)
        assert len(alone) == len(levels[name]) == 1 + len(ticket.fractions)
        for one, other in zip(levels[name], alone, strict=True):
            assert replace(one, folder=other.folder) == other
        assert same(vars(model_state(model)), vars(model_state(alike)))
        for file in out.rglob("last.pt"):
            file.unlink()
        assert differing_files(tmp_path / "together" / name, out) == []
    assert len({str(runs[0].best) for runs in levels.values()}) == 3, "equal replicas would prove nothing"


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    tickets = SEVERAL["lottery tickets"]
    first = replicas()
    levels = together(tickets, first, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    again = replicas()
    assert together(tickets, again, tmp_path, resume=True) == levels
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == written
    for one, other in zip(first, again, strict=True):
        assert same(vars(model_state(one)), vars(model_state(other)))
    for level in levels["a"][1:]:
        assert sum(level.pruned.values()) == count_pruned(level.fraction, WEIGHTS)


def test_what_cannot_run_together(tmp_path: Path) -> None:
    shallow = replace(TICKET, fractions=(0.5,))
    for tickets, models, message in [
        ([TICKET] * 2, replicas(), r"^every ticket needs a model of its name, got tickets a, b and models a, b, c$"),
        ([], [], r"^every ticket needs a model of its name, got tickets none and models none$"),
        ([TICKET, shallow, TICKET], replicas(), r"^b has fractions = \(0.5,\), a has \(0.3, 0.6, 0.85\); tickets that"),
        ([TICKET, replace(TICKET, rewind=Rewind.FINE_TUNE)], replicas()[:2], r"^b has rewind = Rewind.FINE_TUNE, a"),
    ]:
        with pytest.raises(ValueError, match=message):
            together(tickets, models, tmp_path)
    with pytest.raises(ValueError, match=r"^level_01: the folder of a level of all tickets is called so; name the ti"):
        run_together({"level_01": TICKET}, {"level_01": net()}, data(), data(), out=tmp_path)
    assert not list(tmp_path.iterdir())
    together([shallow], [net()], tmp_path)
    with pytest.raises(ValueError, match=r"a already holds a lottery ticket; resume it or choose another folder$"):
        together([shallow], [net()], tmp_path)
    with pytest.raises(ValueError, match=r"a: made with fractions = \[0.5\], this call asks for \[0.3, 0.6, 0.85\]"):
        together([TICKET], [net()], tmp_path, resume=True)


def test_a_replica_that_never_came_to_the_rewind_step_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a patience of one epoch and losses that only grow, training ends after the second."""
    losses = iter(range(100))
    monkeypatch.setattr("compress.train.evaluate", lambda *_: (float(next(losses)), 0.5))
    ticket = replace(TICKET, training=replace(TRAINING, patience=1), rewind=Rewind.TO_STEP, rewind_step=15)
    with pytest.raises(ValueError, match=r"^a, level 0: rewind_step 15 was never reached, early stopping .* step 12;"):
        together([ticket] * 2, replicas()[:2], tmp_path)
