"""Bit-exact emulation side by side with hls4ml: samples per CPU-second, time to the first prediction, memory.

    python benchmarks/emulator.py [--rounds 5] [--out benchmarks/results/emulator.json]

Two networks, the jet MLP 16-64-32-32-5 and the MNIST MLP 784-16-10, as hls4ml 1.3.0 emulates them (backend Vitis,
io_parallel, Latency, reuse factor 1, ``ap_fixed<16,6>`` everywhere), as we emulate the very same arithmetic (whose
outputs are compared with hls4ml's, bit for bit), and as we emulate the network after ``quantize`` to 6 bits, which is
what this project is for. Weights and inputs are random; what they are makes no difference to the time.

Contestants take turns in every round, one thread each (hls4ml has no other); a figure is the median over the rounds of
the CPU time of this process and its children. A build starts from a converted model or a graph and ends with its first
prediction, in an empty cache. Cached starts and traces run in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import RESULTS, provenance, write
from torch import nn

from compress.fixed import FixedPoint, Overflow, Rounding
from export import to_graph
from export.emulator import Emulator
from export.frontends.precision import Precision
from export.ir import Graph
from export.ops import Modes
from recipes.jet import jet
from recipes.mnist import mnist
from recipes.network import float_network, quantized_network
from recipes.recipe import Recipe

SEED = 0
CLASSIC = FixedPoint.of(16, 6)
TRACED = 100_000


@dataclass(frozen=True)
class Case:
    """A network, and how many samples a contestant predicts per round: about as long as the other."""

    recipe: Recipe
    inputs: int
    outputs: int
    ours: int
    theirs: int

    @property
    def name(self) -> str:
        return self.recipe.name

    def samples(self, count: int) -> np.ndarray:
        """Multiples of the unit of ``ap_fixed<16,6>``, so that rounding of the input cannot matter."""
        rng = np.random.default_rng(SEED)
        return np.ldexp(np.rint(np.ldexp(rng.normal(size=(count, self.inputs)), 10)), -10).astype(np.float32)


CASES = (Case(jet(), 16, 5, 2_000_000, 10_000), Case(mnist(), 784, 10, 100_000, 3_000))


def plain(case: Case) -> nn.Sequential:
    """The float network without batch norm; its parameters are values of ``ap_fixed<16,6>``."""
    model = float_network(replace(case.recipe.network, batch_norm=False), case.inputs, case.outputs, SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.round(parameter * 2**10) / 2**10)
    return model.eval()


def classic_graph(case: Case) -> Graph:
    modes = Modes(Rounding.TRN, Overflow.WRAP)
    precision = Precision(accumulator=CLASSIC, modes=modes)
    return to_graph(plain(case), (case.inputs,), name=case.name, input_format=CLASSIC, precision=precision)


def six_bit_graph(case: Case) -> Graph:
    model = quantized_network(case.recipe, case.inputs, case.outputs)
    model.train()
    with torch.no_grad():
        model(torch.from_numpy(case.samples(1024)))
    return to_graph(model.eval(), (case.inputs,), name=case.name)


def hls4ml_model(case: Case, folder: Path, traced: bool = False) -> Any:
    """Converted, not yet compiled."""
    import hls4ml

    model = plain(case)
    precision = "ap_fixed<16,6>"
    config = hls4ml.utils.config_from_pytorch_model(
        model,
        (case.inputs,),
        granularity="name" if traced else "model",
        backend="Vitis",
        default_precision=precision,
        default_reuse_factor=1,
    )
    for layer in config.get("LayerName", {}).values():
        layer["Trace"] = True
    return hls4ml.converters.convert_from_pytorch_model(
        model, hls_config=config, output_dir=str(folder), backend="Vitis", io_type="io_parallel", project_name=case.name
    )


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU time of this process and of the children that it waits for."""

    def now() -> float:
        ours, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return ours.ru_utime + ours.ru_stime + children.ru_utime + children.ru_stime

    start = now()
    work()
    return now() - start


def turns(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each, all of them in every round."""
    spent: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            spent[name].append(cpu_seconds(work))
    return {name: statistics.median(values) for name, values in spent.items()}


def build_times(case: Case, graphs: dict[str, Graph], scratch: Path, rounds: int) -> dict[str, float]:
    one = case.samples(1)

    def ours(graph: Graph) -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as empty:
            Emulator(graph, threads=1, cache_dir=empty).predict(one)

    contestants: dict[str, Callable[[], Any]] = {name: lambda g=graph: ours(g) for name, graph in graphs.items()}
    models = iter([hls4ml_model(case, scratch / f"{case.name}_{index}") for index in range(rounds)])

    def theirs() -> None:
        model = next(models)
        model.compile()
        model.predict(one)

    return turns(contestants | {"hls4ml": theirs}, rounds)


def predict_times(case: Case, graphs: dict[str, Graph], scratch: Path, rounds: int) -> tuple[dict[str, float], int]:
    """Samples per CPU-second, and how many outputs of the same arithmetic differ from hls4ml's."""
    emulators = {name: Emulator(graph, threads=1, cache_dir=scratch / "cache") for name, graph in graphs.items()}
    peer = hls4ml_model(case, scratch / f"{case.name}_peer")
    peer.compile()
    many, few = case.samples(case.ours), case.samples(case.theirs)
    unequal = int(np.count_nonzero(emulators["classic"].predict(few) != np.asarray(peer.predict(few))))
    work: dict[str, Callable[[], Any]] = {name: lambda e=e: e.predict(many) for name, e in emulators.items()}
    spent = turns(work | {"hls4ml": lambda: peer.predict(few)}, rounds)
    return {name: (case.theirs if name == "hls4ml" else case.ours) / value for name, value in spent.items()}, unequal


def in_a_process(command: str, *arguments: str | Path) -> dict[str, float]:
    """What a child process of this script printed last."""
    child = [sys.executable, __file__, "--child", command, *map(str, arguments)]
    search = str(Path(__file__).parent.parent)
    done = subprocess.run(child, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": search})
    return json.loads(done.stdout.splitlines()[-1])


def child_start(graph: str, cache: str) -> dict[str, float]:
    """Wall seconds from a graph in memory to the first prediction, everything but numpy still to be imported."""
    loaded = pickle.loads(Path(graph).read_bytes())
    x = np.zeros((1, *loaded.inputs[0].output.shape), dtype=np.float32)
    start = time.perf_counter()
    Emulator(loaded, threads=1, cache_dir=cache).predict(x)
    return {"seconds": time.perf_counter() - start}


def child_trace(who: str, folder: str) -> dict[str, float]:
    """Megabytes that tracing 100,000 jets takes at its peak, on top of what the process has, and CPU seconds."""
    case = CASES[0]
    x = case.samples(TRACED)
    if who == "hls4ml":
        model = hls4ml_model(case, Path(folder), traced=True)
        model.compile()
    else:
        model = Emulator(six_bit_graph(case), threads=1, cache_dir=folder)
    model.predict(x[:1000])
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = kilobytes("VmHWM")
    seconds = cpu_seconds(lambda: model.trace(x))
    return {"megabytes": round((kilobytes("VmHWM") - before) / 1024), "cpu_seconds": round(seconds, 2)}


def kilobytes(field: str) -> int:
    """What Linux counts for this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0])


def measure(case: Case, scratch: Path, rounds: int, builds: int) -> dict[str, Any]:
    graphs = {"6 bits": six_bit_graph(case), "classic": classic_graph(case)}
    speed, unequal = predict_times(case, graphs, scratch, rounds)
    build = build_times(case, graphs, scratch, builds)
    pickled = scratch / f"{case.name}.pickle"
    pickled.write_bytes(pickle.dumps(graphs["6 bits"]))
    starts = [in_a_process("start", pickled, scratch / "cache")["seconds"] for _ in range(rounds)]
    return {
        "network": case.name,
        "layers": [case.inputs, *case.recipe.network.hidden, case.outputs],
        "predict_samples_per_cpu_second": {name: round(value) for name, value in speed.items()},
        "predict_ratio_to_hls4ml": {name: round(value / speed["hls4ml"], 1) for name, value in speed.items()},
        "outputs_unequal_to_hls4ml": {"classic": unequal, "of": case.theirs * case.outputs},
        "first_prediction_cpu_seconds": {name: round(value, 2) for name, value in build.items()},
        "first_prediction_cached_wall_seconds": round(statistics.median(starts), 3),
    }


def table(rows: Sequence[dict[str, Any]], trace: dict[str, dict[str, float]]) -> str:
    lines = []
    for row in rows:
        lines.append(f"{row['network']} {'-'.join(map(str, row['layers']))}")
        for name, speed in row["predict_samples_per_cpu_second"].items():
            ratio, build = row["predict_ratio_to_hls4ml"][name], row["first_prediction_cpu_seconds"][name]
            lines.append(f"  {name:<8} {speed:>12,} samples/CPU-s {ratio:>8.1f}x   first prediction {build:6.2f} CPU-s")
        unequal = row["outputs_unequal_to_hls4ml"]
        lines.append(f"  classic and hls4ml: {unequal['classic']} of {unequal['of']} outputs differ")
        lines.append(f"  cached start: {row['first_prediction_cached_wall_seconds']} s")
    lines += [f"trace of {TRACED:,} jets, {who}: {f['megabytes']:.0f} MB, {f['cpu_seconds']:.2f} CPU-s"
              for who, f in trace.items()]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="emulation side by side with hls4ml")
    parser.add_argument("--rounds", type=int, default=5, help="in which the contestants predict in turns")
    parser.add_argument("--builds", type=int, default=3, help="rounds of compiling from scratch")
    parser.add_argument("--out", type=Path, default=RESULTS / "emulator.json")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.child:
        command, *arguments = given.child
        print(json.dumps({"start": child_start, "trace": child_trace}[command](*arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        rows = [measure(case, scratch, given.rounds, given.builds) for case in CASES]
        trace = {who: in_a_process("trace", who, scratch / f"trace_{who}") for who in ("qapsule", "hls4ml")}
    print(table(rows, trace))
    compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    about = provenance("hls4ml", "numpy", "torch", "brevitas", "pybind11")
    result = {"rounds": given.rounds, "builds": given.builds, "rows": rows, f"trace_of_{TRACED}_jets": trace}
    write(given.out, {"benchmark": "emulator", **about, "compiler": compiler, "seed": SEED, **result})


if __name__ == "__main__":
    main()
