"""Many tickets at once: every level of all of them is one batched training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from compress.ensemble import train_ensemble
from compress.lottery.level import Level, finish_level
from compress.lottery.ticket import LotteryTicket, folder_name
from compress.rewind import Snapshot
from compress.train import Data

#: What the tickets of one run have in common.
_COMMON = ("fractions", "rewind", "rewind_step")


def run_together(
    tickets: Mapping[str, LotteryTicket],
    models: Mapping[str, nn.Module],
    train_data: Data,
    validation_data: Data,
    *,
    out: Path,
    resume: bool = False,
    checkpoint_seconds: float = 10.0,
    log_dir: Path | None = None,
    progress: bool = True,
) -> dict[str, tuple[Level, ...]]:
    """The levels of every ticket by name, each equal to the last bit to what ``run`` on its model alone gives.

    The models are replicas of one architecture, trained as ``compress.ensemble`` says: they may differ in widths,
    weights and masks, the tickets in the seeds and rates of their trainings, in ranking and structure. ``out/NAME`` is
    the folder of a ticket as ``LotteryTicket.run`` leaves it but for ``last.pt``: of that ``out/level_00``,
    ``level_01``, ... hold one for all. With ``resume`` a run killed at any moment continues to the bit-identical end.
    ``log_dir`` receives a TensorBoard folder per level, and in that one per replica.

    Raises ``ValueError`` like ``run`` and ``train_ensemble``, and for tickets that do not fit together.
    """
    levels = _check(tickets, models)
    cutters = {name: ticket.cutter(models[name]) for name, ticket in tickets.items()}
    for name, ticket in tickets.items():
        ticket.claim(out / name, resume)
    found: dict[str, list[Level]] = {name: [] for name in tickets}
    starts: list[Snapshot | None] | None = None
    for level, fraction in enumerate(levels):
        folder = folder_name(level)
        if level > 0:
            for name, cutter in cutters.items():
                cutter.cut(models[name], fraction)
        trained = train_ensemble(
            [models[name] for name in tickets],
            train_data,
            validation_data,
            [ticket.training for ticket in tickets.values()],
            start=starts,
            keep_step=next(iter(tickets.values())).keep_step if level == 0 else None,
            out=out / folder,
            resume=True,
            checkpoint_seconds=checkpoint_seconds,
            log_dir=None if log_dir is None else log_dir / folder,
            progress=progress,
            label=f"level {level}",
        )
        accounts = dict(zip(tickets, trained, strict=True))
        if level == 0:
            starts = [ticket.rewind_point(accounts[name], f"{name}, level 0") for name, ticket in tickets.items()]
        for name, ticket in tickets.items():
            done = finish_level(models[name], accounts[name], level, fraction, ticket.structure, out / name / folder)
            found[name].append(done)
    return {name: tuple(done) for name, done in found.items()}


def _check(tickets: Mapping[str, LotteryTicket], models: Mapping[str, nn.Module]) -> tuple[float, ...]:
    """The fractions of all levels. Raises ``ValueError`` for tickets that cannot run together."""
    if not tickets or tickets.keys() != models.keys():
        raise ValueError(
            f"every ticket needs a model of its name, got tickets {', '.join(tickets) or 'none'} and models "
            f"{', '.join(models) or 'none'}"
        )
    (first_name, first), *others = tickets.items()
    for field in _COMMON:
        for name, ticket in others:
            if (here := getattr(ticket, field)) != (there := getattr(first, field)):
                raise ValueError(
                    f"{name} has {field} = {here}, {first_name} has {there}; tickets that run together agree in "
                    f"{', '.join(_COMMON)}, so run the others by themselves"
                )
    fractions = (0.0, *first.fractions)
    if taken := tickets.keys() & {folder_name(level) for level in range(len(fractions))}:
        raise ValueError(f"{taken.pop()}: the folder of a level of all tickets is called so; name the ticket otherwise")
    return fractions
