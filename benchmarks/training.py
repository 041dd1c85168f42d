"""CPU time of one training step of the jet MLP: float, with our layers, with plain Brevitas; alone and in an ensemble.

The network of the QAP paper, 16-64-32-32-5 with batch norm after every hidden layer; cross entropy; Adam. Quantized:
6-bit weights and activations, 16-bit biases and inputs, the ranges of inputs and activations learned, 80 % of the
weights pruned by masks.

    python benchmarks/training.py [--rounds 15] [--out benchmarks/results/training.json]

The contestants take turns within every round, in one thread of one process, so that whatever else the machine does
meets them all; the figure is the median over the rounds of the CPU time (``time.process_time``) per step, and of its
ratio to the float step of the same round. Plain Brevitas is used as it comes: its default quantizers, at 6 bits with
an 8-bit input and float biases. The last entry is the layers of ``compress`` on Brevitas's own way to the same numbers.

The ensemble is 16 replicas with masks and orders of the data of their own and an L1 term, trained at once; beside it
what the same 16 steps take one after the other, with plain Brevitas and with the layers of ``compress``. With a
graphics card the steps are timed there too, by the wall clock, between two synchronisations.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import brevitas.nn as bnn
import torch
from provenance import RESULTS, provenance, write
from torch import nn

from compress.borrowed import own_generators
from compress.ensemble.network import Network
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec
from compress.mask import apply_masks, plain_parameters, prunable
from compress.train import Data, Loop, TrainConfig

SIZES = (16, 64, 32, 32, 5)
SEED = 0
SPEC = QuantSpec(weight_width=6, bias_width=16, activation_width=6, input_width=16)
WARM_UP_STEPS = 20
BATCHES = (1024, 128)
PRUNED = 0.8
REPLICAS = 16
L1 = 1e-4


def mlp(
    entry: list[nn.Module], linear: Callable[[int, int], nn.Module], relu: Callable[[], nn.Module]
) -> nn.Sequential:
    """The jet MLP from its parts."""
    layers = list(entry)
    for inputs, outputs in pairwise(SIZES[:-1]):
        layers += [linear(inputs, outputs), nn.BatchNorm1d(outputs), relu()]
    return nn.Sequential(*layers, linear(*SIZES[-2:]))


def ours(lean: bool) -> nn.Sequential:
    return mlp(
        [QuantIdentity(spec=SPEC, lean=lean)],
        lambda inputs, outputs: QuantLinear(inputs, outputs, spec=SPEC, lean=lean),
        lambda: QuantReLU(spec=SPEC, lean=lean),
    )


def brevitas() -> nn.Sequential:
    return mlp(
        [bnn.QuantIdentity()],
        lambda inputs, outputs: bnn.QuantLinear(inputs, outputs, bias=True, weight_bit_width=6),
        lambda: bnn.QuantReLU(bit_width=6),
    )


def contestants() -> dict[str, nn.Sequential]:
    return {
        "float": mlp([], nn.Linear, nn.ReLU),
        "compress": pruned(ours(lean=True)),
        "brevitas": pruned(brevitas()),
        "compress, lean=False": pruned(ours(lean=False)),
    }


def pruned(model: nn.Sequential, seed: int = SEED) -> nn.Sequential:
    """``model`` under random masks that prune the share ``PRUNED`` of its weights."""
    rng = torch.Generator().manual_seed(seed)
    apply_masks(model, {n: torch.rand(w.shape, generator=rng) >= PRUNED for n, w in prunable(model).items()})
    return model


def data(rows: int, device: torch.device) -> Data:
    rng = torch.Generator().manual_seed(SEED)
    x = torch.randn(rows, SIZES[0], generator=rng)
    return x.to(device), torch.randint(0, SIZES[-1], (rows,), generator=rng).to(device)


def stepper(model: nn.Module, batch: int, fused: bool, device: torch.device, l1: float = 0.0) -> Callable[[], None]:
    """One training step on a fixed random batch."""
    model.to(device)
    x, labels = data(batch, device)
    parameters = plain_parameters(model)
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-4, fused=fused)
    weights = [parameters[name] for name in prunable(model)]

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        if l1:
            for weight in weights:
                weight.grad.add_(weight.detach().sign(), alpha=l1)
        optimizer.step()

    return step


def ensemble_stepper(batch: int, device: torch.device) -> Callable[[], None]:
    """One step of ``REPLICAS`` replicas, each on rows of its own."""
    rows = data(8 * batch, device)
    loops = []
    for seed in range(REPLICAS):
        torch.manual_seed(seed)
        model = pruned(ours(lean=True), seed).to(device).train()
        config = TrainConfig(epochs=1, batch_size=batch, learning_rate=1e-4, l1=L1, seed=seed)
        loops.append(Loop(model, rows, rows, config, own_generators(device), None, f"replica {seed}"))
    network = Network(loops, batch)
    losses = torch.empty(REPLICAS, device=device)
    rates = [1e-4] * REPLICAS
    orders = torch.stack([loop.shuffled()[0] for loop in loops]).to(device).split(batch, dim=1)
    turn = cycle(orders)
    return lambda: network.step(next(turn), losses, rates)


def taking_turns(
    steppers: Mapping[str, Callable[[], None]], rounds: int, steps: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Microseconds per step of each contestant, round by round."""
    for step in steppers.values():
        for _ in range(WARM_UP_STEPS):
            step()
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(rounds):
        for name, step in steppers.items():
            start = clock()
            for _ in range(steps):
                step()
            times[name].append((clock() - start) / steps * 1e6)
    return times


def clock_of(device: torch.device) -> Callable[[], float]:
    """CPU time; on a graphics card the wall clock once all work there is done."""
    if device.type == "cpu":
        return time.process_time

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def measure(batch: int, fused: bool, rounds: int, steps: int, device: torch.device) -> dict[str, Any]:
    """Microseconds per step of each contestant, and the ratio to the float step of the same round."""
    torch.manual_seed(SEED)
    steppers = {name: stepper(model, batch, fused, device) for name, model in contestants().items()}
    times = taking_turns(steppers, rounds, steps, clock_of(device))
    return {
        "batch": batch,
        "optimizer": "Adam, fused" if fused else "Adam, default",
        "step_us": {name: round(statistics.median(values), 1) for name, values in times.items()},
        "ratio_to_float": {
            name: round(statistics.median(t / f for t, f in zip(values, times["float"], strict=True)), 3)
            for name, values in times.items()
        },
    }


def measure_ensemble(batch: int, rounds: int, steps: int, device: torch.device) -> dict[str, Any]:
    """Microseconds per step of all replicas, at once and one after the other, and the ratios to at once."""
    torch.manual_seed(SEED)
    alone = {"compress": ours(lean=True), "brevitas": brevitas()}
    steppers = {name: stepper(pruned(model), batch, True, device, L1) for name, model in alone.items()}
    times = taking_turns({"ensemble": ensemble_stepper(batch, device), **steppers}, rounds, steps, clock_of(device))
    each = {name: [t * (1 if name == "ensemble" else REPLICAS) for t in values] for name, values in times.items()}
    return {
        "batch": batch,
        "optimizer": "Adam, fused",
        "all_replicas_us": {name: round(statistics.median(values), 1) for name, values in each.items()},
        "times_faster_than": {
            name: round(statistics.median(t / e for t, e in zip(each[name], each["ensemble"], strict=True)), 2)
            for name in alone
        },
    }


def table(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0]["step_us"])
    lines = [f"{'batch':>5}  {'optimizer':<14}" + "".join(f"{name:>26}" for name in names)]
    for row in rows:
        cells = [f"{row['step_us'][name]:,.0f} us ({row['ratio_to_float'][name]:.2f}x)" for name in names]
        lines.append(f"{row['batch']:>5}  {row['optimizer']:<14}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


def ensemble_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'batch':>5}  {REPLICAS} replicas at once" + "".join(f"{name:>26}" for name in rows[0]["times_faster_than"])
    ]
    for row in rows:
        took, faster = row["all_replicas_us"], row["times_faster_than"]
        cells = [f"{took[name]:,.0f} us ({faster[name]:.1f}x)" for name in faster]
        lines.append(f"{row['batch']:>5}  {took['ensemble']:>17,.0f} us" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


def on_device(device: torch.device, rounds: int, steps: int) -> dict[str, Any]:
    rows = [measure(batch, fused, rounds, steps, device) for batch in BATCHES for fused in (False, True)]
    ensembles = [measure_ensemble(batch, rounds, steps, device) for batch in BATCHES]
    print(f"{device}\n{table(rows)}\n\n{ensemble_table(ensembles)}\n")
    return {"rows": rows, "ensemble": ensembles}


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of one training step of the jet MLP")
    parser.add_argument("--rounds", type=int, default=15, help="rounds in which the contestants take turns")
    parser.add_argument("--steps", type=int, default=20, help="steps per contestant and round")
    parser.add_argument("--out", type=Path, default=RESULTS / "training.json", help="where the figures go")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = on_device(torch.device("cpu"), arguments.rounds, arguments.steps)
    if torch.cuda.is_available():
        card = on_device(torch.device("cuda"), arguments.rounds, arguments.steps)
        results["cuda"] = {"device": torch.cuda.get_device_name(), "clock": "wall", **card}
    about = {
        "seed": SEED,
        "rounds": arguments.rounds,
        "steps_per_round": arguments.steps,
        "threads": torch.get_num_threads(),
        "network": "-".join(map(str, SIZES)) + ", batch norm",
        "widths": {"weights": 6, "biases": 16, "activations": 6, "inputs": 16},
        "pruned": PRUNED,
        "replicas": REPLICAS,
        "l1_of_replicas": L1,
    }
    write(arguments.out, {"benchmark": "training", **about, **provenance("torch", "brevitas"), **results})


if __name__ == "__main__":
    main()
