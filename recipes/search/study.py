"""The search itself: asks Optuna for trials, hands them to a crew, and tells what they gave.

    runs/search-jet/
      search.json    what the folder is for, written first
      study.db       Optuna's database, unless it is elsewhere
      trials/0007/   a run like any other; qapsule export and check take it
      front.json     the trials that no other one beats, rewritten at the end of every call
      front.png

Whatever is decided about a trial is in the database before the trial starts, and what it gave is told by this process
alone. So a search can be killed at any moment: trials that had begun are finished first, from where their runs were.
"""

from __future__ import annotations

import fcntl
import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from compress.checkpoint import check_same, describe, write_bytes
from export.ops.reuse import check_reuse
from recipes.pipeline import load_splits
from recipes.recipe import Recipe
from recipes.search.crews import Crew
from recipes.search.objectives import Objective
from recipes.search.space import REUSE, Axis, settings_of
from recipes.search.trial import Job, Outcome, perform

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

#: Raised by one whenever a reader of the earlier form would misread the new one.
SCHEMA = 1
SEARCH_FILE = "search.json"
DATABASE_FILE = "study.db"
TRIALS_FOLDER = "trials"
#: So many trials failing before any succeeds mean that something else is wrong.
_PATIENCE = 5
#: Trials of one generation of NSGA-II.
_POPULATION = 24


class Sampler(Enum):
    TPE = "tpe"  # tree-structured Parzen estimators: models which settings make good trials
    NSGA2 = "nsga2"  # a genetic algorithm


@dataclass(frozen=True, kw_only=True)
class Search:
    """Everything that decides which trials there are."""

    recipe: Recipe  # as trials run it, but for what varies
    axes: tuple[Axis, ...]
    objectives: tuple[Objective, ...]
    sampler: Sampler = Sampler.TPE
    seed: int = 0  # of the sampler; the recipe has its own

    def describe(self) -> dict[str, Any]:
        """All that decides the outcome, as it comes back from a JSON file."""
        content = {
            "schema": SCHEMA,
            **{f"recipe.{name}": value for name, value in describe(self.recipe).items()},
            "vary": [str(axis) for axis in self.axes],
            "objectives": [objective.value for objective in self.objectives],
            "sampler": self.sampler.value,
            "seed": self.seed,
        }
        described: dict[str, Any] = json.loads(json.dumps(content))
        return described


@dataclass(frozen=True, kw_only=True)
class Point:
    """A finished trial."""

    number: int
    choices: tuple[int | float | str, ...]  # by axis
    settings: tuple[str, ...]  # for ``qapsule run --set``, on top of the search's recipe
    values: tuple[float, ...]  # by objective
    folder: str


def search(
    config: Search,
    out: Path,
    crew: Crew,
    *,
    trials: int,
    storage: str | None = None,
    timeout: float | None = None,
    resume: bool = False,
    progress: bool = True,
) -> tuple[Point, ...]:
    """Run trials until ``trials`` of the study are finished, or no new ones after ``timeout`` seconds.

    ``storage`` is a database's URL (default: SQLite in ``out``); searches of several machines that name the same one
    share its trials. With one worker the trials are a function of ``config`` alone, however often the search was
    stopped. Returns all trials that succeeded.

    Raises ``ValueError`` for an ``out`` that holds something else, or in which a search is running, a database that
    cannot be opened, a study made with another configuration, unusable data, a reuse factor that is not legal for every
    layer, and settings of which no trial succeeds.
    """
    if trials < 1:
        raise ValueError(f"trials={trials}: at least one is needed")
    data, _ = load_splits(config.recipe)  # here rather than in every trial
    _check_reuse(config, len(data.features), len(data.classes))
    with _claimed(out, config, resume) as owner:
        study = _study(config, storage or f"sqlite:///{(out / DATABASE_FILE).resolve()}")
        _Loop(config, out.resolve(), owner, study, crew).run(trials, timeout, progress)
        return points_of(config, study)


def points_of(config: Search, study: Study) -> tuple[Point, ...]:
    from optuna.trial import TrialState

    return tuple(
        Point(
            number=trial.number,
            choices=tuple(trial.params[axis.key] for axis in config.axes),
            settings=settings_of(config.recipe, trial.params),
            values=tuple(trial.values),
            folder=trial.user_attrs["folder"],
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    )


class _Loop:
    def __init__(self, config: Search, out: Path, owner: str, study: Study, crew: Crew) -> None:
        self.config, self.out, self.owner, self.study, self.crew = config, out, owner, study, crew
        self.pending: dict[Future[Outcome], int] = {}
        self.failures: list[str] = []

    def run(self, budget: int, timeout: float | None, progress: bool) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        finished = self._finished()
        with tqdm(
            total=budget, initial=min(finished, budget), desc="search", unit="trial", disable=not progress
        ) as bar:
            for trial in self._interrupted():
                self._submit(trial.number, trial.params)
            while True:
                open_to_new = deadline is None or time.monotonic() < deadline
                while open_to_new and len(self.pending) < self.crew.workers and finished + len(self.pending) < budget:
                    self._ask()
                if not self.pending:
                    return
                done, _ = wait(self.pending, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=self.pending.__getitem__):
                    self._tell(self.pending.pop(future), future)
                finished = self._finished()
                bar.update(min(finished, budget) - bar.n)

    def _ask(self) -> None:
        # A new sampler for every trial, so that what it draws does not depend on when this process was started.
        self.study.sampler = self._sampler()
        trial = self.study.ask({axis.key: axis.distribution() for axis in self.config.axes})
        trial.set_user_attr("folder", str(self._folder(trial.number)))
        trial.set_user_attr("owner", self.owner)
        self._submit(trial.number, trial.params)

    def _submit(self, number: int, parameters: dict[str, Any]) -> None:
        job = Job(
            number=number,
            recipe=self.config.recipe,
            settings=settings_of(self.config.recipe, parameters),
            objectives=self.config.objectives,
            folder=str(self._folder(number)),
        )
        self.pending[self.crew.executor.submit(perform, job)] = number

    def _tell(self, number: int, future: Future[Outcome]) -> None:
        from optuna.trial import TrialState

        try:
            outcome = future.result()
        except BrokenExecutor as error:
            raise ValueError(
                f"trial {number}: its worker ended without a word, perhaps for lack of memory; "
                "go on with --resume, and fewer --workers"
            ) from error
        if outcome.measures is not None:
            self.study.tell(number, [outcome.measures[objective.value] for objective in self.config.objectives])
            return
        self.study.tell(number, state=TrialState.FAIL)
        self.failures.append(f"trial {number}: {outcome.failure}")
        tqdm.write(self.failures[-1])
        if len(self.failures) >= _PATIENCE and not self.study.get_trials(states=(TrialState.COMPLETE,)):
            raise ValueError(f"the first {len(self.failures)} trials all failed, the last one thus: {outcome.failure}")

    def _folder(self, number: int) -> Path:
        return self.out / TRIALS_FOLDER / f"{number:04}"

    def _finished(self) -> int:
        from optuna.trial import TrialState

        return len(self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL)))

    def _interrupted(self) -> list[FrozenTrial]:
        """Trials that this folder's search had begun when it was stopped. Those of other folders are theirs."""
        from optuna.trial import TrialState

        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in running if trial.user_attrs.get("owner") == self.owner]

    def _sampler(self) -> BaseSampler:
        from optuna.samplers import NSGAIISampler, TPESampler

        # One that was killed between being numbered and being owned was never begun, and does not count.
        begun = sum("owner" in trial.user_attrs for trial in self.study.get_trials(deepcopy=False))
        seed = (self.config.seed * 1_000_003 + begun) % 2**32
        match self.config.sampler:
            case Sampler.TPE:
                return TPESampler(seed=seed, multivariate=True, constant_liar=self.crew.workers > 1)
            case Sampler.NSGA2:
                return NSGAIISampler(seed=seed, population_size=_POPULATION)


def _check_reuse(config: Search, inputs: int, outputs: int) -> None:
    """Legal for dense layers; which of them will be stored sparse, where any factor is, no one knows yet."""
    layers = list(pairwise((inputs, *config.recipe.network.hidden, outputs)))
    for axis in config.axes:
        if axis.key == REUSE:
            for factor in axis.candidates():
                for number, (n_in, n_out) in enumerate(layers, start=1):
                    check_reuse(f"--vary {axis}: fc{number}", n_in, n_out, factor)


def _study(config: Search, storage: str) -> Study:
    """The study of this name in the database, made if need be. Raises ``ValueError`` for one of another search."""
    try:
        import optuna
    except ImportError as missing:
        raise ValueError("qapsule search needs the package optuna; pip install 'qapsule[search]'") from missing

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        database = optuna.storages.RDBStorage(storage)
    except Exception as error:  # databases and their drivers name no common type
        raise ValueError(f"{storage}: this database cannot be opened ({error}); see --storage") from error
    study = optuna.create_study(
        study_name=f"qapsule-search-{config.recipe.name}",
        storage=database,
        directions=["maximize" if objective.maximised else "minimize" for objective in config.objectives],
        load_if_exists=True,
    )
    asked = config.describe()
    saved = study.user_attrs.get("search")
    if saved is None:
        study.set_user_attr("search", asked)
    else:
        check_same(Path(storage), saved, asked)
    return study


@contextmanager
def _claimed(out: Path, config: Search, resume: bool) -> Iterator[str]:
    """Make ``out`` the folder of this search, or see that it is; for this process alone. Gives the owner's name."""
    file = out / SEARCH_FILE
    asked = config.describe()
    if file.exists():
        if not resume:
            raise ValueError(f"{out}: holds a search already; add --resume to go on with it, or choose another --out")
        check_same(out, {k: v for k, v in json.loads(file.read_text()).items() if k != "owner"}, asked)
    elif out.exists() and (not out.is_dir() or any(entry.name != f".{SEARCH_FILE}.tmp" for entry in out.iterdir())):
        raise ValueError(f"{out}: holds something that is no search; choose another --out or move it away")
    else:
        write_bytes(file, (json.dumps({"owner": uuid.uuid4().hex, **asked}, indent=2) + "\n").encode())
    with open(file) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{out}: a search is running here; wait for it, or choose another --out") from None
        yield json.loads(lock.read())["owner"]
