"""The trials that no other one beats: as a table, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from compress.checkpoint import write_bytes
from compress.columns import columns
from recipes.result import RESULT_FILE, read_result
from recipes.search.objectives import Objective
from recipes.search.study import SCHEMA, Point, Search

FRONT_FILE = "front.json"
PICTURE_FILE = "front.png"


def front_of(points: Sequence[Point], objectives: Sequence[Objective]) -> tuple[Point, ...]:
    """The points that no other one equals or betters in every objective, best first in the first objective.

    Of equal points the one with the lowest number stands for all.
    """
    signs = [-1.0 if objective.maximised else 1.0 for objective in objectives]
    costs = {point: tuple(s * v for s, v in zip(signs, point.values, strict=True)) for point in points}

    def beats(other: Point, point: Point) -> bool:
        if costs[other] == costs[point]:
            return other.number < point.number
        return all(a <= b for a, b in zip(costs[other], costs[point], strict=True))

    left = [point for point in points if not any(beats(other, point) for other in points)]
    return tuple(sorted(left, key=lambda point: costs[point]))


def write_front(out: Path, config: Search, points: Sequence[Point]) -> tuple[Point, ...]:
    """Leave ``front.json`` and ``front.png`` in ``out``; returns the front."""
    front = front_of(points, config.objectives)
    content = {
        "schema": SCHEMA,
        "search": config.describe(),
        "trials": len(points),
        "front": [
            {
                "trial": point.number,
                "folder": point.folder,
                "settings": list(point.settings),
                "validation": dict(zip((o.value for o in config.objectives), point.values, strict=True)),
                "test": _test_figures(Path(point.folder)),
            }
            for point in front
        ],
    }
    write_bytes(out / FRONT_FILE, (json.dumps(content, indent=2) + "\n").encode())
    _draw(out / PICTURE_FILE, config, points, front)
    return front


def front_table(config: Search, front: Sequence[Point]) -> str:
    """A line for each point: its trial, what it is worth and costs, and what was chosen for it."""
    head = ("trial", *(objective.title for objective in config.objectives), *(axis.title for axis in config.axes))
    rows = [
        (
            f"{point.number:04}",
            *(objective.spell(value) for objective, value in zip(config.objectives, point.values, strict=True)),
            *(f"{choice:.4g}" if isinstance(choice, float) else str(choice) for choice in point.choices),
        )
        for point in front
    ]
    return "\n".join(columns([head, *rows]))


def _test_figures(folder: Path) -> dict[str, float] | None:
    """Of the trial's network on the test part, which chose nothing; None where another machine keeps the run."""
    if not (folder / RESULT_FILE).is_file():
        return None
    metrics = read_result(folder).deployed.metrics
    return {"accuracy": metrics.accuracy, "macro_auc": metrics.macro_auc}


def _draw(path: Path, config: Search, points: Sequence[Point], front: Sequence[Point]) -> None:
    """The first thing to maximise against every cost, a panel each."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise ValueError("drawing the front needs matplotlib; pip install 'qapsule[search]'") from missing

    objectives = config.objectives
    gain = next(index for index, objective in enumerate(objectives) if objective.maximised)
    costs = [index for index, objective in enumerate(objectives) if not objective.maximised]
    figure = Figure(figsize=(6.4 * len(costs), 4.8), dpi=130)
    FigureCanvasAgg(figure)
    for panel, cost in enumerate(costs, start=1):
        axes = figure.add_subplot(1, len(costs), panel)
        for chosen, style in ((points, {"color": "lightgray"}), (front, {"color": "tab:blue", "zorder": 3})):
            axes.scatter([p.values[cost] for p in chosen], [p.values[gain] for p in chosen], s=22, **style)
        if len(objectives) == 2:  # with more of them no line bounds the others
            line = sorted(front, key=lambda point: point.values[cost])
            axes.step([p.values[cost] for p in line], [p.values[gain] for p in line], where="post", color="tab:blue")
        for point in front:
            at = (point.values[cost], point.values[gain])
            axes.annotate(str(point.number), at, textcoords="offset points", xytext=(4, -9), fontsize=7)
        axes.set_xscale("log")
        axes.set_xlabel(objectives[cost].title)
        axes.set_ylabel(f"{objectives[gain].title}, validation")
        axes.grid(alpha=0.3)
    figure.suptitle(f"{config.recipe.name}: {len(points)} trials, {len(front)} of them on the front", fontsize=10)
    figure.tight_layout()
    figure.savefig(path)
