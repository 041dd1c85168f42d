"""How export, compilation and emulation grow with the network: up to a million weights, and up to twenty layers.

    python benchmarks/scaling.py [--out benchmarks/results/scaling.json]

Each network is quantized to 6 bits, calibrated on random data, and then measured in a process of its own: CPU time of
the graph and its passes, of rendering the vitis project, of compiling the emulator in an empty cache, and of predicting
``SAMPLES`` samples; the largest memory of the process and of the compiler. Prints the exponent with which each figure
grows with the number of weights between the smallest and the largest network: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import RESULTS, provenance, write
from torch import nn
from tqdm import tqdm

from compress.layers import QuantSpec
from compress.quantize import quantize
from export import to_graph
from export.backends import find_backend
from export.emulation.emulator import Emulator

SEED, SAMPLES = 0, 256
SPEC = QuantSpec(weight_width=6, activation_width=6, input_width=8)


def dense(width: int) -> tuple[nn.Module, tuple[int, ...]]:
    """784 inputs, two hidden layers, 10 outputs."""
    layers = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
    return nn.Sequential(*layers), (784,)


def deep(channels: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Twenty convolutions of 3 x 3 on 16 x 16 pixels, a pool after every fifth, and a mean."""
    layers: list[nn.Module] = []
    for number in range(20):
        layers += [nn.Conv2d(channels if number else 3, channels, 3, padding=1), nn.ReLU()]
        if number % 5 == 4:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, 10)), (3, 16, 16)


FAMILIES: dict[str, tuple[Callable[[int], tuple[nn.Module, tuple[int, ...]]], tuple[int, ...]]] = {
    "dense, 2 hidden layers": (dense, (16, 64, 192, 680)),
    "convolutional, 20 layers": (deep, (8, 16, 32)),
}
FIGURES = ("graph_s", "render_s", "compile_s", "predict_s", "memory_mb", "compiler_memory_mb")


def measured(family: str, size: int) -> dict[str, Any]:
    """The figures of one network, by this process."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    make, _ = FAMILIES[family]
    model, shape = make(size)
    quantized = quantize(model, SPEC)
    x = torch.randn(SAMPLES, *shape)
    with torch.no_grad():
        quantized.train()(x)
        expected = quantized.eval().double()(x.double()).numpy()
    clock = _Clock()
    graph = to_graph(quantized, shape, name="network")
    graph_s = clock.lap()
    project = find_backend("vitis").render(graph)
    render_s = clock.lap()
    with tempfile.TemporaryDirectory() as cache:
        emulator = Emulator(graph, threads=1, cache_dir=cache)
        compile_s = clock.lap()
        got = emulator.predict(x.numpy())
        predict_s = clock.lap()
    return {
        "family": family,
        "size": size,
        "weights": sum(p.numel() for p in model.parameters() if p.dim() > 1),
        "graph_s": graph_s,
        "render_s": render_s,
        "project_mb": sum(len(text) for text in project.files.values()) / 1e6,
        "compile_s": compile_s,
        "predict_s": predict_s,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "compiler_memory_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "samples": SAMPLES,
        "wrong_outputs": int((got != expected).sum()),
        "outputs": int(np.size(expected)),
    }


class _Clock:
    """CPU seconds of this process and its children since the last lap."""

    def __init__(self) -> None:
        self._last = self._now()

    def lap(self) -> float:
        before, self._last = self._last, self._now()
        return self._last - before

    @staticmethod
    def _now() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime


def exponent(rows: list[dict[str, Any]], figure: str) -> float:
    """Of the power of the number of weights with which ``figure`` grows from the smallest to the largest."""
    first, last = rows[0], rows[-1]
    return math.log(last[figure] / first[figure]) / math.log(last["weights"] / first["weights"])


def main() -> None:
    parser = argparse.ArgumentParser(description="how time and memory grow with the network")
    parser.add_argument("--family", choices=FAMILIES, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json")
    given = parser.parse_args()
    if given.family is not None:
        print(json.dumps(measured(given.family, given.size)))
        return
    jobs = [(family, size) for family, (_, sizes) in FAMILIES.items() for size in sizes]
    rows = []
    for family, size in tqdm(jobs):
        command = [sys.executable, __file__, "--family", family, "--size", str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ))
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    for family in FAMILIES:
        own = [row for row in rows if row["family"] == family]
        print(f"\n{family}\n{'weights':>10}" + "".join(f"{name:>20}" for name in (*FIGURES, "wrong outputs")))
        for row in own:
            figures = "".join(f"{row[figure]:20.2f}" for figure in FIGURES)
            print(f"{row['weights']:10,}{figures}{row['wrong_outputs']:20}")
        print(f"{'power':>10}" + "".join(f"{exponent(own, figure):20.2f}" for figure in FIGURES))
    write(given.out, {"benchmark": "scaling", "networks": rows, **provenance("torch", "numpy")})


if __name__ == "__main__":
    main()
