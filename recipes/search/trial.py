"""One trial, in whatever process it is handed to: a run of the recipe with its settings, and what it gave."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from compress.checkpoint import write_bytes
from recipes.metrics import evaluate
from recipes.pipeline import load_compressed, load_splits, run
from recipes.recipe import Recipe
from recipes.search.objectives import Objective

#: Beside the run's own files: what the search made of it.
TRIAL_FILE = "trial.json"

#: Training draws from torch's global generator, so that two trials in threads of one process would disturb each other.
_ALONE = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a trial depends on, and where it leaves its run."""

    number: int
    recipe: Recipe
    settings: tuple[str, ...]  # on top of the recipe
    objectives: tuple[Objective, ...]
    folder: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The measures of a trial by objective, or why it has none."""

    measures: Mapping[str, float] | None = None
    failure: str | None = None


def perform(job: Job) -> Outcome:
    """Run the trial, or what is left of it; the same outcome however often it was stopped.

    Settings that make no network, a training that diverges and a network that cannot be exported are failures, and
    told apart from a machine that fails: only ``ValueError`` is a fault of the trial.
    """
    folder = Path(job.folder)
    with _ALONE, _claimed(folder):
        try:
            recipe = job.recipe.with_settings(job.settings)
            result = run(recipe, folder, resume=True, progress=False)
            if not result.hardware.proof.holds:
                raise ValueError("the hardware is not the trained network; see result.json")
            _, splits = load_splits(recipe)
            network = load_compressed(folder, result)
            validation = evaluate(network, splits.validation, result.data.classes)
            measures = {wanted.value: wanted.value_of(result, network, validation) for wanted in job.objectives}
            outcome = Outcome(measures=measures)
        except ValueError as error:
            outcome = Outcome(failure=" ".join(str(error).split()))
        content = {"number": job.number, "settings": list(job.settings), **asdict(outcome)}
        write_bytes(folder / TRIAL_FILE, (json.dumps(content, indent=2) + "\n").encode())
    return outcome


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Wait until nobody else writes into ``folder``: a worker of a search that was killed may still be at it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
