"""Bit-exact emulation side by side with hls4ml: samples per CPU-second, time to the first prediction, memory.

    python benchmarks/emulator.py [--rounds 5] [--only jet mnist conv] [--out benchmarks/results/emulator.json]

Three networks, the jet MLP 16-64-32-32-5, the MNIST MLP 784-16-10 and a convolutional one of 207,000 products, as
hls4ml 1.3.0 emulates them (backend Vitis, io_parallel, Latency, reuse factor 1, ``ap_fixed<16,6>`` everywhere), as we
emulate the very same arithmetic (whose outputs are compared with hls4ml's, bit for bit), and as we emulate the network
after ``quantize`` to 6 bits, which is what this project is for, whole and with 80 % of each layer's weights pruned.
Weights and inputs are random; but for the zeros, what they are makes no difference to the time.

Contestants take turns in every round, one thread each (hls4ml has no other); a figure is the median over the rounds of
the CPU time of this process and its children. A build starts from a converted model or a graph and ends with its first
prediction, in an empty cache; its memory is that of the largest process of the compiler. Cached starts, traces and that
memory are measured in processes of their own. Two threads against one, which the wall clock measures and only an
otherwise idle machine does justice to, and a trace against a prediction are measured on the nets of 6 bits, and on a
fourth one, 64-256-256-10, whose time is products alone. Traces are of as many samples as their results fit into the
memory that the emulator keeps for reuse; of more, the system takes longer to hand out their memory than they take.
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
from compress.layers import QuantSpec
from compress.quantize import quantize
from export import to_graph
from export.emulation.emulator import Emulator
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
TRACED_BYTES = 200e6
PRUNED = 0.8


@dataclass(frozen=True)
class Case:
    """A network, and how many samples a contestant predicts per round: about as long as the other."""

    name: str
    layers: str
    shape: tuple[int, ...]
    network: Callable[[], nn.Sequential]  # float, without batch norm
    quantized: Callable[[], nn.Module]
    ours: int
    theirs: int

    def samples(self, count: int) -> np.ndarray:
        """Multiples of the unit of ``ap_fixed<16,6>``, so that rounding of the input cannot matter."""
        rng = np.random.default_rng(SEED)
        drawn = np.ldexp(np.rint(np.ldexp(rng.normal(size=(count, *self.shape)), 10)), -10)
        return drawn.astype(np.float32)


def perceptron(recipe: Recipe, inputs: int, outputs: int, ours: int, theirs: int) -> Case:
    without_norm = replace(recipe.network, batch_norm=False)
    return Case(
        name=recipe.name,
        layers="-".join(map(str, (inputs, *recipe.network.hidden, outputs))),
        shape=(inputs,),
        network=lambda: float_network(without_norm, inputs, outputs, SEED),
        quantized=lambda: quantized_network(recipe, inputs, outputs),
        ours=ours,
        theirs=theirs,
    )


def convolutional() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return nn.Sequential(
            *(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 11 * 11, 10)),
        )


def wide() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        hidden = (nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        return nn.Sequential(*hidden, nn.Linear(256, 10))


SIX_BITS = QuantSpec(weight_width=6, bias_width=8, activation_width=6, input_width=8)
CASES = (
    perceptron(jet(), 16, 5, 2_000_000, 10_000),
    perceptron(mnist(), 784, 10, 100_000, 3_000),
    Case(
        name="conv",
        layers="28x28x1, conv 3x3x8, pool 2, conv 3x3x16, dense 10",
        shape=(1, 28, 28),
        network=convolutional,
        quantized=lambda: quantize(convolutional(), SIX_BITS),
        ours=40_000,
        theirs=300,
    ),
)

#: Products are nearly all that there is to do here; not compared with hls4ml, which would compile it for minutes.
WIDE = Case(
    name="wide",
    layers="64-256-256-10",
    shape=(64,),
    network=wide,
    quantized=lambda: quantize(wide(), SIX_BITS),
    ours=100_000,
    theirs=0,
)


def plain(case: Case) -> nn.Sequential:
    """The float network; its parameters are values of ``ap_fixed<16,6>``."""
    model = case.network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.round(parameter * 2**10) / 2**10)
    return model.eval()


def classic_graph(case: Case) -> Graph:
    modes = Modes(Rounding.TRN, Overflow.WRAP)
    precision = Precision(accumulator=CLASSIC, modes=modes)
    return to_graph(plain(case), case.shape, name=case.name, input_format=CLASSIC, precision=precision)


def six_bit_graph(case: Case, pruned: float = 0.0) -> Graph:
    """The quantized network, so much of the weights of each layer being zero."""
    model = case.quantized()
    model.train()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                size = layer.weight.abs()
                layer.weight[size < torch.quantile(size, pruned)] = 0
        model(torch.from_numpy(case.samples(256)))
    return to_graph(model.eval(), case.shape, name=case.name)


def graphs_of(case: Case) -> dict[str, Graph]:
    return {
        "6 bits": six_bit_graph(case),
        "6 bits, 80 % pruned": six_bit_graph(case, PRUNED),
        "classic": classic_graph(case),
    }


def hls4ml_model(case: Case, folder: Path, traced: bool = False) -> Any:
    """Converted, not yet compiled."""
    import hls4ml

    model = plain(case)
    precision = "ap_fixed<16,6>"
    config = hls4ml.utils.config_from_pytorch_model(
        model,
        case.shape,
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


def for_hls4ml(case: Case, x: np.ndarray) -> np.ndarray:
    """Its convolutions have their channels last; there is one here."""
    return x if len(case.shape) == 1 else np.ascontiguousarray(np.moveaxis(x, 1, -1))


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
        model.predict(for_hls4ml(case, one))

    return turns(contestants | {"hls4ml": theirs}, rounds)


def predict_times(case: Case, graphs: dict[str, Graph], scratch: Path, rounds: int) -> tuple[dict[str, float], int]:
    """Samples per CPU-second, and how many outputs of the same arithmetic differ from hls4ml's."""
    emulators = {name: Emulator(graph, threads=1, cache_dir=scratch / "cache") for name, graph in graphs.items()}
    peer = hls4ml_model(case, scratch / f"{case.name}_peer")
    peer.compile()
    many, few = case.samples(case.ours), case.samples(case.theirs)
    theirs = for_hls4ml(case, few)
    expected = np.asarray(peer.predict(theirs))
    unequal = int(np.count_nonzero(emulators["classic"].predict(few) != expected))
    work: dict[str, Callable[[], Any]] = {name: lambda e=e: e.predict(many) for name, e in emulators.items()}
    spent = turns(work | {"hls4ml": lambda: peer.predict(theirs)}, rounds)
    return {name: (case.theirs if name == "hls4ml" else case.ours) / value for name, value in spent.items()}, unequal


def threads_and_traces(case: Case, scratch: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Of the net of 6 bits, whole and pruned: samples per CPU-second, how many times as fast two threads are as one, by
    the clock, and how many times as long as predicting them tracing some of the samples takes per sample."""
    x = case.samples(case.ours)
    found = {}
    for name, pruned in (("6 bits", 0.0), ("6 bits, 80 % pruned", PRUNED)):
        graph = six_bit_graph(case, pruned)
        some = x[: min(len(x) // 4, int(TRACED_BYTES / sum(4 * op.output.size for op in graph)))]  # float32
        one, two = (Emulator(graph, threads=n, cache_dir=scratch / "cache") for n in (1, 2))
        for emulator in (one, two):
            emulator.predict(x)
        one.trace(some)
        wall: dict[str, list[float]] = {"one": [], "two": []}
        for _ in range(rounds):
            for key, emulator in (("one", one), ("two", two)):
                start = time.perf_counter()
                emulator.predict(x)
                wall[key].append(time.perf_counter() - start)
        spent = turns({"predict": lambda e=one: e.predict(x), "trace": lambda e=one, s=some: e.trace(s)}, rounds)
        found[name] = {
            "samples_per_cpu_second": round(len(x) / spent["predict"]),
            "two_threads_to_one": round(statistics.median(wall["one"]) / statistics.median(wall["two"]), 2),
            "trace_to_predict": round(spent["trace"] / len(some) * len(x) / spent["predict"], 2),
        }
    return found


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


def child_build(name: str, what: str, folder: str) -> dict[str, float]:
    """Megabytes of the largest process of the compiler."""
    case = next(case for case in CASES if case.name == name)
    if what == "hls4ml":
        hls4ml_model(case, Path(folder)).compile()
    else:
        Emulator(graphs_of(case)[what], threads=1, cache_dir=folder)
    return {"megabytes": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)}


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
    graphs = graphs_of(case)
    speed, unequal = predict_times(case, graphs, scratch, rounds)
    build = build_times(case, graphs, scratch, builds)
    pickled = scratch / f"{case.name}.pickle"
    pickled.write_bytes(pickle.dumps(graphs["6 bits"]))
    memory = {
        name: in_a_process("build", case.name, name, scratch / f"{case.name}_memory_{number}")["megabytes"]
        for number, name in enumerate((*graphs, "hls4ml"))
    }
    starts = [in_a_process("start", pickled, scratch / "cache")["seconds"] for _ in range(rounds)]
    return {
        "network": case.name,
        "layers": case.layers,
        "predict_samples_per_cpu_second": {name: round(value) for name, value in speed.items()},
        "predict_ratio_to_hls4ml": {name: round(value / speed["hls4ml"], 1) for name, value in speed.items()},
        "outputs_unequal_to_hls4ml": {"classic": unequal, "of": case.theirs * graphs["classic"].outputs[0].size},
        "first_prediction_cpu_seconds": {name: round(value, 2) for name, value in build.items()},
        "first_prediction_compiler_megabytes": memory,
        "first_prediction_cached_wall_seconds": round(statistics.median(starts), 3),
    }


def table(rows: Sequence[dict[str, Any]], pruning: dict[str, Any], trace: dict[str, dict[str, float]]) -> str:
    lines = []
    for row in rows:
        lines.append(f"{row['network']} {row['layers']}")
        for name, speed in row["predict_samples_per_cpu_second"].items():
            ratio, build = row["predict_ratio_to_hls4ml"][name], row["first_prediction_cpu_seconds"][name]
            memory = row["first_prediction_compiler_megabytes"][name]
            first = f"first prediction {build:6.2f} CPU-s, {memory} MB"
            lines.append(f"  {name:<20} {speed:>12,} samples/CPU-s {ratio:>8.1f}x   {first}")
        unequal = row["outputs_unequal_to_hls4ml"]
        lines.append(f"  classic and hls4ml: {unequal['classic']} of {unequal['of']} outputs differ")
        lines.append(f"  cached start: {row['first_prediction_cached_wall_seconds']} s")
    for network, kinds in pruning.items():
        for name, f in kinds.items():
            speed, two, trace_cost = f["samples_per_cpu_second"], f["two_threads_to_one"], f["trace_to_predict"]
            lines.append(f"{network} {name}: {speed:,} samples/CPU-s, two threads {two}x, trace {trace_cost}x")
    lines += [f"trace of {TRACED:,} jets, {who}: {f['megabytes']:.0f} MB, {f['cpu_seconds']:.2f} CPU-s"
              for who, f in trace.items()]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="emulation side by side with hls4ml")
    parser.add_argument("--rounds", type=int, default=5, help="in which the contestants predict in turns")
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], help="these networks alone")
    parser.add_argument("--builds", type=int, default=3, help="rounds of compiling from scratch")
    parser.add_argument("--out", type=Path, default=RESULTS / "emulator.json")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.child:
        command, *arguments = given.child
        print(json.dumps({"start": child_start, "build": child_build, "trace": child_trace}[command](*arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        chosen = [case for case in CASES if not given.only or case.name in given.only]
        rows = [measure(case, scratch, given.rounds, given.builds) for case in chosen]
        kinds = {case.name: threads_and_traces(case, scratch, given.rounds) for case in (*chosen, WIDE)}
        trace = {who: in_a_process("trace", who, scratch / f"trace_{who}") for who in ("qapsule", "hls4ml")}
    print(table(rows, kinds, trace))
    compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    about = provenance("hls4ml", "numpy", "torch", "brevitas", "pybind11")
    result = {"rounds": given.rounds, "builds": given.builds, "rows": rows, "threads_and_traces": kinds}
    result[f"trace_of_{TRACED}_jets"] = trace
    write(given.out, {"benchmark": "emulator", **about, "compiler": compiler, "seed": SEED, **result})


if __name__ == "__main__":
    main()
