"""Every backend's design of every test network gives the graph's bits: what stands behind the README's table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benches import bench
from designs import assert_equal_traces, conv_net, every_op, lookup_net, mlp, samples, skip_net

from compress.fixed import FixedPoint
from export.backend import Backend, Project
from export.backends import BACKENDS
from export.emulation.emulator import Emulator
from export.ir import Const, Graph, Op, Tensor
from export.ops import Full, Input, Maximum, Sparse, SumOfProducts
from export.passes import lay_out
from export.passes.choose_sparse import Strategies
from export.streams.access import Io
from recipes.fuzz.projects import TARGETS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def two_of_each() -> Graph:
    """Two inputs, one of 64 bits, and two outputs, one of which leaves as it came."""
    a, b = Tensor("a", (2, 3), FixedPoint(64, 7)), Tensor("b", (2, 3), FixedPoint(5, 7, signed=False))
    largest = Maximum(Tensor("largest", (2, 3), a.format), a, b)
    return Graph("two_of_each", (Input(a), Input(b), largest), (a, largest.output)).verify()


def laid_out(strategy: Strategies, graph: Graph | None = None, **reuse_factors: int) -> Callable[[], Graph]:
    """Two convolutions and a dense layer."""
    return lambda: lay_out(reuse_factors, strategy)(graph or conv_net()).verify()


def of_one_digit(graph: Graph) -> Graph:
    """The same with nothing left of each weight but its sign; the last layer has no zeros."""
    *others, last = (op for op in graph if isinstance(op, SumOfProducts))
    signs = {op: np.sign(op.weight.codes) for op in others} | {last: np.where(last.weight.codes < 0, -1, 1)}
    changed = {op: replace(op, weight=Const(codes, op.weight.format)) for op, codes in signs.items()}
    return replace(graph, ops=tuple(changed.get(op, op) for op in graph)).verify()


NETWORKS: dict[str, Callable[[], Graph]] = {
    "every_op": every_op,
    "skip_net": skip_net,
    "lookup_net": lookup_net,
    "conv_net": conv_net,
    "shared": laid_out("dense", conv1=6, conv2=4, fc=8),
    "serial": laid_out("dense", conv1=36, conv2=16, fc=48),
    "coo": laid_out("coo", conv1=7, conv2=5, fc=4),
    "unrolled": laid_out("unrolled"),
    "signs": laid_out({"conv1": "coo", "conv2": "dense"}, of_one_digit(conv_net()), conv1=7, conv2=32, fc=8),
    "reused": lambda: mlp("net", (12, 6, 5), reuse_factors=(4, 6)),
    "two_of_each": two_of_each,
}


def ways(backend: Backend) -> list[dict[str, object]]:
    """Options that change what a design looks like: ways to take data, unfinished batches, copies, interfaces."""
    own: dict[str, list[dict[str, object]]] = {
        "vitis_accel": [{"batch": 30, "compute_units": 2}],
        "intel": [{}, {"interface": "stream", "tmr": True}],
    }
    return [{"io": io.value, **options} for io in backend.ios for options in own.get(backend.name, [{}])]


def row(op: Op) -> tuple[str, str]:
    """Where ``op`` stands in the README's table: its kind, and how it shares multipliers."""
    how = ""
    if isinstance(op, Sparse):
        how = "unrolled" if op.reuse_factor == 1 else "coo"
    elif isinstance(op, Full):
        how = "parallel" if op.reuse_factor == 1 else "serial" if op.is_serial else "shared"
    return type(op).__name__, how


def test_the_table_of_the_readme_is_what_is_compared_here() -> None:
    head, _, *body = re.search(r"(\| operation \|.*?)\n\n", README, flags=re.DOTALL)[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *body)]
    assert cells[0][2:7] == [*BACKENDS]
    for line in cells[1:]:
        for name, cell in zip(cells[0][2:7], line[2:7], strict=True):
            assert cell == "arrays" + ", streams" * (Io.STREAM in BACKENDS[name].ios), line
    listed = [(kind, how) for kinds, how, *_ in cells[1:] for kind in kinds.split(", ")]
    assert len(listed) == len(set(listed))
    assert set(listed) == {row(op) for network in NETWORKS.values() for op in network()}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("backend", "options"),
    [(backend, options) for backend in TARGETS for options in ways(backend)],
    ids=lambda given: given.name if isinstance(given, Backend) else "-".join(f"{k}={v}" for k, v in given.items()),
)
def test_a_design_gives_the_graphs_bits(
    backend: Backend, options: dict[str, object], network: str, tmp_path: Path
) -> None:
    done = bench(backend.render(NETWORKS[network](), **options), tmp_path / "net")
    assert done.returncode == 0, done.stdout + done.stderr
    assert passed(done.stdout) >= 100


def passed(said: str) -> int:
    """The samples that were compared."""
    words = said.splitlines()[-1].split()
    assert words[0] == "PASSED:" and words[2:] == ["samples,", "0", "mismatches"], said
    return int(words[1])


@pytest.mark.parametrize("io", list(Io), ids=lambda io: io.value)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_emulator_gives_the_graphs_bits(network: str, io: Io) -> None:
    graph = NETWORKS[network]()
    assert_equal_traces(graph, Emulator(graph, io=io), samples(graph, 200))


@pytest.mark.parametrize("backend", TARGETS, ids=lambda backend: backend.name)
def test_one_flipped_bit_in_what_is_expected_is_one_mismatch(backend: Backend, tmp_path: Path) -> None:
    project = backend.render(mlp("net", (4, 3, 2)))
    (path,) = (path for path in project.files if path.endswith("data/fc2_out.dat"))
    lines = [line.split() for line in project.files[path].splitlines()]
    lines[57][1] = str(int(lines[57][1]) ^ 1)
    changed = "".join(" ".join(line) + "\n" for line in lines)
    done = bench(Project("net", backend.name, {**project.files, path: changed}), tmp_path / "net")
    assert done.returncode != 0 and "1 mismatch" in done.stdout, done.stdout
    (found,) = (line for line in done.stdout.splitlines() if "fc2_out[1]: got" in line)
    assert found.startswith("sample 57")
