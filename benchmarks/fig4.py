"""Relative accuracy against bit width: quantized after training, while training, and the C++ of the latter.

    python benchmarks/fig4.py [--net jet] [--data jets_sim_100k.npz] [--seeds 3] [--widths 2 3 4 ...] [--epochs 60]

What Fig. 4 of the hls4ml paper (Fahim et al., arXiv:2103.05579) shows. At every width W the network stores nothing in
more than W bits: inputs, weights, biases, activations and logits alike; only the sums inside a layer are exact. As in
the paper there is no batch norm. A float network is trained, and then trained again, once for every width and once as
floats, so that all have seen the data equally often; accuracies, of test samples that no training saw, are divided by
that of the float network of the same seed.

- PTQ, ap_fixed<W,6>: the float network, every number in the same format, truncated and wrapped.
- PTQ, profiled: the same network with a format per tensor from ``compress.profile``, rounded and saturated.
- QAT: quantized before it is trained again.
- QAT, C++: that network's exported C++, emulated; every output is compared with the trained network in float64.

Writes benchmarks/results/fig4.json and fig4.png (fig4_NET for other nets than jet). Trainings are kept in ``--runs``
and resumed from there.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot
from provenance import RESULTS, provenance, write
from torch import nn
from tqdm import tqdm

from compress.ensemble import train_ensemble
from compress.fixed import FixedPoint, Overflow, Rounding
from compress.layers import QuantIdentity, QuantSpec
from compress.profile import LayerFormats, Profile, Suggestion, profile
from compress.quantize import quantize
from compress.train import threads, train
from export import emulate
from export.frontends.precision import Precision
from export.ops import Modes
from recipes.data.dataset import Dataset, Splits
from recipes.metrics import logits_of, score
from recipes.network import float_network
from recipes.pipeline import load_splits, tensors
from recipes.recipe import Recipe
from recipes.run import recipes

WIDTHS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16)
CLASSIC_INTEGER_BITS = 6  # hls4ml's default is ap_fixed<16,6>
CALIBRATION_SAMPLES = 4_000  # of the training part

#: Signed numbers of fewer bits are binary or ternary, which an ensemble does not hold.
_ENSEMBLE_WIDTH = 3

CURVES = {
    "ptq_classic": "PTQ, ap_fixed<W,6> everywhere",
    "ptq": "PTQ, formats by profiling",
    "qat": "QAT",
    "cpp": "QAT, emulated C++",
}
_STYLES: dict[str, dict[str, Any]] = {
    "ptq_classic": {"color": "tab:gray", "marker": "v", "linestyle": ":"},
    "ptq": {"color": "tab:orange", "marker": "s", "linestyle": "--"},
    "qat": {"color": "tab:blue", "marker": "o", "linestyle": "-"},
    "cpp": {"color": "black", "marker": "x", "linestyle": "none", "zorder": 3},
}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one network on the test part."""

    accuracy: float
    macro_auc: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One seed at one width. ``mismatches`` counts outputs in which the C++ is not the trained network."""

    seed: int
    width: int
    networks: Mapping[str, Figures]  # by curve
    outputs: int
    mismatches: int


class Study:
    """One recipe's data and trainings."""

    def __init__(self, recipe: Recipe, runs: Path) -> None:
        self.recipe, self.runs = recipe, runs
        self.data, self.splits = load_splits(recipe)
        self._trained = tensors(self.splits.train), tensors(self.splits.validation)
        self._shape = self.splits.test.x.shape[1:]

    def initial(self, seed: int) -> nn.Sequential:
        return float_network(self.recipe.network, self._shape[0], len(self.data.classes), seed)

    def quantized(self, once: nn.Sequential, width: int) -> nn.Module:
        """The network with every number in ``width`` bits, before its second training."""
        spec = spec_of(self.recipe, width)
        logits = QuantIdentity(spec=replace(spec, input_signed=True, input_frac=None))
        return nn.Sequential(OrderedDict([*quantize(once, spec).named_children(), ("logits", logits)]))

    def train(self, name: str, networks: Sequence[nn.Module], seeds: Sequence[int]) -> None:
        """Train ``networks`` in place as one computation, each as if it were alone."""
        if networks:
            configs = [replace(self.recipe.baseline, seed=seed) for seed in seeds]
            train_ensemble(networks, *self._trained, configs, out=self.runs / name, resume=True, label=name)

    def train_quantized(self, points: Sequence[tuple[int, int]], networks: Sequence[nn.Module]) -> None:
        """Train the networks of ``points`` (seed, width) in place."""
        many = [
            (network, seed) for (seed, width), network in zip(points, networks, strict=True) if width >= _ENSEMBLE_WIDTH
        ]
        self.train("qat", [network for network, _ in many], [seed for _, seed in many])
        for (seed, width), network in zip(points, networks, strict=True):
            if width < _ENSEMBLE_WIDTH:
                name = f"qat_{width}_seed_{seed}"
                config = replace(self.recipe.baseline, seed=seed)
                train(network, *self._trained, config, out=self.runs / name, resume=True, label=name)

    def row(self, seed: int, width: int, quantized: nn.Module, twice: nn.Module, found: Profile) -> Row:
        suggestion = found.suggest(width)
        network = copy.deepcopy(quantized).double().eval()
        with torch.no_grad():
            expected = network(torch.from_numpy(self.splits.test.x).double()).numpy()
        computed = emulate(network, self._shape, threads=1).predict(self.splits.test.x)
        networks = {
            "ptq_classic": self._emulated(twice, classic(suggestion, width)),
            "ptq": self._emulated(twice, suggestion),
            "qat": self.figures(expected),
            "cpp": self.figures(computed),
        }
        mismatches = int(np.count_nonzero(computed != expected))
        return Row(seed=seed, width=width, networks=networks, outputs=expected.size, mismatches=mismatches)

    def figures(self, logits: np.ndarray) -> Figures:
        metrics = score(logits, self.splits.test.y, self.data.classes)
        return Figures(accuracy=metrics.accuracy, macro_auc=metrics.macro_auc)

    def _emulated(self, network: nn.Module, formats: Suggestion) -> Figures:
        emulator = emulate(network, self._shape, input_format=formats.input, precision=precisions(formats), threads=1)
        return self.figures(emulator.predict(self.splits.test.x))


def spec_of(recipe: Recipe, width: int) -> QuantSpec:
    """The recipe's spec at one width for all; inputs of a known range keep it."""
    spec = recipe.spec
    frac = None if spec.input_frac is None else width - (spec.input_width - spec.input_frac)
    return replace(
        spec, weight_width=width, bias_width=width, activation_width=width, input_width=width, input_frac=frac
    )


def classic(suggestion: Suggestion, width: int) -> Suggestion:
    """One format for everything."""
    same = FixedPoint.of(width, CLASSIC_INTEGER_BITS)
    layers = {name: LayerFormats(weight=same, bias=same, result=same) for name in suggestion.layers}
    return replace(suggestion, input=same, layers=layers, rounding=Rounding.TRN, overflow=Overflow.WRAP)


def precisions(suggestion: Suggestion) -> dict[str, Precision]:
    modes = Modes(suggestion.rounding, suggestion.overflow)
    return {
        name: Precision(modes=modes, **{part: format for part, format in vars(layer).items() if format is not None})
        for name, layer in suggestion.layers.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="relative accuracy against bit width: PTQ, QAT and its C++")
    parser.add_argument("--net", choices=list(recipes()), default="jet")
    parser.add_argument("--data", help="what `qapsule run NET --data` takes (default: the recipe's)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS), help="in bits")
    parser.add_argument("--epochs", type=int, help="each time (default: those of the recipe's baseline)")
    parser.add_argument("--runs", type=Path, default=Path("runs/fig4"), help="where the trainings are kept")
    parser.add_argument("--out", type=Path, help="the JSON file; the PNG goes beside it")
    given = parser.parse_args(arguments)

    recipe = recipes()[given.net]()
    recipe = replace(recipe, network=replace(recipe.network, batch_norm=False))
    if given.data is not None:
        source = str(Path(given.data).resolve()) if Path(given.data).exists() else given.data
        recipe = replace(recipe, data=replace(recipe.data, source=source))
    if given.epochs is not None:
        recipe = replace(recipe, baseline=replace(recipe.baseline, epochs=given.epochs))
    out = given.out or RESULTS / ("fig4.json" if given.net == "jet" else f"fig4_{given.net}.json")

    study = Study(recipe, given.runs / given.net)
    seeds = range(given.seeds)
    once = [study.initial(seed) for seed in seeds]
    study.train("float_once", once, seeds)
    twice = copy.deepcopy(once)
    study.train("float_twice", twice, seeds)
    floats = [study.figures(logits_of(network, study.splits.test.x)) for network in twice]
    points = [(seed, width) for seed in seeds for width in given.widths]
    quantized = [study.quantized(once[seed], width) for seed, width in points]
    study.train_quantized(points, quantized)
    with threads(1):
        found = [profile(network, study.splits.train.x[:CALIBRATION_SAMPLES]) for network in twice]
        rows = [
            study.row(seed, width, network, twice[seed], found[seed])
            for (seed, width), network in tqdm(
                zip(points, quantized, strict=True), total=len(points), desc="emulate", unit="network", disable=None
            )
        ]
    relative = relative_accuracies(rows, floats)
    mismatches, outputs = sum(row.mismatches for row in rows), sum(row.outputs for row in rows)
    print(table(relative))
    print(f"C++ = trained network in float64: {mismatches:,} mismatches in {outputs:,} outputs")
    draw(out.with_suffix(".png"), relative, title(recipe, study.data, study.splits, given.seeds))
    write(
        out,
        {
            "benchmark": "fig4",
            "net": given.net,
            "network": "-".join(map(str, (len(study.data.features), *recipe.network.hidden, len(study.data.classes)))),
            "data": {
                "source": Path(study.data.source).name,
                "digest": study.data.digest,
                "test_samples": len(study.splits.test.y),
            },
            "epochs_each_time": recipe.baseline.epochs,
            "batch_size": recipe.baseline.batch_size,
            "calibration_samples": min(CALIBRATION_SAMPLES, len(study.splits.train.y)),
            "curves": CURVES,
            "float": [asdict(figures) for figures in floats],
            "relative_accuracy": relative,
            "rows": [asdict(row) for row in rows],
            "mismatches": mismatches,
            "outputs_compared": outputs,
            **provenance("torch", "brevitas", "numpy", "scikit-learn", "matplotlib"),
        },
    )


def relative_accuracies(rows: Sequence[Row], floats: Sequence[Figures]) -> dict[str, dict[int, list[float]]]:
    """Accuracy over the float network's, by curve and width, one for each seed."""
    relative: dict[str, dict[int, list[float]]] = {curve: {} for curve in CURVES}
    for row in rows:
        for curve, figures in row.networks.items():
            ratio = figures.accuracy / floats[row.seed].accuracy
            relative[curve].setdefault(row.width, []).append(ratio)
    return relative


def table(relative: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    lines = ["bits" + "".join(f"{label:>32}" for label in CURVES.values())]
    for width in next(iter(relative.values())):
        by_seed = [relative[curve][width] for curve in CURVES]
        cells = [f"{statistics.mean(values):.4f} +- {statistics.pstdev(values):.4f}" for values in by_seed]
        lines.append(f"{width:4}" + "".join(f"{cell:>32}" for cell in cells))
    return "\n".join(lines)


def title(recipe: Recipe, data: Dataset, splits: Splits, seeds: int) -> str:
    sizes = "-".join(map(str, (len(data.features), *recipe.network.hidden, len(data.classes))))
    return f"{recipe.name}, {sizes}: {len(splits.test.y):,} test samples, mean and spread of {seeds} seeds"


def draw(path: Path, relative: Mapping[str, Mapping[int, Sequence[float]]], title: str) -> None:
    """The curves with error bars (standard deviation over the seeds) as a PNG."""
    figure, axes = pyplot.subplots(figsize=(7.5, 4.8), dpi=150)
    for curve, label in CURVES.items():
        widths = sorted(relative[curve])
        means = [statistics.mean(relative[curve][width]) for width in widths]
        spreads = [statistics.pstdev(relative[curve][width]) for width in widths]
        axes.errorbar(widths, means, yerr=spreads, label=label, capsize=3, markersize=5, **_STYLES[curve])
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(widths)
    axes.set_xlabel("bits of every weight, bias, input, activation and logit")
    axes.set_ylabel("accuracy / accuracy of the float network")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
    print(f"drawn in {path}")


if __name__ == "__main__":
    main()
