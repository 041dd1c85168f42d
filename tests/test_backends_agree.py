"""Every backend's design of every test network gives the graph's bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from benches import BENCHES, bench, targets
from designs import assert_equal_traces, conv_net, every_op, mlp, samples, skip_net

from compress.fixed import FixedPoint
from export.backend import Backend, Project
from export.backends import BACKENDS
from export.emulation.emulator import Emulator
from export.ir import Graph, Tensor
from export.ops import Input, Maximum
from export.streams.access import Io


def two_of_each() -> Graph:
    """Two inputs, one of 64 bits, and two outputs, one of which leaves as it came."""
    a, b = Tensor("a", (2, 3), FixedPoint(64, 7)), Tensor("b", (2, 3), FixedPoint(5, 7, signed=False))
    largest = Maximum(Tensor("largest", (2, 3), a.format), a, b)
    return Graph("two_of_each", (Input(a), Input(b), largest), (a, largest.output)).verify()


NETWORKS: dict[str, Callable[[], Graph]] = {
    "every_op": every_op,
    "skip_net": skip_net,
    "conv_net": conv_net,
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


def test_every_backend_is_here() -> None:
    assert {*BENCHES, "emulator"} == set(BACKENDS)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("backend", "options"),
    [(backend, options) for backend in targets() for options in ways(backend)],
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


@pytest.mark.parametrize("backend", targets(), ids=lambda backend: backend.name)
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
