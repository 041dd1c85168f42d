"""CPU time of one training step of the jet MLP: float, with the layers of ``compress``, and with plain Brevitas.

The network of the QAP paper, 16-64-32-32-5 with batch norm after every hidden layer; cross entropy; Adam. Quantized:
6-bit weights and activations, 16-bit biases and inputs, the ranges of inputs and activations learned.

    python benchmarks/training.py [--rounds 15] [--out benchmarks/results/training.json]

The contestants take turns within every round, in one thread of one process, so that whatever else the machine does
meets them all; the figure is the median over the rounds of the CPU time (``time.process_time``) per step, and of its
ratio to the float step of the same round. Plain Brevitas is used as it comes: its default quantizers, at 6 bits with
an 8-bit input and float biases. The last entry is the layers of ``compress`` on Brevitas's own way to the same numbers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import brevitas.nn as bnn
import torch
from provenance import RESULTS, provenance, write
from torch import nn

from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec

SIZES = (16, 64, 32, 32, 5)
SEED = 0
SPEC = QuantSpec(weight_width=6, bias_width=16, activation_width=6, input_width=16)
WARM_UP_STEPS = 20


def mlp(
    entry: list[nn.Module], linear: Callable[[int, int], nn.Module], relu: Callable[[], nn.Module]
) -> nn.Sequential:
    """The jet MLP from its parts."""
    layers = list(entry)
    for inputs, outputs in pairwise(SIZES[:-1]):
        layers += [linear(inputs, outputs), nn.BatchNorm1d(outputs), relu()]
    return nn.Sequential(*layers, linear(*SIZES[-2:]))


def contestants() -> dict[str, nn.Sequential]:
    def ours(lean: bool) -> nn.Sequential:
        return mlp(
            [QuantIdentity(spec=SPEC, lean=lean)],
            lambda inputs, outputs: QuantLinear(inputs, outputs, spec=SPEC, lean=lean),
            lambda: QuantReLU(spec=SPEC, lean=lean),
        )

    return {
        "float": mlp([], nn.Linear, nn.ReLU),
        "compress": ours(lean=True),
        "brevitas": mlp(
            [bnn.QuantIdentity()],
            lambda inputs, outputs: bnn.QuantLinear(inputs, outputs, bias=True, weight_bit_width=6),
            lambda: bnn.QuantReLU(bit_width=6),
        ),
        "compress, lean=False": ours(lean=False),
    }


def stepper(model: nn.Module, batch: int, fused: bool) -> Callable[[], None]:
    """One training step on a fixed random batch."""
    rng = torch.Generator().manual_seed(SEED)
    x = torch.randn(batch, SIZES[0], generator=rng)
    labels = torch.randint(0, SIZES[-1], (batch,), generator=rng)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=fused)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


def measure(batch: int, fused: bool, rounds: int, steps: int) -> dict[str, Any]:
    """Microseconds of CPU time per step of each contestant, and the ratio to the float step of the same round."""
    torch.manual_seed(SEED)
    steppers = {name: stepper(model, batch, fused) for name, model in contestants().items()}
    for step in steppers.values():
        for _ in range(WARM_UP_STEPS):
            step()
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(rounds):
        for name, step in steppers.items():
            start = time.process_time()
            for _ in range(steps):
                step()
            times[name].append((time.process_time() - start) / steps * 1e6)
    return {
        "batch": batch,
        "optimizer": "Adam, fused" if fused else "Adam, default",
        "step_us": {name: round(statistics.median(values), 1) for name, values in times.items()},
        "ratio_to_float": {
            name: round(statistics.median(t / f for t, f in zip(values, times["float"], strict=True)), 3)
            for name, values in times.items()
        },
    }


def table(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0]["step_us"])
    lines = [f"{'batch':>5}  {'optimizer':<14}" + "".join(f"{name:>26}" for name in names)]
    for row in rows:
        cells = [f"{row['step_us'][name]:,.0f} us ({row['ratio_to_float'][name]:.2f}x)" for name in names]
        lines.append(f"{row['batch']:>5}  {row['optimizer']:<14}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of one training step of the jet MLP")
    parser.add_argument("--rounds", type=int, default=15, help="rounds in which the contestants take turns")
    parser.add_argument("--steps", type=int, default=20, help="steps per contestant and round")
    parser.add_argument("--out", type=Path, default=RESULTS / "training.json", help="where the figures go")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure(batch, fused, arguments.rounds, arguments.steps) for batch in (1024, 128) for fused in (False, True)
    ]
    print(table(rows))
    about = {
        "seed": SEED,
        "rounds": arguments.rounds,
        "steps_per_round": arguments.steps,
        "threads": torch.get_num_threads(),
        "network": "-".join(map(str, SIZES)) + ", batch norm",
        "widths": {"weights": 6, "biases": 16, "activations": 6, "inputs": 16},
    }
    write(arguments.out, {"benchmark": "training", **about, **provenance("torch", "brevitas"), "rows": rows})


if __name__ == "__main__":
    main()
