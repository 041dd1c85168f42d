"""Running the very C++ that a design is made of, over batches, at native speed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from compress.fixed import Codes, FixedPoint, as_codes
from export.backends.emulator import EMULATOR, EMULATOR_AC, EMULATOR_AP
from export.emulation.compiler import Compiler
from export.emulation.vendor_headers import AC_VARIABLE, AP_VARIABLE, ac_include, ap_include
from export.ir import Graph, GraphError, Tensor
from export.ops import Input
from export.streams.access import Io

# Bytes from which on fresh memory costs more than finding some that is kept.
_LARGE = 1 << 16


class Numbers(Enum):
    """Whose number types a design is compiled with. All give the same bits; the vendors' are slow."""

    OWN = "qapsule::fixed"
    AP = "ap_fixed"
    AC = "ac_fixed"


class MissingHeadersError(ValueError):
    """A vendor's headers are not on this machine."""


class Emulator:
    """A graph, compiled. Values go in; values or codes of any tensor come out, equal to ``Graph.trace`` in every bit.

    ``io`` "stream" takes the processes of a streamed design in the place of arrays; the bits are the same. ``threads``
    is how many cores a call may use (default: all that the process may). The compiled design is kept in
    ``cache_dir`` (default: :func:`export.emulation.compiler.cache_folder`). Calls release the GIL and may run
    concurrently.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        threads: int | None = None,
        numbers: Numbers = Numbers.OWN,
        io: Io | str = Io.PARALLEL,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"{graph.name}: threads must be 1 or more, got {threads}; None uses every core")
        try:
            from export._runtime import Design, empty
        except ImportError as missing:
            raise ImportError("export._runtime is not built; install qapsule with pip, which compiles it") from missing
        backend = {Numbers.OWN: EMULATOR, Numbers.AP: EMULATOR_AP, Numbers.AC: EMULATOR_AC}[numbers]
        self.graph = graph
        self.numbers = numbers
        self.io = Io.of(io)
        self.threads = threads or len(os.sched_getaffinity(0))
        folder = None if cache_dir is None else Path(cache_dir)
        library = Compiler.find().build(backend.render(graph, io=self.io), _options(numbers), folder)
        self._design = Design(str(library))
        self._kept = empty

    def predict(self, *values: ArrayLike) -> NDArray[np.floating]:
        """Values of the (first) output, (batch, \\*shape): float32 where it holds every code exactly, else float64.

        An output with a reading (float scales that end the network) gives the float64 nearest to each exact number.
        ``values`` holds one array per input, (batch, \\*shape): real numbers, rounded as the input's modes say. Raises
        FixedPointError on NaN and infinity, and GraphError where no float type holds every code of the output.
        """
        output = self.graph.outputs[0]
        return self._read(values, (output,))[output.name]

    def predict_codes(self, *values: ArrayLike) -> Codes:
        """Codes of the (first) output, for any width."""
        output = self.graph.outputs[0]
        return as_codes(self._run(values, {output: code_dtype(output)})[output.name])

    def trace(self, *values: ArrayLike) -> dict[str, NDArray[np.floating]]:
        """Values of every tensor by name, in the order of the graph."""
        return self._read(values, [op.output for op in self.graph])

    def trace_codes(self, *values: ArrayLike) -> dict[str, Codes]:
        """Codes of every tensor by name."""
        found = self._run(values, {op.output: code_dtype(op.output) for op in self.graph})
        return {name: as_codes(codes) for name, codes in found.items()}

    def _read(self, values: Iterable[ArrayLike], tensors: Sequence[Tensor]) -> dict[str, NDArray[np.floating]]:
        """The numbers that these tensors stand for, by name."""
        readings = {t: self.graph.reading(t) for t in tensors}
        found = self._run(values, {t: value_dtype(t) if r is None else code_dtype(t) for t, r in readings.items()})
        return {t.name: found[t.name] if r is None else r.numbers(found[t.name], t.format) for t, r in readings.items()}

    def _run(self, values: Iterable[ArrayLike], wanted: dict[Tensor, DTypeLike]) -> dict[str, NDArray]:
        entries = [op for op in self.graph if isinstance(op, Input)]
        arrays = [_reals(v) for v in values]
        if len(arrays) != len(entries):
            raise GraphError(f"{self.graph.name}: takes {len(entries)} inputs, got {len(arrays)}")
        for op, array in zip(entries, arrays, strict=True):
            if array.shape[1:] != op.output.shape or not array.ndim:
                raise op.fail(f"expects samples of shape {op.output.shape}, got an array of shape {array.shape}")
        samples = len(arrays[0])
        if any(len(array) != samples for array in arrays):
            raise GraphError(f"{self.graph.name}: batches of {', '.join(str(len(a)) for a in arrays)} samples differ")
        # The hardware takes codes; a scale that is no power of two ends before the C++ begins.
        arrays = [
            array if op.scale == 1 else op.output.format.values(op.encode(array))
            for op, array in zip(entries, arrays, strict=True)
        ]
        found = {tensor: self._empty((samples, *tensor.shape), dtype) for tensor, dtype in wanted.items()}
        targets = [(_signed(found.get(op.output)), _lsb(op.output)) for op in self.graph]
        if not self._design.run(arrays, targets, samples, self.threads):
            for op, array in zip(entries, arrays, strict=True):
                op.encode(array)
            raise AssertionError(f"{self.graph.name}: the compiled design refused values that have codes")
        return {tensor.name: array for tensor, array in found.items()}

    def _empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """Room for a tensor; that of a large one is kept for the next when nobody refers to it any more."""
        kind = np.dtype(dtype)
        large = kind.itemsize * math.prod(shape) >= _LARGE
        return self._kept(shape, kind) if large else np.empty(shape, kind)


def value_dtype(tensor: Tensor) -> DTypeLike:
    """The smallest float type that holds every code of ``tensor`` exactly. Raises GraphError where none does."""
    fmt = tensor.format
    for dtype in (np.float32, np.float64):
        info = np.finfo(dtype)
        if (
            fmt.width - fmt.signed <= info.nmant + 1
            and fmt.integer - fmt.signed < info.maxexp
            and -fmt.frac >= info.minexp
        ):
            return dtype
    raise GraphError(f"{tensor}: no float type holds every code exactly; ask for codes")


def code_dtype(tensor: Tensor) -> DTypeLike:
    return np.uint64 if tensor.format == FixedPoint(64, tensor.format.frac, signed=False) else np.int64


def _lsb(tensor: Tensor) -> float:
    """Only read where values are asked for, and then exact."""
    return float(np.ldexp(1.0, -tensor.format.frac))


def _signed(array: NDArray | None) -> NDArray | None:
    """The same memory: the runtime moves 64 bits and does not ask for their sign."""
    return array.view(np.int64) if array is not None and array.dtype == np.uint64 else array


def _reals(values: ArrayLike) -> NDArray[np.floating]:
    """float32 stays; everything else that is a real number is exact, or as exact as it came, in float64."""
    array = np.asarray(values)
    return np.ascontiguousarray(array, dtype=np.float32 if array.dtype in (np.float32, np.float16) else np.float64)


def _options(numbers: Numbers) -> tuple[str, ...]:
    if numbers is Numbers.OWN:
        return ("-O3",)
    folder, variable = (ap_include(), AP_VARIABLE) if numbers is Numbers.AP else (ac_include(), AC_VARIABLE)
    if folder is None:
        raise MissingHeadersError(
            f"the headers of {numbers.value} are not here; install hls4ml, or name their folder in {variable}"
        )
    # The vendors' types cost more to compile well than a check takes to run.
    return ("-O1", "-isystem", str(folder))
