"""The search: what may vary, what is told of it, that it can be stopped anywhere, and that its trials are runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compress.ebops import ebops
from recipes.digits import digits
from recipes.jet import jet
from recipes.network import quantized_network
from recipes.pipeline import load_compressed
from recipes.result import read_result
from recipes.run import main
from recipes.search import study as study_module
from recipes.search.crews import Crew, dask_cluster, local_processes
from recipes.search.front import front_of, front_table, write_front
from recipes.search.objectives import Objective, objectives_of
from recipes.search.space import Axis, axes_of, per_layer, settings_of, shortened
from recipes.search.study import Point, Sampler, Search, search
from recipes.search.trial import Job, Outcome, perform

optuna = pytest.importorskip("optuna", reason="the extra search (optuna) is not installed")
pytest.importorskip("matplotlib", reason="the extra search (matplotlib) is not installed")

ROOT = Path(__file__).parents[1]


class Here(Executor):
    """Runs what it is handed before it returns, in this thread; so a trial can be interrupted like this process."""

    def submit(self, fn: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*arguments, **options))
        return future


def pretended(job: Job) -> Outcome:
    """Figures that more bits and weights improve and cost, in place of a training."""
    recipe = job.recipe.with_settings(job.settings)
    spec, kept = recipe.spec, 1 - recipe.deploy
    good = 1 - 0.5 ** (min(spec.weight_width, spec.activation_width) * kept)
    cost = spec.weight_width * spec.activation_width * kept
    measures = {"macro_auc": good, "accuracy": good, "bops": cost, "multipliers": kept, "interval": 1.0}
    return Outcome(measures=measures)


def config(**changes: Any) -> Search:
    axes = axes_of([], [])
    return replace(
        Search(recipe=shortened(digits(), 1), axes=axes, objectives=objectives_of(None, axes)),
        **changes,
    )


def account(points: tuple[Point, ...]) -> list[tuple[Any, ...]]:
    """What must be equal in two searches, which lie in different folders and may have skipped a number."""
    return [(point.settings, point.values) for point in points]


# -- what varies


def test_axes_are_read_and_written() -> None:
    assert Axis.parse("spec.weight_width=2:8") == Axis("spec.weight_width", 2, 8)
    assert Axis.parse("pruned=0.5:1") == Axis("pruned", 0.5, 1.0)
    assert Axis.parse("network.hidden=64,32/16") == Axis("network.hidden", choices=("64,32", "16"))
    for text in ("spec.weight_width=2:8", "pruned=0.5:0.9", "pruning.ranking=global/per_layer"):
        assert str(Axis.parse(text)) == text


def test_what_is_set_does_not_vary() -> None:
    keys = [axis.key for axis in axes_of([], [])]
    assert keys[:4] == ["spec.weight_width", "spec.activation_width", "spec.input_width", "pruned"]
    assert "pruned" not in [axis.key for axis in axes_of([], ["deploy=0.5"])]
    changed = axes_of(["spec.weight_width=4:5", "network.hidden=8/16"], ["spec.input_width=6"])
    assert Axis("spec.weight_width", 4, 5) in changed and changed[-1].key == "network.hidden"
    assert "spec.input_width" not in [axis.key for axis in changed]


def test_settings_make_a_recipe_and_keep_stated_ranges() -> None:
    parameters = {"spec.input_width": 3, "spec.weight_width": 4, "pruned": 0.31234999}
    fixed_point = shortened(digits(), 2).with_settings(settings_of(digits(), parameters))
    assert (fixed_point.spec.input_width, fixed_point.spec.input_frac) == (3, 2)  # one integer bit, as in 5 bits
    assert fixed_point.spec.weight_width == 4 and fixed_point.deploy == 0.3123
    assert fixed_point.pruning.fractions == (0.3123,)
    assert (fixed_point.baseline.epochs, fixed_point.pruning.training.epochs) == (2, 2)
    learned = jet().with_settings(settings_of(jet(), parameters))
    assert (learned.spec.input_width, learned.spec.input_frac) == (3, None)


def test_widths_vary_layer_by_layer() -> None:
    recipe = shortened(jet(), 2)
    axes = per_layer(axes_of([], ["spec.input_width=6"]), recipe)
    weights, activations = [f"weight_widths.{n}" for n in (1, 2, 3, 4)], [f"activation_widths.{n}" for n in (1, 2, 3)]
    assert [axis.key for axis in axes] == [*weights, *activations, "pruned", "pruning.ranking"]
    parameters = dict(zip((axis.key for axis in axes), (2, 3, 4, 5, 6, 7, 8, 0.5, "global"), strict=True))
    chosen = recipe.with_settings(settings_of(recipe, parameters))
    assert (chosen.weight_widths, chosen.activation_widths) == ((2, 3, 4, 5), (6, 7, 8))
    network = quantized_network(chosen, 16, 5)
    assert [network.get_submodule(f"fc{n}").spec.weight_width for n in (1, 2, 3, 4)] == [2, 3, 4, 5]
    assert [network.get_submodule(f"relu{n}").spec.activation_width for n in (1, 2, 3)] == [6, 7, 8]
    assert network.get_submodule("input").spec.input_width == 6
    with pytest.raises(ValueError, match="weight_widths: 2 widths, this network needs 4, or none for the spec's"):
        replace(recipe, weight_widths=(4, 4))


def test_reuse_is_traded_for_what_it_costs() -> None:
    reuse = axes_of(["hardware.reuse_factor=1/2"], [])
    assert objectives_of(None, axes_of([], [])) == (Objective.MACRO_AUC, Objective.BOPS)
    assert objectives_of(None, reuse)[2:] == (Objective.MULTIPLIERS, Objective.INTERVAL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vary", "spec.weight_width"], "--vary spec.weight_width: write key=low:high or key=a/b/c"),
        (["--vary", "spec.weigth_width=2:8"], "there is no weigth_width; did you mean weight_width?"),
        (["--vary", "spec.weight_width=8:2"], "--vary spec.weight_width=8:2: the first number must be the smaller one"),
        (["--vary", "spec.weight_width=2/many"], "a whole number is needed"),
        (["--vary", "pruning.ranking=global:per_layer"], "only numbers have a range; list what to try as"),
        (["--vary", "pruned=0:0.5"], "--vary pruned: 0 is no fraction above 0 and at most 1"),
        (["--vary", "pruned=0.1:0.5", "--set", "deploy=0.8"], "pruned: given to --set and to --vary"),
        (["--set", "spec.input_width=4", "--vary", "spec.input_width=2:4"], "given to --set and to --vary"),
        (["--objectives", "auc,bops"], "auc is none of macro_auc, accuracy, bops, ebops, multipliers, interval"),
        (["--objectives", "bops"], "name at least one of macro_auc, accuracy and one of bops"),
        (
            ["--objectives", "macro_auc,multipliers", "--vary", "hardware.reuse_factor=1:4"],
            "reuse trades multipliers for time; add interval to --objectives or fix it",
        ),
        (["--vary", "hardware.reuse_factor=2/7"], "fc1: reuse factor 7 is not legal for 64 inputs and 32 outputs"),
        (["--trials", "0"], "trials=0: at least one is needed"),
        (["--workers", "0"], "workers=0: at least one is needed to run trials"),
        (["--storage", "nosuch://db"], "nosuch://db: this database cannot be opened"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "digits", "--out", str(tmp_path / "out"), *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out


# -- the loop, with pretended trials


@pytest.fixture(autouse=True)
def _pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """For searches in this process; the real ones below are commands of their own."""
    monkeypatch.setattr(study_module, "perform", pretended)


@pytest.mark.parametrize("sampler", Sampler)
def test_a_search_is_a_function_of_its_configuration(sampler: Sampler, tmp_path: Path) -> None:
    asked = config(sampler=sampler)
    first, second = (search(asked, tmp_path / name, Crew(Here(), 1), trials=13, progress=False) for name in "ab")
    other = search(replace(asked, seed=1), tmp_path / "c", Crew(Here(), 1), trials=13, progress=False)
    assert len(first) == 13 and account(first) == account(second) != account(other)


@pytest.mark.parametrize("sampler", Sampler)
@pytest.mark.parametrize("call", [1, 12])
def test_an_interrupted_trial_is_finished_and_changes_nothing(
    call: int, sampler: Sampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(sampler=sampler)
    whole = search(asked, tmp_path / "whole", Crew(Here(), 1), trials=12, progress=False)
    _interrupt(monkeypatch, study_module, "perform", call)
    with pytest.raises(KeyboardInterrupt):
        search(asked, tmp_path / "cut", Crew(Here(), 1), trials=12, progress=False)
    monkeypatch.setattr(study_module, "perform", pretended)
    ended = search(asked, tmp_path / "cut", Crew(Here(), 1), trials=12, resume=True, progress=False)
    assert ended == tuple(replace(p, folder=p.folder.replace("whole", "cut")) for p in whole)


@pytest.mark.parametrize("call", [1, 2, 22])
def test_a_kill_while_a_trial_is_being_asked_for_changes_nothing(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between numbering a trial and owning it the database holds one that nobody will finish."""
    asked = config()
    whole = search(asked, tmp_path / "whole", Crew(Here(), 1), trials=12, progress=False)
    with monkeypatch.context() as patch:
        _interrupt(patch, optuna.trial.Trial, "set_user_attr", call)
        with pytest.raises(KeyboardInterrupt):
            search(asked, tmp_path / "cut", Crew(Here(), 1), trials=12, progress=False)
    ended = search(asked, tmp_path / "cut", Crew(Here(), 1), trials=12, resume=True, progress=False)
    assert account(ended) == account(whole)


def _interrupt(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, call: int) -> None:
    """Ctrl-C in the ``call``-th call."""
    calls, original = [], getattr(where, name)

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(where, name, interrupted)


def test_two_machines_share_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    asked = config()
    search(asked, tmp_path / "a", Crew(Here(), 1), trials=5, storage=url, progress=False)
    points = search(asked, tmp_path / "b", Crew(Here(), 1), trials=8, storage=url, progress=False)
    assert [Path(point.folder).parts[-3] for point in points] == ["a"] * 5 + ["b"] * 3
    with pytest.raises(ValueError, match="made with seed = 0, this call asks for 1"):
        search(replace(asked, seed=1), tmp_path / "c", Crew(Here(), 1), trials=8, storage=url, progress=False)


def test_failed_trials_count_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def picky(job: Job) -> Outcome:
        return Outcome(failure="too wide") if job.number % 2 else pretended(job)

    monkeypatch.setattr(study_module, "perform", picky)
    assert [p.number for p in search(config(), tmp_path / "a", Crew(Here(), 1), trials=6, progress=False)] == [0, 2, 4]
    assert "trial 1: too wide" in "".join(capsys.readouterr())
    monkeypatch.setattr(study_module, "perform", lambda job: Outcome(failure="the data is bad"))
    with pytest.raises(ValueError, match="the first 5 trials all failed, the last one thus: the data is bad"):
        search(config(), tmp_path / "b", Crew(Here(), 1), trials=50, progress=False)


def test_several_trials_run_at_a_time_and_a_timeout_begins_none(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        points = search(config(), tmp_path / "a", Crew(pool, 3), trials=8, progress=False)
        assert len(points) == len({point.folder for point in points}) == 8
        assert search(config(), tmp_path / "b", Crew(pool, 3), trials=20, timeout=0.0, progress=False) == ()


def test_a_folder_is_never_shared_nor_taken(tmp_path: Path) -> None:
    asked, crew = config(), Crew(Here(), 1)
    search(asked, tmp_path / "a", crew, trials=1, progress=False)
    with pytest.raises(ValueError, match="holds a search already; add --resume to go on with it"):
        search(asked, tmp_path / "a", crew, trials=2, progress=False)
    with pytest.raises(ValueError, match=re.escape("made with objectives = ['macro_auc', 'bops'], this call")):
        search(
            replace(asked, objectives=objectives_of("accuracy,bops", ())), tmp_path / "a", crew, trials=2, resume=True
        )
    with (
        study_module._claimed(tmp_path / "a", asked, resume=True),
        pytest.raises(ValueError, match="a search is running here"),
    ):
        search(asked, tmp_path / "a", crew, trials=2, resume=True, progress=False)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="holds something that is no search"):
        search(asked, tmp_path / "b", crew, trials=1, resume=True, progress=False)


def test_the_front_is_what_no_trial_beats(tmp_path: Path) -> None:
    asked = config()
    points = search(asked, tmp_path / "a", Crew(Here(), 1), trials=20, progress=False)
    front = write_front(tmp_path / "a", asked, points)
    for point in points:
        better = [p for p in points if p.values[0] >= point.values[0] and p.values[1] <= point.values[1]]
        assert (point in front) == ({p.values for p in better} == {point.values})
    assert 1 < len(front) < 20 and list(front) == sorted(front, key=lambda p: -p.values[0])
    content = json.loads((tmp_path / "a" / "front.json").read_text())
    assert [row["trial"] for row in content["front"]] == [point.number for point in front]
    assert content["front"][0]["validation"] == dict(zip(("macro_auc", "bops"), front[0].values, strict=True))
    assert (tmp_path / "a" / "front.png").read_bytes().startswith(b"\x89PNG")
    assert front_table(asked, front).count("\n") == len(front) + 1


def test_of_equal_points_the_first_stands_for_all() -> None:
    def point(number: int, *values: float) -> Point:
        return Point(number=number, choices=(), settings=(), values=values, folder="")

    points = [point(3, 0.9, 10.0), point(1, 0.9, 10.0), point(2, 0.9, 11.0), point(4, 0.95, 12.0), point(5, 0.8, 9.0)]
    front = front_of(points, (Objective.MACRO_AUC, Objective.BOPS))
    assert [p.number for p in front] == [4, 1, 5]


def test_a_dask_cluster_is_a_crew(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra dask (distributed) is not installed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp://"
        ) as cluster,
        dask_cluster(cluster.scheduler_address) as crew,
    ):
        assert crew.workers == 2
        points = search(config(), tmp_path / "a", crew, trials=6, progress=False)
    assert len(points) == 6
    for point in points:
        job = Job(number=0, recipe=config().recipe, settings=point.settings, objectives=(), folder="")
        expected = pretended(job).measures
        assert expected is not None and point.values == (expected["macro_auc"], expected["bops"])


def test_dask_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ValueError, match=re.escape("needs the package distributed; pip install 'qapsule[dask]'")),
        dask_cluster("tcp://127.0.0.1:1"),
    ):
        pass


# -- the real thing

SMALL = ["--epochs", "1", "--set", "hardware.samples=200", "--set", "network.hidden=8"]


def test_a_failing_trial_says_why(tmp_path: Path) -> None:
    job = Job(
        number=3,
        recipe=shortened(digits(), 1),
        settings=("deploy=0.3",),
        objectives=tuple(Objective),
        folder=str(tmp_path / "0003"),
    )
    outcome = perform(job)
    assert outcome.measures is None and outcome.failure is not None and "deploy=0.3 is no level" in outcome.failure
    saved = json.loads((tmp_path / "0003" / "trial.json").read_text())
    assert saved["failure"] == outcome.failure and saved["settings"] == ["deploy=0.3"]


@pytest.mark.slow
def test_a_killed_search_leaves_nobody_behind_and_ends_the_same(tmp_path: Path) -> None:
    """With real trainings in real processes; then a trial of it is exported and checked like any run."""
    command = [sys.executable, "-m", "recipes.run", "search", "digits", "--trials", "2", "--workers", "1", *SMALL]
    command += ["--objectives", "macro_auc,bops,ebops"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, "--out", str(killed)], env=environment, cwd=tmp_path)
    _wait_for(lambda: (killed / "trials" / "0001" / "recipe.json").exists() or process.poll() is not None)
    workers = _children(process.pid)
    process.kill()
    assert process.wait() == -signal.SIGKILL and workers
    _wait_for(lambda: not any(map(_runs, workers)))
    subprocess.run([*command, "--out", str(killed), "--resume"], env=environment, cwd=tmp_path, check=True)
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "whole")], env=environment, cwd=tmp_path, check=True, stdout=subprocess.PIPE
    )
    assert b"macro AUC" in done.stdout

    fronts = [json.loads((tmp_path / name / "front.json").read_text())["front"] for name in ("killed", "whole")]
    kept = [[{k: v for k, v in row.items() if k != "folder"} for row in front] for front in fronts]
    assert kept[0] == kept[1] and all(row["test"] for row in kept[0])
    states = optuna.load_study(study_name=None, storage=f"sqlite:///{killed / 'study.db'}").get_trials()
    assert [trial.state for trial in states] == [optuna.trial.TrialState.COMPLETE] * 2

    trial = killed / "trials" / "0000"
    result = read_result(trial)
    assert result.recipe.spec.weight_width == states[0].params["spec.weight_width"]
    assert states[0].values[1:] == [result.deployed.bops, ebops(load_compressed(trial, result)).total]
    assert main(["export", str(trial), "--out", str(tmp_path / "hls")]) == 0
    assert main(["check", str(trial), "--samples", "300"]) == 0


def test_workers_are_processes_that_stop_at_once(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), local_processes(1) as crew:
        assert crew.workers == 1
        future = crew.executor.submit(os.getpid)
        worker = future.result(timeout=120)
        assert worker != os.getpid()
        crew.executor.submit(time.sleep, 600)
        raise KeyboardInterrupt
    assert not _runs(worker) and time.monotonic() - start < 120


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_for(condition: Any, seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
