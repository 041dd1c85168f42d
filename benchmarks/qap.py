"""What compression costs: the jet net at 6 bits through all pruning levels, against a float baseline at convergence.

    python benchmarks/qap.py --data jets_sim_100k.npz [--seeds 3] [--runs runs/qap]

Every seed trains the float net for 200 epochs, then prunes the quantized one in steps of 10 % of its original weights,
60 epochs a level, once fine-tuning and once as a lottery ticket rewound to initialisation. The figures are of test
events that no training saw. Prints a table of macro AUC, mean and spread over the seeds, and writes
benchmarks/results/qap.json. Runs are kept in ``--runs`` and resumed from there.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from provenance import RESULTS, provenance, write

from compress.lottery import Rewind
from recipes.jet import jet
from recipes.pipeline import run
from recipes.recipe import Recipe

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CLAIM = 0.005  # the 80 % pruned net may lose this much macro AUC against the converged float net


def recipe(data: str, seed: int, rewind: Rewind, epochs: int, baseline_epochs: int) -> Recipe:
    base = jet()
    training = replace(base.pruning.training, epochs=epochs, batch_size=1024)
    return replace(
        base,
        data=replace(base.data, source=data),
        baseline=replace(base.baseline, epochs=baseline_epochs, batch_size=1024),
        pruning=replace(base.pruning, training=training, fractions=FRACTIONS, rewind=rewind),
    ).with_seed(seed)


def main() -> None:
    parser = argparse.ArgumentParser(description="macro AUC of the jet net at 6 bits through all pruning levels")
    parser.add_argument("--data", default="sim", help="what `qapsule run jet --data` takes (default: sim)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60, help="per level")
    parser.add_argument("--baseline-epochs", type=int, default=200)
    parser.add_argument("--runs", type=Path, default=Path("runs/qap"), help="where the runs are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "qap.json")
    given = parser.parse_args()
    source = str(Path(given.data).resolve()) if Path(given.data).exists() else given.data

    rows: dict[str, dict[str, list[float]]] = {}
    reductions: dict[str, float] = {}
    mismatches = 0
    for rewind in (Rewind.FINE_TUNE, Rewind.TO_INITIALISATION):
        for seed in range(given.seeds):
            chosen = recipe(source, seed, rewind, given.epochs, given.baseline_epochs)
            result = run(chosen, given.runs / f"{rewind.value}_{seed}", resume=True)
            mismatches += sum(pair.mismatches for pair in result.hardware.proof.agreements)
            for network in result.networks:
                rows.setdefault(network.name, {}).setdefault(rewind.value, []).append(network.metrics.macro_auc)
                reductions[network.name] = network.bops_reduction

    content: dict[str, Any] = {
        "benchmark": "qap",
        "data": {"source": Path(source).name, "digest": result.data.digest, "test_samples": result.data.test},
        "seeds": list(range(given.seeds)),
        "epochs": {"float": given.baseline_epochs, "per level": given.epochs},
        "hardware_mismatches": mismatches,
        "macro_auc": rows,
        "bops_reduction": reductions,
        "loss_at_80_percent": {
            scheme: statistics.mean(f - q for f, q in zip(rows["float"][scheme], rows["qap 0.8"][scheme], strict=True))
            for scheme in rows["float"]
        },
        "allowed_loss": CLAIM,
        **provenance("torch", "brevitas", "numpy", "scikit-learn"),
    }
    print(table(rows, reductions))
    for scheme, loss in content["loss_at_80_percent"].items():
        verdict = "within" if loss <= CLAIM else "NOT within"
        print(f"{scheme}: macro AUC {loss:.4f} below float at 80 % pruned, {verdict} {CLAIM}")
    write(given.out, content)


def table(rows: dict[str, dict[str, list[float]]], reductions: dict[str, float]) -> str:
    schemes = list(next(iter(rows.values())))
    lines = [f"{'network':10}" + "".join(f"{scheme:>26}" for scheme in schemes) + f"{'BOPs less':>12}"]
    for name, by_scheme in rows.items():
        cells = (f"{statistics.mean(v):.4f} +- {statistics.pstdev(v):.4f}" for v in by_scheme.values())
        lines.append(f"{name:10}" + "".join(f"{cell:>26}" for cell in cells) + f"{reductions[name]:>11.1f}x")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
