"""Macro AUC against bit operations: 32, 12, 8, 6 and 4 bits, from all weights down to 1 % of them.

    python benchmarks/fig5.py --data jets_sim_100k.npz [--seeds 5] [--epochs 30] [--runs runs/fig5]

What Fig. 5 of the hls4ml paper (Fahim et al., arXiv:2103.05579) and the quantization-aware pruning behind it (Hawks et
al., Front. Artif. Intell. 4, 676564, 2021) show, on simulated jets: the net 16-64-32-32-5 with batch norm is trained,
pruned to 90, 80, ..., 10, 3.3 and 1.1 % of its original weights, smallest magnitudes of all layers first, and trained
again at every level; once as a lottery ticket, rewound to its initialisation, and once fine-tuned. "32 bits" is the
float net, as in the paper; W bits are those of weights, activations and inputs (biases have 16). Each level has the
same training: Adam, a cosine from 3e-3 to 0, L1 1e-4, batches of 1024. Figures are of test events that no training saw.

The paper's claim, that at 6 bits and 80 % pruned nothing is lost for 45-50 times fewer BOPs, is held against the
unpruned 32-bit nets, trained like the others, and against float nets trained to convergence: without L1, for as many
epochs in one go as the 80 % pruned net has behind it. That these have converged is shown by half of the epochs giving
the same. The 6-bit 80 % pruned nets are also exported: their C++ must equal them in every output.

All widths and seeds of a scheme are trained as ensembles (``compress.lottery.run_together``), the schemes in two
processes. A run is kept in ``--runs`` and resumed from there. Writes benchmarks/results/fig5.json and fig5.png.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot
from matplotlib.ticker import EngFormatter, LogLocator
from provenance import RESULTS, provenance, write
from torch import nn
from tqdm import tqdm

from compress.bops import bops
from compress.checkpoint import load_model
from compress.ensemble import train_ensemble
from compress.layers import QuantSpec
from compress.lottery import LotteryTicket, Rewind, run_together
from compress.quantize import quantize
from compress.train import TrainConfig, threads
from export import emulate
from recipes.data.dataset import Dataset, Splits
from recipes.jet import jet
from recipes.metrics import evaluate
from recipes.network import float_network
from recipes.pipeline import load_splits, tensors

SCHEMES = {"lottery ticket": Rewind.TO_INITIALISATION, "fine-tuning": Rewind.FINE_TUNE}
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.967, 0.989)
FLOAT = 32  # bits that a float counts
WIDTHS = (FLOAT, 12, 8, 6, 4)
CLAIMED_WIDTH, CLAIMED_FRACTION = 6, 0.8
#: What the 80 % pruned net may lose of the macro AUC.
ALLOWED = 0.005
#: In standard errors: a loss below it is none that these seeds can tell from chance.
RESOLVED = 2.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """What decides the figures."""

    data: str
    seeds: int
    widths: tuple[int, ...]
    fractions: tuple[float, ...]
    epochs: int  # of every level
    device: str

    @property
    def training(self) -> TrainConfig:
        return TrainConfig(epochs=self.epochs, batch_size=1024, learning_rate=3e-3, l1=1e-4)

    @property
    def baseline_epochs(self) -> int:
        """As many as a net has behind it that is pruned as claimed."""
        return self.epochs * (1 + sum(fraction <= CLAIMED_FRACTION for fraction in self.fractions))


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network: a width, a level and a seed under one scheme."""

    scheme: str
    width: int
    fraction: float
    seed: int
    bops: float
    macro_auc: float
    accuracy: float
    weights: int
    pruned: int
    rounded: int  # to zero, beside those pruned
    mismatches: int | None  # test samples in which the C++ differs; None: not exported


def network(data: Dataset, width: int, seed: int) -> nn.Module:
    plain = float_network(jet().network, len(data.features), len(data.classes), seed)
    if width == FLOAT:
        return plain
    return quantize(plain, QuantSpec(weight_width=width, activation_width=width, input_width=width, bias_width=16))


def prepare(config: Config) -> tuple[Dataset, Splits]:
    base = jet()
    return load_splits(replace(base, data=replace(base.data, source=config.data)))


def prune_all(config: Config, scheme: str, widths: Sequence[int], out: Path) -> list[Point]:
    """Every level of all seeds of these widths, which one ensemble can hold."""
    data, splits = prepare(config)
    runs = {f"bits_{width:02}_seed_{seed}": (width, seed) for width in widths for seed in range(config.seeds)}
    models = {name: network(data, *run).to(config.device) for name, run in runs.items()}
    tickets = {
        name: LotteryTicket(
            training=replace(config.training, seed=seed), fractions=config.fractions, rewind=SCHEMES[scheme]
        )
        for name, (_, seed) in runs.items()
    }
    levels = run_together(
        tickets, models, tensors(splits.train), tensors(splits.validation), out=out, resume=True, progress=False
    )
    points = []
    loaded = {width: network(data, width, seed=0) for width in widths}
    with threads(1):
        for name, (width, seed) in runs.items():
            trained = loaded[width]
            for level in levels[name]:
                load_model(level.folder / "model.pt", trained)
                metrics = evaluate(trained, splits.test, data.classes)
                claimed = (width, level.fraction) == (CLAIMED_WIDTH, CLAIMED_FRACTION)
                points.append(
                    Point(
                        scheme=scheme,
                        width=width,
                        fraction=level.fraction,
                        seed=seed,
                        bops=bops(trained, input_width=width).total,
                        macro_auc=metrics.macro_auc,
                        accuracy=metrics.accuracy,
                        weights=sum(level.weights.values()),
                        pruned=sum(level.pruned.values()),
                        rounded=sum(counts.rounded or 0 for counts in level.counts.values()),
                        mismatches=mismatches(trained, torch.from_numpy(splits.test.x)) if claimed else None,
                    )
                )
    return points


def mismatches(trained: nn.Module, x: torch.Tensor) -> int:
    """Samples in which the exported C++ gives any other output than the network in float64."""
    scores = torch.from_numpy(emulate(trained, input_shape=tuple(x.shape[1:]), threads=1).predict(x))
    with torch.no_grad():
        exact = copy.deepcopy(trained).double().eval()(x.double())
    return int((scores != exact).any(dim=1).sum())


def baseline(config: Config, epochs: int, out: Path) -> list[float]:
    """Macro AUC of float nets trained for ``epochs``, seed by seed."""
    data, splits = prepare(config)
    models = [network(data, FLOAT, seed).to(config.device) for seed in range(config.seeds)]
    configs = [replace(config.training, epochs=epochs, l1=0.0, seed=seed) for seed in range(config.seeds)]
    train_ensemble(
        models, tensors(splits.train), tensors(splits.validation), configs, out=out, resume=True, progress=False
    )
    with threads(1):
        return [evaluate(model.to("cpu"), splits.test, data.classes).macro_auc for model in models]


def watch_over(parent: int) -> None:
    """End this process with the one that started it, however that ended: two may not write into one folder."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def compute(config: Config, runs: Path, workers: int) -> tuple[list[Point], list[float], list[float]]:
    """All points, and the macro AUC of the baseline and of half of its epochs."""
    quantized = [width for width in config.widths if width != FLOAT]
    groups = [("quantized", quantized)] if quantized else []
    groups += [("float", [FLOAT])] if FLOAT in config.widths else []
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawning, initializer=watch_over, initargs=(os.getpid(),)) as pool:
        pruned: list[Future[list[Point]]] = [
            pool.submit(prune_all, config, scheme, widths, runs / scheme.replace(" ", "_") / group)
            for group, widths in groups
            for scheme in SCHEMES
        ]
        floats = [
            pool.submit(baseline, config, epochs, runs / f"baseline_{epochs}")
            for epochs in (config.baseline_epochs, max(1, config.baseline_epochs // 2))
        ]
        show_progress(config, runs, pruned, floats)
        points = [point for future in pruned for point in future.result()]
        order = list(SCHEMES)
        points.sort(key=lambda p: (order.index(p.scheme), config.widths.index(p.width), p.fraction, p.seed))
        return points, *[future.result() for future in floats]


def show_progress(config: Config, runs: Path, pruned: Sequence[Future[Any]], floats: Sequence[Future[Any]]) -> None:
    """A bar of trained networks: those that left their account, and the baseline's once they are done."""
    chains = len(SCHEMES) * len(config.widths) * config.seeds
    total = chains * (1 + len(config.fractions)) + len(floats) * config.seeds
    with tqdm(total=total, unit="network", smoothing=0) as bar:
        pending: set[Future[Any]] = {*pruned, *floats}
        while pending:
            done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
            for job in done:
                job.result()  # a job that failed ends the run; the others finish what they are at
            levels = sum(1 for _ in runs.glob("*/*/bits_*/level_*/level.json"))
            bar.n = levels + config.seeds * sum(job.done() for job in floats)
            bar.refresh()


def summary(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of the seeds (0 of a single one)."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def curves(points: Sequence[Point]) -> dict[tuple[str, int], dict[float, list[Point]]]:
    """By scheme and width, then by fraction: the points of all seeds."""
    found: dict[tuple[str, int], dict[float, list[Point]]] = {}
    for point in points:
        found.setdefault((point.scheme, point.width), {}).setdefault(point.fraction, []).append(point)
    return found


def check_claim(points: Sequence[Point], converged: Sequence[float]) -> dict[str, Any]:
    """What the networks of the claim lose, by scheme, against each reference."""
    found: dict[str, Any] = {}
    for scheme in SCHEMES:
        claimed = curves(points).get((scheme, CLAIMED_WIDTH), {}).get(CLAIMED_FRACTION)
        unpruned = curves(points).get((scheme, FLOAT), {}).get(0.0)
        if not claimed or not unpruned:
            continue
        own = [point.macro_auc for point in claimed]
        losses = {}
        for reference, values in {
            "unpruned 32-bit nets": [point.macro_auc for point in unpruned],
            "float nets at convergence": list(converged),
        }.items():
            (there, spread), (here, own_spread) = summary(values), summary(own)
            error = ((spread**2 + own_spread**2) / len(own)) ** 0.5
            loss = there - here
            losses[reference] = {
                "loss": loss,
                "standard_error": error,
                "resolved": loss > RESOLVED * error,
                "within": loss <= ALLOWED,
            }
        found[scheme] = {
            "losses": losses,
            "bops_reduction": statistics.mean(p.bops for p in unpruned) / statistics.mean(p.bops for p in claimed),
            "mismatches_of_the_c++": sum(point.mismatches or 0 for point in claimed),
        }
    return found


def table(points: Sequence[Point], converged: Sequence[float], halfway: Sequence[float], config: Config) -> str:
    lines = [f"{'':16}{'bits':>5}{'pruned':>9}{'BOPs':>12}{'fewer':>8}{'macro AUC':>20}{'rounded to 0':>15}"]
    reference = bops(float_network(jet().network, 16, 5, 0), input_width=FLOAT).total
    for (scheme, width), levels in curves(points).items():
        for fraction, group in levels.items():
            cost = statistics.mean(point.bops for point in group)
            mean, spread = summary([point.macro_auc for point in group])
            rounded = statistics.mean(point.rounded / point.weights for point in group)
            lines.append(
                f"{scheme:16}{width:>5}{fraction:>9.1%}{cost:>12,.0f}{reference / cost:>7.1f}x"
                f"{f'{mean:.4f} +- {spread:.4f}':>20}{rounded:>15.1%}"
            )
    for epochs, values in ((config.baseline_epochs, converged), (max(1, config.baseline_epochs // 2), halfway)):
        mean, spread = summary(values)
        lines.append(f"float, unpruned, {epochs} epochs: macro AUC {mean:.4f} +- {spread:.4f}")
    return "\n".join(lines)


def verdict(claim: Mapping[str, Any]) -> str:
    lines = []
    for scheme, found in claim.items():
        lines.append(
            f"{scheme}, {CLAIMED_WIDTH} bits, {CLAIMED_FRACTION:.0%} pruned: {found['bops_reduction']:.1f}x fewer BOPs "
            f"(claimed: 45-50x); {found['mismatches_of_the_c++']} outputs of the exported C++ differ"
        )
        for reference, loss in found["losses"].items():
            lines.append(
                f"  against {reference}: macro AUC lower by {loss['loss']:.4f} +- {loss['standard_error']:.4f}, "
                f"{'more' if loss['resolved'] else 'no more'} than chance, {'' if loss['within'] else 'NOT '}within "
                f"{ALLOWED}"
            )
    return "\n".join(lines)


def draw(points: Sequence[Point], converged: Sequence[float], path: Path) -> None:
    """One column per scheme; the row below shows the plateau on a finer scale."""
    drawn, (level, spread) = curves(points), summary(converged)
    figure, axes = pyplot.subplots(2, len(SCHEMES), figsize=(12, 9), sharex=True, sharey="row", squeeze=False)
    widths = list(dict.fromkeys(point.width for point in points))
    for column, scheme in enumerate(SCHEMES):
        for row in axes[:, column]:
            row.axhspan(level - spread, level + spread, color="0.85", label="float, converged (mean, s.d.)")
            for number, width in enumerate(widths):
                groups = drawn[scheme, width].values()
                means, spreads = zip(*(summary([point.macro_auc for point in group]) for group in groups), strict=True)
                costs = [statistics.mean(point.bops for point in group) for group in groups]
                label = f"{width} bits{' (float)' if width == FLOAT else ''}"
                row.errorbar(costs, means, spreads, color=f"C{number}", marker="o", ms=4, capsize=3, label=label)
                for fraction, cost, mean in zip(drawn[scheme, width], costs, means, strict=True):
                    if fraction == CLAIMED_FRACTION:
                        row.plot(cost, mean, marker="*", ms=15, color=f"C{number}", mec="black", zorder=3)
            row.set_xscale("log")
            row.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            row.xaxis.set_major_formatter(EngFormatter(sep=""))
            row.grid(alpha=0.3)
        axes[0, column].set_title(f"{scheme} (stars: {CLAIMED_FRACTION:.0%} pruned)")
        axes[1, column].set_xlabel("bit operations (BOPs)")
    top = max(level, *(summary([p.macro_auc for p in group])[0] for line in drawn.values() for group in line.values()))
    axes[1, 0].set_ylim(top - 0.015, top + 0.002)
    axes[0, 0].set_ylabel("macro AUC")
    axes[1, 0].set_ylabel("macro AUC, the plateau")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="upper center", ncols=1 + len(widths))
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    print(f"drawn in {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="macro AUC of the jet net against BOPs, through widths and sparsities")
    parser.add_argument("--data", default="sim", help="what `qapsule run jet --data` takes (default: sim)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS), help="bits; 32 is the float net")
    parser.add_argument("--fractions", type=float, nargs="+", default=list(FRACTIONS), help="pruned, level by level")
    parser.add_argument("--epochs", type=int, default=30, help="per level")
    parser.add_argument("--device", default="cpu", help="where the networks are trained (default: cpu)")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--runs", type=Path, default=Path("runs/fig5"), help="where the runs are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "fig5.json")
    given = parser.parse_args()
    config = Config(
        data=str(Path(given.data).resolve()) if Path(given.data).exists() else given.data,
        seeds=given.seeds,
        widths=tuple(dict.fromkeys(given.widths)),
        fractions=tuple(given.fractions),
        epochs=given.epochs,
        device=given.device,
    )
    begun, resumed = time.monotonic(), given.runs.exists()
    points, converged, halfway = compute(config, given.runs, given.workers)
    seconds = time.monotonic() - begun
    claim = check_claim(points, converged)
    data, splits = prepare(config)
    print(table(points, converged, halfway, config))
    print(verdict(claim))
    draw(points, converged, given.out.with_suffix(".png"))
    content = {
        "benchmark": "fig5",
        "data": {"source": Path(config.data).name, "digest": data.digest, "test_samples": len(splits.test.y)},
        "training": {"epochs_per_level": config.epochs, "batch": 1024, "learning_rate": 3e-3, "l1": 1e-4},
        "device": config.device,
        "workers": given.workers,
        "seconds": round(seconds, 1),
        "resumed": resumed,  # the seconds are then only those of the last part
        "baseline": {"epochs": config.baseline_epochs, "macro_auc": converged, "macro_auc_after_half": halfway},
        "allowed_loss": ALLOWED,
        "claim": claim,
        "points": [asdict(point) for point in points],
        **provenance("torch", "brevitas", "numpy", "scikit-learn"),
    }
    write(given.out, content)


if __name__ == "__main__":
    main()
