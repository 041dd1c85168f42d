"""Whether the C++ computes what the graph says: every tensor, every sample, every bit.

A comparison that finds nothing proves little if it cannot find anything. So beside the comparison stand a control, in
which one bit of one weight is wrong and must be noticed, and the number of distinct outputs that were compared.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compress.fixed import Codes
from export.emulation.emulator import Emulator, MissingHeadersError, Numbers
from export.ir import Const, Graph, GraphError
from export.ops import Conv, Dense, Input, Sparse

#: Samples compared at a time, and codes of all their tensors: what bounds the memory of a check.
CHUNK, CODES = 4096, 1 << 24


@dataclass(frozen=True)
class Pair:
    """Two ways to compute the same tensors, compared. ``mismatches`` counts codes that differ, over all tensors.

    ``skipped`` is the reason why nothing was compared, or None.
    """

    left: str
    right: str
    samples: int
    tensors: int
    mismatches: int
    skipped: str | None = None

    @property
    def equal(self) -> bool:
        return self.skipped is None and self.mismatches == 0


@dataclass(frozen=True)
class Control:
    """The C++ of a graph against the same graph with one bit of one weight flipped."""

    mutation: str
    samples: int
    mismatches: int

    @property
    def caught(self) -> bool:
        return self.mismatches > 0


def check(
    graph: Graph,
    *values: ArrayLike,
    numbers: Iterable[Numbers] = tuple(Numbers),
    threads: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> list[Pair]:
    """``Graph.trace`` against the C++ compiled with each of ``numbers``, on ``values`` (one array per input).

    A vendor whose headers are missing is skipped, and says so.
    """
    pairs = []
    emulators: dict[Numbers, Emulator] = {}
    arrays = _arrays(graph, values)
    for kind in numbers:
        try:
            emulators[kind] = Emulator(graph, threads=threads, numbers=kind, cache_dir=cache_dir)
        except MissingHeadersError as missing:
            pairs.append(Pair("graph", kind.value, 0, 0, 0, skipped=str(missing)))
    mismatches = dict.fromkeys(emulators, 0)
    for chunk in _chunks(graph, arrays):
        expected = graph.trace(*_encoded(graph, chunk))
        for kind, emulator in emulators.items():
            mismatches[kind] += _differences(expected, emulator.trace_codes(*chunk))
    compared = [Pair("graph", k.value, len(arrays[0]), len(graph.ops), n) for k, n in mismatches.items()]
    return sorted(compared + pairs, key=lambda pair: [k.value for k in Numbers].index(pair.right))


def control(graph: Graph, *values: ArrayLike, emulator: Emulator | None = None) -> Control:
    """Compare the C++ of ``graph`` with a mutation of it, on the first samples of ``values``."""
    chunk = next(_chunks(graph, _arrays(graph, values)))
    mutant, mutation = mutate(graph, *_encoded(graph, chunk))
    traced = (emulator or Emulator(graph)).trace_codes(*chunk)
    return Control(mutation, len(chunk[0]), _differences(mutant.trace(*_encoded(graph, chunk)), traced))


def mutate(graph: Graph, *codes: Codes) -> tuple[Graph, str]:
    """``graph`` with one bit of one weight flipped, in the last layer that ``codes`` reach, and which bit that is.

    Raises GraphError if no layer has a weight that these samples multiply by anything but zero.
    """
    traced = graph.trace(*codes)
    for op in reversed(graph.ops):
        if not isinstance(op, Conv | Dense | Sparse):
            continue
        by_group = np.count_nonzero(op.operands(traced[op.x.name]), axis=(0, 2))
        uses, sparse = by_group[0], isinstance(op, Sparse)
        if isinstance(op, Sparse):
            uses = by_group[np.array(op.cols, dtype=int) * len(by_group) // len(op.bias.codes), list(op.rows)]
        # The heaviest bit below the sign: it outlives whatever rounding follows.
        bit = max(0, op.weight.format.width - 1 - op.weight.format.signed)
        for k in np.argsort(-uses, kind="stable").tolist():
            place = (k,) if sparse else (0, *map(int, np.unravel_index(k, op.weight.shape[1:])))
            flipped = op.weight.codes.copy()
            flipped[place] ^= 1 << bit
            if uses[k] and not (sparse and flipped[place] == 0):
                broken = dataclasses.replace(op, weight=Const(flipped, op.weight.format))
                mutant = dataclasses.replace(graph, ops=tuple(broken if each is op else each for each in graph.ops))
                return mutant, f"bit {bit} of {op.name}.weight{list(place)}"
    raise GraphError(f"{graph.name}: these samples reach no weight, so that no flipped bit of one can show; use others")


def distinct_outputs(graph: Graph, *values: ArrayLike, emulator: Emulator | None = None) -> int:
    """How many different samples the first output takes: bit equality of a constant would prove nothing."""
    run = emulator or Emulator(graph)
    seen: set[bytes] = set()
    for chunk in _chunks(graph, _arrays(graph, values)):
        codes = run.predict_codes(*chunk)
        rows = np.unique(codes.reshape(len(codes), -1).astype(np.uint64, copy=False), axis=0)
        seen.update(hash_row.tobytes() for hash_row in rows)
    return len(seen)


def _arrays(graph: Graph, values: Sequence[ArrayLike]) -> list[NDArray]:
    arrays = [np.asarray(v) for v in values]
    if len(arrays) != len(graph.inputs) or not all(len(a) == len(arrays[0]) > 0 for a in arrays):
        raise GraphError(
            f"{graph.name}: a check needs samples for each of {len(graph.inputs)} inputs, as many for each; "
            f"got arrays of {', '.join(str(len(a)) for a in arrays) or 'none'}"
        )
    return arrays


def _chunks(graph: Graph, arrays: Sequence[NDArray]) -> Iterator[list[NDArray]]:
    """Fewer samples where each has many codes."""
    count = max(1, min(CHUNK, CODES // sum(op.output.size for op in graph)))
    for first in range(0, len(arrays[0]), count):
        yield [array[first : first + count] for array in arrays]


def _encoded(graph: Graph, chunk: Sequence[NDArray]) -> list[Codes]:
    entries = [op for op in graph if isinstance(op, Input)]
    return [op.encode(values) for op, values in zip(entries, chunk, strict=True)]


def _differences(expected: dict[str, Codes], got: dict[str, Codes]) -> int:
    if expected.keys() != got.keys():
        raise AssertionError("two traces of one graph have the same tensors")
    return sum(int(np.count_nonzero(expected[name] != got[name])) for name in expected)
