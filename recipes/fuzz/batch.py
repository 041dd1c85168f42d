"""Many designs in one compilation: what makes ten thousand random networks affordable.

Each design's emulator source goes into a namespace of its own and is called through its C ABI with ctypes.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from export.backend import Backend
from export.ir import Graph
from export.streams.access import Io

CODES, FLOAT64 = 3, 2


_DESIGN = """
#undef QAPSULE_TRACE
#undef QAPSULE_TRACE_AS
#undef QAPSULE_TRACE_PACKET
#undef QAPSULE_LANES
#undef QAPSULE_LANES_H
#define qapsule_run {name}_run
#define qapsule_abi {name}_abi
namespace in_{name} {{
#include "{name}/emulator.cpp"
}}
#undef qapsule_run
#undef qapsule_abi
"""


class CompilationError(ValueError):
    """What the compiler says."""


class _Array(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("kind", ctypes.c_int32), ("lsb", ctypes.c_double))


class _Batch(ctypes.Structure):
    _fields_ = (
        ("inputs", ctypes.POINTER(_Array)),
        ("tensors", ctypes.POINTER(_Array)),
        ("first", ctypes.c_int64),
        ("last", ctypes.c_int64),
    )


#: Nearly all that a network costs is the compiler's time, and it runs a few samples only.
_FLAGS = ("-std=c++14", "-O0", "-march=native", "-w", "-Wno-psabi", "-DNDEBUG", "-fno-exceptions", "-shared", "-fPIC")


class Batch:
    """``graphs``, each with a name of its own, compiled together for ``backend``. Raises CompilationError.

    The constants of those that ``tmr`` names are stored three times behind a voter.
    """

    def __init__(
        self,
        graphs: Sequence[Graph],
        backend: Backend,
        folder: Path,
        include: Path | None = None,
        io: Io = Io.PARALLEL,
        tmr: Collection[str] = (),
    ) -> None:
        self._graphs = {graph.name: graph for graph in graphs}
        assert len(self._graphs) == len(graphs)
        shared: dict[str, str] = {}  # headers that must be read outside of every namespace
        designs = []
        for graph in graphs:
            files = backend.render(graph, io=io, tmr=graph.name in tmr).files
            for path, text in files.items():
                place = folder / graph.name / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)
                if path.startswith("firmware/qapsule/"):  # read once, from whichever design brought it
                    shared.setdefault(path.removeprefix("firmware/"), f'#include "{graph.name}/{path}"')
            types = files["firmware/types.h"].splitlines()
            vendors = [line for line in types if line.startswith("#include") and '"qapsule/' not in line]
            shared = {line: line for line in vendors} | shared
            designs.append(_DESIGN.format(name=graph.name))
        source, library = folder / "batch.cpp", folder / "batch.so"
        source.write_text("\n".join(["#include <cstdint>", *shared.values(), *designs]))
        search = [f"-I{folder}", *(["-isystem", str(include)] if include else [])]
        command = ["g++", *_FLAGS, *search, str(source)]
        done = subprocess.run([*command, "-o", str(library)], capture_output=True, text=True)
        if done.returncode != 0:
            raise CompilationError(done.stderr[:3000])
        self._library = ctypes.CDLL(str(library))

    def trace(self, name: str, values: np.ndarray) -> dict[str, np.ndarray]:
        """Codes of every tensor for real inputs (batch, \\*shape)."""
        graph = self._graphs[name]
        x = np.ascontiguousarray(values, dtype=np.float64)
        results = {op.name: np.zeros((len(x), *op.output.shape), dtype=np.int64) for op in graph}
        tensors = (_Array * len(results))(*(_Array(r.ctypes.data, CODES, 1.0) for r in results.values()))
        batch = _Batch((_Array * 1)(_Array(x.ctypes.data, FLOAT64, 1.0)), tensors, 0, len(x))
        run = getattr(self._library, f"{name}_run")
        assert run(ctypes.byref(batch)) == 0
        return results
