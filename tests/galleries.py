"""Graphs that put one input through many layers of a kind, compiled together over each number type."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from cxx import SANITIZE, compiler
from designs import samples

from export.backend import Backend
from export.backends.emulator import EMULATOR, EMULATOR_AC, EMULATOR_AP
from export.emulation.vendor_headers import ac_include, ap_include
from export.ir import Graph
from recipes.fuzz.batch import Batch

every_number_type = pytest.mark.parametrize(
    ("backend", "include"), [(EMULATOR, None), (EMULATOR_AP, ap_include), (EMULATOR_AC, ac_include)],
    ids=["own", "ap_fixed", "ac_fixed"],
)  # fmt: skip


def assert_every_tensor_is_the_graphs(
    galleries: Sequence[Graph],
    backend: Backend,
    include: Callable[[], Path | None] | None,
    folder: Path,
    constant: Sequence[str] = (),
) -> None:
    """No tensor but those ``constant`` may have few codes, in which little could differ."""
    headers = include and include()
    if include and headers is None:
        pytest.skip(f"{backend.name}: the vendor's headers are not on this machine (pip install hls4ml==1.3.0)")
    compiled = Batch(galleries, backend, folder, headers)
    for graph in galleries:
        (values,) = samples(graph, 37)
        expected, got = graph.trace(graph.inputs[0].encode(values)), compiled.trace(graph.name, values)
        assert [name for name, codes in expected.items() if not np.array_equal(codes, got[name])] == []
        assert all(len(np.unique(codes)) > 3 for name, codes in expected.items() if name not in constant)


RUN = """
#include <cstdio>
#include <vector>
#include "design/emulator.cpp"
int main() {
    std::vector<double> values(%(samples)d * %(size)d);
    if (std::fread(values.data(), sizeof(double), values.size(), stdin) != values.size()) return 1;
    std::vector<std::int64_t> codes(%(samples)d * %(codes)d);
    const qapsule_array input = {values.data(), QAPSULE_FLOAT64, 1};
    std::vector<qapsule_array> tensors;
    std::int64_t* next = codes.data();
    for (const int size : {%(sizes)s}) {
        tensors.push_back({next, QAPSULE_CODES, 1});
        next += %(samples)d * size;
    }
    const qapsule_batch batch = {&input, tensors.data(), 0, %(samples)d};
    if (qapsule_run(&batch)) return 2;
    std::fwrite(codes.data(), sizeof(std::int64_t), codes.size(), stdout);
}
"""


def run_sanitized(graph: Graph, folder: Path) -> None:
    """Five samples, four of them side by side: no undefined behaviour, no overflow of a proved format, every code."""
    EMULATOR.render(graph).write(folder / "design")
    (values,), sizes = samples(graph, 5), [op.output.size for op in graph]
    text = RUN % {"samples": 5, "size": sizes[0], "codes": sum(sizes), "sizes": ", ".join(map(str, sizes))}
    (folder / "run.cpp").write_text(text)
    flags = ("-std=c++14", "-w", *SANITIZE, "-DQAPSULE_VERIFY", "-DQAPSULE_LANES=4", "-DQAPSULE_LANES_H")
    command = [compiler("g++"), *flags, str(folder / "run.cpp"), "-o", str(folder / "run")]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[:4000]
    ran = subprocess.run([str(folder / "run")], input=values.astype(np.float64).tobytes(), capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()[:4000]
    codes, expected = np.frombuffer(ran.stdout, np.int64), graph.trace(graph.inputs[0].encode(values))
    assert np.array_equal(codes, np.concatenate([expected[op.name].ravel() for op in graph]))
