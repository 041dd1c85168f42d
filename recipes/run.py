"""The command ``qapsule``: run a recipe, export what it made, check that the hardware is the trained network."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipes.recipe import Recipe

NOT_EQUAL = 1  # where any value differs, or the control was not caught
BAD_INPUT = 2  # as argparse has it
INTERRUPTED = 130  # as shells have it for Ctrl-C


def recipes() -> dict[str, Callable[[], Recipe]]:
    """Every recipe by name."""
    from recipes.digits import digits
    from recipes.jet import jet
    from recipes.mnist import mnist

    return {"jet": jet, "mnist": mnist, "digits": digits}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 1 for a mismatch, or 2 (and one line on stderr) for input that cannot be used."""
    given = _parser().parse_args(arguments)
    try:
        status: int = given.command(given)
    except (ValueError, OSError) as error:
        if given.traceback:
            raise
        print(f"qapsule: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("qapsule: stopped; a run goes on where it was with --resume", file=sys.stderr)
        return INTERRUPTED
    return status


def _recipes(given: argparse.Namespace) -> int:
    for name, recipe in recipes().items():
        print(f"{name:8}{recipe().summary}")
    return 0


def _run(given: argparse.Namespace) -> int:
    from recipes.pipeline import run
    from recipes.table import run_table

    recipe = _on_data(given).with_seed(given.seed).with_settings(given.set)
    out = given.out or Path("runs") / given.recipe
    result = run(recipe, out, resume=given.resume, progress=sys.stderr.isatty())
    print(run_table(result, out))
    return 0 if result.hardware.proof.holds else NOT_EQUAL


def _search(given: argparse.Namespace) -> int:
    from recipes.search.crews import dask_cluster, local_processes
    from recipes.search.front import FRONT_FILE, PICTURE_FILE, front_table, write_front
    from recipes.search.objectives import objectives_of
    from recipes.search.space import axes_of, per_layer, shortened
    from recipes.search.study import Sampler, Search, search

    recipe = shortened(_on_data(given).with_seed(given.seed), given.epochs).with_settings(given.set)
    axes = axes_of(given.vary, given.set)
    if given.per_layer:
        axes = per_layer(axes, recipe)
    config = Search(
        recipe=recipe,
        axes=axes,
        objectives=objectives_of(given.objectives, axes),
        sampler=Sampler(given.sampler),
        seed=given.seed,
    )
    out = given.out or Path("runs") / f"search-{given.recipe}"
    with dask_cluster(given.dask, given.workers) if given.dask else local_processes(given.workers) as crew:
        points = search(
            config,
            out,
            crew,
            trials=given.trials,
            storage=given.storage,
            timeout=given.timeout,
            resume=given.resume,
            progress=sys.stderr.isatty(),
        )
    print(front_table(config, write_front(out, config, points)))
    print(
        f"\n{out / FRONT_FILE}, {out / PICTURE_FILE}; each trial is a run: qapsule export {out}/trials/NNNN --out DIR"
    )
    return 0


def _on_data(given: argparse.Namespace) -> Recipe:
    """The recipe asked for, on the data asked for."""
    recipe = recipes()[given.recipe]()
    return recipe if given.data is None else replace(recipe, data=replace(recipe.data, source=_source(given.data)))


def _export(given: argparse.Namespace) -> int:
    from recipes.hardware import write_project
    from recipes.pipeline import load_compressed, load_splits
    from recipes.result import read_result

    result = read_result(given.run)
    hardware = result.recipe.hardware
    asked = {name: getattr(given, name) for name in ("backend", "part", "clock_ns", "reuse_factor")}
    if given.backend not in (None, hardware.backend):
        hardware = replace(hardware, part=None)  # that of another vendor, or of no card
    hardware = replace(hardware, **{name: value for name, value in asked.items() if value is not None})
    options = {name: asked[name] for name in ("part", "clock_ns") if asked[name] is not None}
    options |= _backend_options(hardware.backend, given.set)
    network = load_compressed(given.run, result)
    _, splits = load_splits(result.recipe)
    project = write_project(
        network,
        splits,
        hardware,
        given.out,
        name=result.recipe.name,
        overwrite=given.overwrite,
        options={**options, **{name: getattr(given, name) for name in ("io", "strategy", "tmr", "weights")}},
    )
    print(f"{hardware.backend} project of {result.hardware.network}: {given.out}")
    for caution in project.cautions:
        print(f"caution: {caution}")
    return 0


def _backend_options(backend: str, settings: Sequence[str]) -> dict[str, Any]:
    """What ``--set key=value`` says of a backend's own options."""
    from export.backends import find_backend
    from recipes.plain import PlainError, parse_setting

    kind = find_backend(backend).options
    options = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise PlainError(f"--set {setting}: write key=value, e.g. --set clock_ns=4")
        if key == "vectors":
            raise PlainError("--set vectors: the test bench gets the run's own test samples")
        options[key] = parse_setting(kind, key, text)
    return options


def _check(given: argparse.Namespace) -> int:
    from recipes.hardware import prove
    from recipes.pipeline import load_compressed, load_splits
    from recipes.result import read_result
    from recipes.table import proof_lines

    result = read_result(given.run)
    network = load_compressed(given.run, result)
    _, splits = load_splits(result.recipe)
    proof = prove(network, splits, result.recipe.hardware, given.samples, name=result.recipe.name)
    print("\n".join(proof_lines(proof)))
    return 0 if proof.holds else NOT_EQUAL


def _estimate(given: argparse.Namespace) -> int:
    from export import to_graph
    from export.costs.balance import suggest_reuse
    from export.costs.estimate import Target, estimate
    from recipes.pipeline import load_compressed
    from recipes.result import read_result

    result = read_result(given.run)
    hardware = result.recipe.hardware
    clock_ns = given.clock_ns or hardware.clock_ns
    graph = to_graph(
        load_compressed(given.run, result),
        (len(result.data.features),),
        name=result.recipe.name,
        reuse_factor=given.reuse_factor or hardware.reuse_factor,
        backend=hardware.backend,
    )
    wanted = {name: getattr(given, name) for name in ("interval", "samples_per_s", "multipliers", "dsp")}
    if any(value is not None for value in wanted.values()):
        suggestion = suggest_reuse(graph, clock_ns=clock_ns, **wanted)
        print(f"{suggestion}\n\nreuse_factor={suggestion.reuse_factor}\n")
        graph = to_graph(graph, reuse_factor=suggestion.reuse_factor, backend=hardware.backend)
    print(estimate(graph, clock_ns, given.part or hardware.part or Target.part, given.io))
    return 0


def _report(given: argparse.Namespace) -> int:
    from export.reports import read_project, read_report
    from export.reports.summary import summary

    print(summary(read_project(given.folder) if given.folder.is_dir() else read_report(given.folder)))
    return 0


def _fuzz(given: argparse.Namespace) -> int:
    from recipes.fuzz.campaign import FINDS, Campaign, fuzz, replay
    from recipes.fuzz.coverage import coverage_table, never

    if given.replay:
        found = replay(given.replay, given.standins)
        for each in found:
            print(f"{each.case}, {each.between}: {each.what}")
        print(f"{len(given.replay)} networks compared again, {len(found)} disagreements")
        return NOT_EQUAL if found else 0
    campaign = Campaign(networks=given.networks, seed=given.seed)
    account = fuzz(
        campaign,
        given.out,
        resume=given.resume,
        workers=given.workers,
        progress=sys.stderr.isatty(),
        standins=given.standins,
    )
    print(coverage_table(account.features, account.networks))
    print(f"never: {'; '.join(never(account.features)) or 'nothing'}")
    for kind, refused in sorted(account.refused.items()):
        print(f"refused, {kind}: {refused:,}")
    for what, compared in sorted(account.compared.items()):
        print(f"compared, {what}: {compared:,}")
    for what, skipped in sorted(account.skipped.items()):
        print(f"skipped, {what}: {skipped:,}")
    for find in account.finds:
        print(f"DIFFERS {find['case']}, {find['between']}: {find['what']}")
    where = f", kept in {given.out / FINDS}" if account.finds else ""
    print(f"{account.networks:,} networks, {len(account.finds)} disagreements{where}")
    return NOT_EQUAL if account.finds else 0


def _source(text: str) -> str:
    """A path is recorded in full, so that a run can be resumed and checked from any folder."""
    is_path = os.sep in text or text.endswith(".npz") or text in (os.curdir, os.pardir)
    return str(Path(text).resolve()) if is_path else text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qapsule", description="Neural networks compressed while they are trained, as exact hardware C++."
    )
    parser.add_argument("--traceback", action="store_true", help="show where in the program an error arose")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("recipes", help="list the recipes")
    listing.set_defaults(command=_recipes)

    run = commands.add_parser("run", help="train, compress, export and check one recipe")
    run.add_argument("recipe", choices=list(recipes()))
    run.add_argument("--out", type=Path, help="folder for everything the run writes (default: runs/RECIPE)")
    run.add_argument(
        "--data", metavar="NAME|PATH", help="jet: sim (default), openml, npz file or folder; mnist: folder"
    )
    run.add_argument("--seed", type=int, default=0, help="of initial weights and data order (default: 0)")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe, e.g. spec.weight_width=4"
    )
    run.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    run.set_defaults(command=_run)

    search = commands.add_parser("search", help="find the networks that give most for what they cost")
    search.add_argument("recipe", choices=list(recipes()))
    search.add_argument("--trials", type=int, default=50, help="finished ones, of all calls together (default: 50)")
    search.add_argument("--timeout", type=float, metavar="SECONDS", help="begin no trial after this time")
    search.add_argument("--vary", action="append", default=[], metavar="KEY=LOW:HIGH", help="or KEY=A/B/C: try these")
    search.add_argument("--per-layer", action="store_true", help="weight and activation widths of each layer by itself")
    search.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe; what is set does not vary"
    )
    search.add_argument(
        "--objectives",
        metavar="NAMES",
        help="of macro_auc, accuracy, bops, ebops, multipliers, interval (macro_auc,bops)",
    )
    search.add_argument("--epochs", type=int, default=10, help="of each of a trial's trainings (default: 10)")
    search.add_argument("--sampler", choices=["tpe", "nsga2"], default="tpe")
    search.add_argument("--seed", type=int, default=0, help="of the sampler and of every trial (default: 0)")
    search.add_argument("--data", metavar="NAME|PATH", help="as for run")
    search.add_argument("--out", type=Path, help="folder for everything (default: runs/search-RECIPE)")
    search.add_argument("--storage", metavar="URL", help="database, may be shared by machines (default: SQLite)")
    search.add_argument("--workers", type=int, help="trials at a time (default: one for each core, or Dask worker)")
    search.add_argument("--dask", metavar="ADDRESS", help="run trials on this Dask cluster, e.g. tcp://host:8786")
    search.add_argument("--resume", action="store_true", help="go on with a search that was stopped")
    search.set_defaults(command=_search)

    export = commands.add_parser("export", help="write the hardware project of a finished run")
    export.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    export.add_argument("--out", type=Path, required=True, help="folder for the project")
    export.add_argument("--backend", help="default: the recipe's")
    export.add_argument("--part", help="FPGA, default: the recipe's")
    export.add_argument("--clock-ns", type=float, help="clock period, default: the recipe's")
    export.add_argument("--reuse-factor", type=int, help="products that share a multiplier, default: the recipe's")
    export.add_argument(
        "--io", choices=["parallel", "stream"], default="parallel", help="samples whole, or position by position"
    )
    export.add_argument(
        "--strategy", choices=["auto", "dense", "unrolled", "coo"], default="auto", help="how weights are laid out"
    )
    export.add_argument("--tmr", action="store_true", help="store constants three times, behind a voter")
    export.add_argument(
        "--weights", choices=["constant", "reloadable"], default="constant", help="part of the design, or loaded"
    )
    export.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the backend, e.g. batch=4096"
    )
    export.add_argument("--overwrite", action="store_true", help="replace another project in --out, nothing else")
    export.set_defaults(command=_export)

    check = commands.add_parser("check", help="compare the network of a finished run with its hardware, bit for bit")
    check.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    check.add_argument("--samples", type=int, default=100_000, help="default: 100000")
    check.set_defaults(command=_check)

    estimate = commands.add_parser("estimate", help="what the network of a finished run takes in hardware, about")
    estimate.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    estimate.add_argument("--part", help="FPGA, default: the recipe's")
    estimate.add_argument("--clock-ns", type=float, help="clock period, default: the recipe's")
    estimate.add_argument(
        "--io", choices=["parallel", "stream"], default="parallel", help="samples whole, or position by position"
    )
    estimate.add_argument("--reuse-factor", type=int, help="products that share a multiplier, default: the recipe's")
    estimate.add_argument("--interval", type=int, metavar="CYCLES", help="suggest factors for a sample every so many")
    estimate.add_argument("--samples-per-s", type=float, metavar="N", help="suggest factors for this throughput")
    estimate.add_argument("--multipliers", type=int, metavar="N", help="suggest the fastest factors within this budget")
    estimate.add_argument("--dsp", type=int, metavar="N", help="the same for DSP blocks")
    estimate.set_defaults(command=_estimate)

    report = commands.add_parser("report", help="print what the vendor's tools reported of a project")
    report.add_argument("folder", type=Path, metavar="FOLDER", help="of the project, or one report")
    report.set_defaults(command=_report)
    fuzz = commands.add_parser("fuzz", help="compare random networks in everything that must agree about them")
    fuzz.add_argument("--networks", type=int, default=1000, help="of all calls together (default: 1000)")
    fuzz.add_argument("--seed", type=int, default=0, help="of the networks and their samples (default: 0)")
    fuzz.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder for everything (default: runs/fuzz)")
    fuzz.add_argument("--workers", type=int, help="groups at a time (default: one for each core)")
    fuzz.add_argument("--resume", action="store_true", help="go on with a campaign, perhaps with more networks")
    fuzz.add_argument("--standins", type=Path, help="folder of what stands in for headers that are not public")
    fuzz.add_argument("--replay", type=Path, nargs="+", metavar="FIND", help="compare earlier finds again, only those")
    fuzz.set_defaults(command=_fuzz)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
