"""The smallest network for the accuracy: learned precision here against HGQ2 0.2.0, on the same splits of jets.

    python benchmarks/pareto.py --data jets_sim_100k.npz [--splits 4] [--hgq2-python PYTHON] [--runs runs/pareto]

Both learn the widths of a jet tagger with weights and activations under a price for effective bit operations. HGQ2 (in
a process of its own: benchmarks/pareto_hgq2.py, with the Python that has it, extra ``bench``) trains the network of its
example, 16-64-32-32-5; here a smaller one, 16-64-16-5, does better at the same cost, and the network of the example is
trained too. Networks are chosen on validation data, and all on a front evaluated on the test events of the split, which
take no part in that choice. (The layers and prices of the plans below were found with figures of the test events of
split 0 in view; the other splits have other ones.) The test events of one split are easier than those of another by up
to a point, so accuracies are stated beside that of a converged float net on the same split.

CPU time is that of one process: here from the first step of the float pretraining to the end of all trainings of a
target, for HGQ2 from its start, imports and compilation included, to the epoch of the network. The EBOPs of both are
counted by one function (compress.ebops.count), from the numbers the networks really hold; HGQ2's own figure, which
counts the bits allotted to a weight, stands beside it.

Prints the comparison with HGQ2 at two costs: its best network on validation data within the cost by its own count, and
ours within three quarters of the bits recounted of that network. Writes benchmarks/results/pareto.json and pareto.png.
What is trained is kept in ``--runs``, and not trained again.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import RESULTS, provenance, write
from torch import nn
from tqdm import tqdm

from compress.checkpoint import load_model, write_bytes
from compress.ebops import count, ebops, effective_bits
from compress.learned import freeze, learn_precision
from compress.learned.training import PrecisionConfig, front_file, train_precision
from compress.train import TrainConfig, train
from recipes.data.dataset import Part, Scaling, Splits, split
from recipes.data.jets import CLASSES, load_jets
from recipes.metrics import evaluate, score
from recipes.network import float_network
from recipes.pipeline import tensors
from recipes.recipe import Network

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
    """A cost that HGQ2 is held to, by its own count, and all that is trained here to do as well for less."""

    hgq2_ebops: int
    plans: tuple[Plan, ...]


#: What our network may cost, in parts of what HGQ2's does.
SHARE = 0.75
TARGETS = (
    Target(5946, (Plan(SMALLER, 5.4e-6, 240), Plan(SMALLER, 6.2e-6, 240), Plan(SMALLER, 8e-6, 240))),
    Target(2015, tuple(Plan(SMALLER, 2.6e-5, 400, seed) for seed in range(4))),
)
#: Further trainings, for the rest of the front.
OTHERS = (Plan(EXAMPLE, 5e-6, 240), Plan(SMALLER, 5e-6, 240), Plan(SMALLER, 1.3e-5, 240))
#: HGQ2's trainings: epochs, and beta at the beginning and at the end.
HGQ2 = ((1200, 2e-6, 6e-6), (2900, 5e-6, 2.5e-5))
#: The float net: epochs of Adam with a cosine from 3e-3, by which it has converged (benchmarks/fig5.py).
FLOAT_EPOCHS = 120


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


def float_net(parts: Splits) -> dict[str, float]:
    """The network of the example in floats: what there is to lose on this split."""
    network = float_network(Network(hidden=EXAMPLE, batch_norm=True), parts.train.x.shape[1], len(CLASSES), seed=0)
    config = TrainConfig(epochs=FLOAT_EPOCHS, learning_rate=3e-3)
    train(network, tensors(parts.train), tensors(parts.validation), config, progress=False)
    metrics = evaluate(network, parts.test, CLASSES)
    return {"accuracy": metrics.accuracy, "macro_auc": metrics.macro_auc}


def train_here(plan: Plan, parts: Splits, folder: Path) -> list[Found]:
    """The front of one training; the last one is the network at its end."""
    started = time.process_time()
    train_data, validation_data = tensors(parts.train), tensors(parts.validation)
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
    account = train_precision(learned, train_data, validation_data, config, out=folder, progress=False)
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


def chosen(points: list[Found], allowed: float, by_own_count: bool = False) -> Found | None:
    """The network with the best validation accuracy among those that are cheap enough."""
    affordable = [point for point in points if (point.own_ebops if by_own_count else point.ebops) <= allowed]
    return max(affordable, key=lambda point: point.validation_accuracy, default=None)


def front(points: list[Found]) -> list[Found]:
    """Those that no other beats in validation accuracy and cost."""
    best: list[Found] = []
    for point in sorted(points, key=lambda point: (point.ebops, -point.validation_accuracy)):
        if not best or point.validation_accuracy > best[-1].validation_accuracy:
            best.append(point)
    return best


@dataclass(frozen=True)
class Job:
    """One training on one split: the float net, one of HGQ2's, or one of ours."""

    split: int
    what: Plan | tuple[int, float, float] | None

    @property
    def name(self) -> str:
        match self.what:
            case None:
                return f"split_{self.split}/float"
            case Plan(hidden, price, epochs, seed):
                return f"split_{self.split}/{'-'.join(map(str, hidden))}_{price:g}_{epochs}_{seed}"
            case epochs, first, last:
                return f"split_{self.split}/hgq2_{first:g}_{last:g}_{epochs}"

    def perform(self, source: str, python: str, runs: Path) -> Any:
        """What the training gave, in plain values; from its file where it was done before."""
        file = runs / f"{self.name}.json"
        if file.exists():
            return json.loads(file.read_text())
        torch.set_num_threads(1)
        parts = split(load_jets(source), validation=0.1, test=0.2, scaling=Scaling.STANDARD, seed=self.split)
        match self.what:
            case None:
                given: Any = float_net(parts)
            case Plan() as plan:
                with tempfile.TemporaryDirectory() as folder:
                    other = replace(plan, seed=plan.seed + 100 * self.split)
                    given = [asdict(point) for point in train_here(other, parts, Path(folder))]
            case epochs, first, last:
                given = [asdict(point) for point in train_hgq2(python, epochs, (first, last), self.split, parts)]
        write_bytes(file, json.dumps(given).encode())
        return given


def main() -> None:
    parser = argparse.ArgumentParser(description="accuracy against EBOPs, here and with HGQ2")
    parser.add_argument("--data", default="sim", help="what `qapsule run jet --data` takes (default: sim)")
    parser.add_argument("--hgq2-python", default=sys.executable, help="a Python with hgq2 0.2.0 and jax")
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at a time, one core each")
    parser.add_argument("--runs", type=Path, default=Path("runs/pareto"), help="where trainings are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "pareto.json")
    given = parser.parse_args()

    plans = [*(plan for target in TARGETS for plan in target.plans), *OTHERS]
    jobs = [Job(split, what) for split in range(given.splits) for what in (*HGQ2, *plans, None)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.workers, mp_context=context) as pool:
        futures = {pool.submit(job.perform, given.data, given.hgq2_python, given.runs): job for job in jobs}
        done = {futures[future]: future.result() for future in tqdm(as_completed(futures), total=len(jobs))}

    splits = []
    for number in range(given.splits):
        of = {job.what: found for job, found in done.items() if job.split == number}
        networks = {what: [Found(**point) for point in found] for what, found in of.items() if what is not None}
        splits.append(
            {
                "float": of[None],
                "hgq2": [point for what in HGQ2 for point in networks[what]],
                "here": [point for plan in plans for point in networks[plan]],
                "plans": networks,
            }
        )
    verdicts = [verdict(target, splits) for target in TARGETS]
    for line in verdicts:
        print(line["text"])
    data = load_jets(given.data)
    content = {
        "benchmark": "pareto",
        "data": {"source": Path(given.data).name, "digest": data.digest},
        "share": SHARE,
        "splits": [
            {
                "split_seed": number,
                "float": part["float"],
                **{side: [asdict(point) for point in front(part[side])] for side in ("hgq2", "here")},
            }
            for number, part in enumerate(splits)
        ],
        "verdicts": verdicts,
        **provenance("torch", "numpy", "scikit-learn"),
    }
    write(given.out, content)
    picture(given.out.with_suffix(".png"), splits)


def verdict(target: Target, splits: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy, cost and time of both, split by split, and whether ours is as good on average."""
    rows = []
    for part in splits:
        theirs = chosen(part["hgq2"], target.hgq2_ebops, by_own_count=True)
        trained = [part["plans"][plan] for plan in target.plans]
        ours = theirs and chosen([point for points in trained for point in points], SHARE * theirs.ebops)
        if theirs is None or ours is None:
            text = f"HGQ2 at {target.hgq2_ebops:,}: a side has no network that is cheap enough"
            return {"hgq2_ebops": target.hgq2_ebops, "reached": False, "text": text}
        cpu_s = sum(points[-1].cpu_s for points in trained)
        rows.append({"float": part["float"], "hgq2": asdict(theirs), "here": asdict(ours), "cpu_s": cpu_s})

    def mean(side: str, what: str) -> float:
        return statistics.mean(row[side][what] for row in rows)

    gains = [row["here"]["accuracy"] - row["hgq2"]["accuracy"] for row in rows]
    gain = statistics.mean(gains)
    error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
    cpu_s = statistics.mean(row["cpu_s"] for row in rows)
    reached = gain >= 0 and cpu_s <= mean("hgq2", "cpu_s")
    text = (
        f"float {mean('float', 'accuracy'):.4f}; HGQ2 {mean('hgq2', 'accuracy'):.4f} at "
        f"{mean('hgq2', 'ebops'):,.0f} EBOPs (its own count {mean('hgq2', 'own_ebops'):,.0f}), "
        f"{mean('hgq2', 'cpu_s'):.0f} CPU-s; here {mean('here', 'accuracy'):.4f} at {mean('here', 'ebops'):,.0f}, "
        f"{cpu_s:.0f} CPU-s: better by {gain:.4f} +- {error:.4f}; "
        f"{'' if reached else 'NOT '}as good for {SHARE} of the cost and no more time"
    )
    return {
        "hgq2_ebops": target.hgq2_ebops,
        "rows": rows,
        "gain": gain,
        "error": error,
        "reached": reached,
        "text": text,
    }


def picture(path: Path, splits: list[dict[str, Any]]) -> None:
    """Both fronts of every split, against the float net of the same split."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for axis, what in zip(axes, ("accuracy", "macro_auc"), strict=True):
        for side, label, look in (("hgq2", "HGQ2 0.2.0, recounted", "C0s:"), ("here", "here", "C1o-")):
            for number, part in enumerate(splits):
                line = front(part[side])
                lost = [getattr(point, what) - part["float"][what] for point in line]
                once = label if number == 0 else None
                axis.plot([point.ebops for point in line], lost, look, label=once, markersize=3, linewidth=0.8)
        axis.axhline(0.0, color="black", linewidth=0.8)
        axis.set(xscale="log", xlabel="EBOPs", ylabel=f"test {what.replace('_', ' ')} against the float net")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=150)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
