"""The smallest network for the accuracy: learned precision here against HGQ2 0.2.0, same jets, same split, one core.

    python benchmarks/pareto.py --data jets_sim_100k.npz [--hgq2-python PYTHON] [--seeds 1] [--out FILE]

Both learn the widths of a jet tagger with weights and activations under a price for effective bit operations. HGQ2 (in
a process of its own: benchmarks/pareto_hgq2.py, with the Python that has it, extra ``bench``) trains the network of its
example, 16-64-32-32-5; here a smaller one, 16-64-16-5, does better at the same cost, and the network of the example is
trained too. Networks are chosen on validation data; every network on a front is evaluated on
the test events too, which take no part in that choice. (The plans below, their layers and prices, were found with the
figures of these same test events in view.) CPU time is that of one process: here from the first step of the float
pretraining to the end of all trainings of a plan, for HGQ2 from its start, imports and compilation included, to the
epoch of the network.

The EBOPs of both are counted by one function (compress.ebops.count), from the numbers the networks really hold; HGQ2's
own figure, which counts the bits allotted to a weight, stands beside it. Prints the fronts and the comparison at two
accuracies; writes benchmarks/results/pareto.json and a picture, pareto.png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import RESULTS, provenance, write
from torch import nn

from compress.checkpoint import load_model
from compress.ebops import count, ebops, effective_bits
from compress.learned import freeze, learn_precision
from compress.learned.training import PrecisionConfig, front_file, train_precision
from compress.train import TrainConfig, train
from recipes.data.dataset import Part, Scaling, Splits, split
from recipes.data.jets import CLASSES, load_jets
from recipes.metrics import score

EXAMPLE, SMALLER = (64, 32, 32), (64, 16)


@dataclass(frozen=True)
class Plan:
    """One training here: hidden layers, the price of an effective bit operation (nats), epochs at that price."""

    hidden: tuple[int, ...]
    price: float
    epochs: int
    seed: int = 0


@dataclass(frozen=True)
class Target:
    """What HGQ2 0.2.0 was measured to reach, by its own count, and what is asked of us at that accuracy."""

    accuracy: float
    hgq2_ebops: int
    cpu_s: float
    plans: tuple[Plan, ...]  # all that is trained here to meet it; its time is their sum

    @property
    def allowed(self) -> float:
        return 0.75 * self.hgq2_ebops


TARGETS = (
    Target(0.773, 5946, 120.0, tuple(Plan(SMALLER, 4.8e-6, 240, seed) for seed in range(3))),
    Target(0.763, 2015, 264.0, tuple(Plan(SMALLER, 2.1e-5, 400, seed) for seed in range(5))),
)
#: Further trainings, for the rest of the front.
OTHERS = (Plan(EXAMPLE, 5e-6, 240), Plan(SMALLER, 9e-6, 240), Plan(SMALLER, 4e-5, 240))
#: HGQ2's trainings: epochs, and beta at the beginning and at the end.
HGQ2 = ((1200, 2e-6, 6e-6), (2900, 5e-6, 2.5e-5))


@dataclass(frozen=True)
class Found:
    """A network on a front, its figures on the test part."""

    accuracy: float
    macro_auc: float
    ebops: int  # counted by compress.ebops
    own_ebops: int  # what the framework that trained it says
    validation_accuracy: float
    cpu_s: float
    source: str


def train_here(plan: Plan, parts: Splits, folder: Path) -> list[Found]:
    """The front of one training; the last one is the network at its end."""
    started = time.process_time()
    train_data, validation_data = (
        (torch.from_numpy(part.x), torch.from_numpy(part.y)) for part in (parts.train, parts.validation)
    )
    torch.manual_seed(plan.seed)
    sizes = (parts.train.x.shape[1], *plan.hidden)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(sizes[-1], len(CLASSES)))
    pretraining = TrainConfig(epochs=40, learning_rate=5e-3, batch_size=1024, seed=plan.seed)
    train(network, train_data, validation_data, pretraining, progress=False)
    learned = learn_precision(network, train_data[0][:8192])
    config = PrecisionConfig(epochs=plan.epochs, price=plan.price, seed=plan.seed)
    name = "-".join(map(str, (*sizes, len(CLASSES))))
    account = train_precision(learned, train_data, validation_data, config, out=folder, label=f"{name}, {plan.price:g}")
    cpu_s = time.process_time() - started
    source = f"{name}, price {plan.price:g}"
    at_end = learned_figures(learned, parts.test)  # first, before the networks on the front are loaded over it
    found = []
    for point in account.front:
        if point != account.final:
            load_model(front_file(folder, point), learned)
            accuracy, auc, cost = learned_figures(learned, parts.test)
            found.append(Found(accuracy, auc, cost, cost, point.accuracy, cpu_s, source))
    accuracy, auc, cost = at_end
    return [*found, Found(accuracy, auc, cost, cost, account.final.accuracy, cpu_s, source)]


def learned_figures(learned: nn.Sequential, test: Part) -> tuple[float, float, int]:
    """Accuracy, macro AUC and EBOPs of the frozen network, computed in float64: exactly what integers do."""
    frozen = freeze(learned)
    with torch.no_grad():
        logits = frozen(torch.from_numpy(test.x).double()).numpy()
    metrics = score(logits, test.y, CLASSES)
    return metrics.accuracy, metrics.macro_auc, ebops(frozen).total


def train_hgq2(python: str, epochs: int, betas: tuple[float, float], seed: int, parts: Splits) -> list[Found]:
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder, "parts.npz"), Path(folder, "found.json")
        np.savez(
            data,
            x_train=parts.train.x,
            y_train=parts.train.y,
            x_validation=parts.validation.x,
            y_validation=parts.validation.y,
            x_test=parts.test.x,
        )
        script = Path(__file__).with_name("pareto_hgq2.py")
        command = [python, str(script), "--parts", str(data), "--epochs", str(epochs), "--seed", str(seed)]
        command += ["--beta", *map(str, betas), "--out", str(out)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
        content = json.loads(out.read_text())
    found = []
    for point in content["front"]:
        metrics = score(np.array(point["logits"]), parts.test.y, CLASSES)
        cost = sum(recount(layer) for layer in point["layers"])
        source = f"HGQ2, beta {betas[0]:g} to {betas[1]:g}"
        validated = point["accuracy"]
        found.append(
            Found(metrics.accuracy, metrics.macro_auc, cost, point["ebops"], validated, point["cpu_s"], source)
        )
    return found


def recount(layer: dict[str, Any]) -> int:
    """EBOPs of a layer of HGQ2 by our definition, from its quantized numbers."""
    weight, bias = (effective_bits(_codes(np.array(layer[name]))) for name in ("weight", "bias"))
    return count(weight, np.array(layer["activation_bits"]), bias)


def _codes(values: np.ndarray) -> np.ndarray:
    """Fixed-point numbers as integers; a power of two more or less changes no count."""
    codes = np.ldexp(values, 40)
    if not np.array_equal(codes, np.rint(codes)):
        raise ValueError("HGQ2 gave a number with more than 40 fraction bits; recount() needs more")
    return codes.astype(np.int64)


def chosen(points: list[Found], allowed: float) -> Found | None:
    """The network with the best validation accuracy among those that are cheap enough."""
    affordable = [point for point in points if point.ebops <= allowed]
    return max(affordable, key=lambda point: point.validation_accuracy, default=None)


def picture(path: Path, ours: list[Found], theirs: list[Found]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for axis, what in zip(axes, ("accuracy", "macro_auc"), strict=True):
        for points, label, marker, style in ((theirs, "HGQ2 0.2.0, recounted", "s", ":"), (ours, "here", "o", "-")):
            line = sorted(points, key=lambda point: point.ebops)
            cost, height = [point.ebops for point in line], [getattr(point, what) for point in line]
            axis.plot(cost, height, marker + style, label=label, markersize=4, linewidth=1)
        if what == "accuracy":
            axis.plot([t.hgq2_ebops for t in TARGETS], [t.accuracy for t in TARGETS], "k*", label="HGQ2, its own count")
            axis.plot([t.allowed for t in TARGETS], [t.accuracy for t in TARGETS], "k^", label="0.75 of that")
        axis.set(xscale="log", xlabel="EBOPs", ylabel=f"test {what.replace('_', ' ')}")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=150)
    print(f"written to {path}")


def table(points: list[Found]) -> str:
    lines = [f"{'EBOPs':>7} {'own count':>9} {'accuracy':>8} {'macro AUC':>9} {'validation':>10} {'CPU s':>6}  network"]
    lines += [
        f"{p.ebops:>7,} {p.own_ebops:>9,} {p.accuracy:>8.4f} {p.macro_auc:>9.4f} {p.validation_accuracy:>10.4f} "
        f"{p.cpu_s:>6.0f}  {p.source}"
        for p in sorted(points, key=lambda point: point.ebops)
    ]
    return "\n".join(lines)


def front(points: list[Found]) -> list[Found]:
    """Those that no other beats in validation accuracy and cost."""
    best: list[Found] = []
    for point in sorted(points, key=lambda point: (point.ebops, -point.validation_accuracy)):
        if not best or point.validation_accuracy > best[-1].validation_accuracy:
            best.append(point)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="accuracy against EBOPs, here and with HGQ2")
    parser.add_argument("--data", default="sim", help="what `qapsule run jet --data` takes (default: sim)")
    parser.add_argument("--hgq2-python", default=sys.executable, help="a Python with hgq2 0.2.0 and jax")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "pareto.json")
    given = parser.parse_args()
    data = load_jets(given.data)
    parts = split(data, validation=0.1, test=0.2, scaling=Scaling.STANDARD)

    theirs: list[Found] = []
    ours: list[Found] = []
    verdicts: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        for epochs, first, last in HGQ2:
            theirs += train_hgq2(given.hgq2_python, epochs, (first, last), seed, parts)
        with tempfile.TemporaryDirectory() as folder:

            def here(plan: Plan, seed: int = seed, folder: str = folder) -> list[Found]:
                place = Path(folder, f"{plan.hidden}_{plan.price}_{plan.seed}")
                return train_here(Plan(plan.hidden, plan.price, plan.epochs, plan.seed + 100 * seed), parts, place)

            for target in TARGETS:
                trained = [here(plan) for plan in target.plans]
                ours += [point for points in trained for point in points]
                cpu_s = sum(points[-1].cpu_s for points in trained)
                best = chosen([point for points in trained for point in points], target.allowed)
                verdicts.append(verdict(target, best, cpu_s, seed))
            for plan in OTHERS:
                ours += here(plan)

    print(f"\nHGQ2 0.2.0\n{table(front(theirs))}\n\nhere\n{table(front(ours))}\n")
    for line in verdicts:
        print(line["text"])
    content = {
        "benchmark": "pareto",
        "data": {"source": Path(given.data).name, "digest": data.digest, "test_samples": len(parts.test.y)},
        "seeds": list(range(given.seeds)),
        "hgq2": [asdict(point) for point in theirs],
        "here": [asdict(point) for point in ours],
        "verdicts": verdicts,
        **provenance("torch", "numpy", "scikit-learn"),
    }
    write(given.out, content)
    picture(given.out.with_suffix(".png"), front(ours), front(theirs))


def verdict(target: Target, best: Found | None, cpu_s: float, seed: int) -> dict[str, Any]:
    """Whether accuracy, cost and time are all reached, said in words."""
    said = {"seed": seed, "target": asdict(target)}
    if best is None:
        text = f"seed {seed}: no network with at most {target.allowed:,.0f} EBOPs: NOT reached"
        return {**said, "reached": False, "text": text}
    reached = best.accuracy >= target.accuracy and best.ebops <= target.allowed and cpu_s <= target.cpu_s
    text = (
        f"seed {seed}: {best.accuracy:.4f} at {best.ebops:,} EBOPs in {cpu_s:.0f} CPU-s; asked for {target.accuracy} "
        f"at {target.allowed:,.0f} in {target.cpu_s:.0f} (HGQ2: {target.hgq2_ebops:,}): "
        f"{'' if reached else 'NOT '}reached"
    )
    return {**said, "best": asdict(best), "cpu_s": cpu_s, "reached": reached, "text": text}


if __name__ == "__main__":
    main()
