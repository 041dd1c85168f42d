"""One network drawn at random, and all that has to agree about it before any C++ is compiled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.fixed import Codes
from export.archive import dumped, loaded
from export.frontends.torch import lower
from export.ir import Graph, GraphError, Op
from export.ops.linear import SparseDense, SumOfProducts
from export.ops.reuse import legal_reuse_factors
from export.passes import steps
from export.streams.access import Io
from recipes.fuzz.graphs import random_graph, random_inputs
from recipes.fuzz.modules import has_power_of_two_scales, random_module
from recipes.fuzz.wirings import random_wiring

SAMPLES = 40

#: What a network that hardware cannot hold is refused with; any other error is a find.
_REFUSALS = ("no exact multiplier", "limit is 64")


@dataclass(frozen=True, eq=False)
class Case:
    """``before`` is the network as drawn or lowered, ``graph`` what the passes and the user's choices make of it."""

    name: str
    before: Graph
    graph: Graph
    io: Io
    codes: Codes  # of the one input: (samples, \\*shape)
    expected: NDArray[np.float64] | None = None  # the output by torch, where float64 is exact

    @property
    def values(self) -> NDArray[np.float64]:
        return self.graph.inputs[0].output.format.values(self.codes)

    def dumped(self) -> dict[str, Any]:
        """All but what torch says."""
        return {
            "name": self.name,
            "before": json.loads(dumped(self.before)),
            "graph": json.loads(dumped(self.graph)),
            "io": self.io.value,
            "codes": {"shape": list(self.codes.shape), "flat": [int(code) for code in self.codes.ravel()]},
        }

    @classmethod
    def loaded(cls, content: dict[str, Any]) -> Case:
        before, graph = (loaded(json.dumps(content[side])) for side in ("before", "graph"))
        codes = np.array(content["codes"]["flat"], dtype=object).reshape(content["codes"]["shape"])
        return cls(content["name"], before, graph, Io(content["io"]), codes)


@dataclass(frozen=True)
class Disagreement:
    """Where two that must be equal first are not, or what one of them has raised instead."""

    case: str
    between: str
    what: str

    def plain(self) -> dict[str, str]:
        return asdict(self)


class Refused(ValueError):
    """A drawn network that has no exact hardware, by what it was refused with."""


def draw(seed: int, number: int) -> Case:
    """Network ``number`` of a campaign: drawn op by op, or a torch module. Raises Refused; other errors are finds."""
    rng = np.random.default_rng((seed, number))
    name, expected = f"network_{number}", None
    try:
        if number % 2:
            module, shape = random_wiring(rng) if number % 4 == 1 else random_module(rng)
            before = lower(module, shape, name=name)
            (codes,) = random_inputs(rng, before, SAMPLES)
            if has_power_of_two_scales(module):
                expected = _by_torch(module, before.inputs[0].output.format.values(codes))
        else:
            before = replace(random_graph(rng), name=name)
            (codes,) = random_inputs(rng, before, SAMPLES)
        graph = _with_reuse(rng, steps(before)[-1])
    except GraphError as error:
        known = next((words for words in _REFUSALS if words in str(error)), None)
        if known is None:
            raise
        raise Refused(known) from error
    return Case(name, before, graph, Io.STREAM if rng.random() < 0.3 else Io.PARALLEL, codes, expected)


def in_python(case: Case) -> Iterator[Disagreement]:
    """What differs between torch, the graph, and the graph after each pass."""
    first = _outputs(case.before, case.codes)
    if case.expected is not None and (difference := _first(case.expected, first[0])):
        yield Disagreement(case.name, "torch and graph", difference)
    for number, after in enumerate([*steps(case.before)[1:], case.graph], start=1):
        for one, other in zip(first, _outputs(after, case.codes), strict=True):
            if difference := _first(one, other):
                yield Disagreement(case.name, f"the graph before and after {number} passes", difference)
                return


def traces_differ(case: Case, between: str, got: dict[str, Codes]) -> Iterator[Disagreement]:
    """The first tensor that a compiled design has otherwise than the graph."""
    for tensor, codes in case.graph.trace(case.codes).items():
        if difference := _first(codes, got[tensor]):
            yield Disagreement(case.name, between, f"{tensor}: {difference}")
            return


def _outputs(graph: Graph, codes: Codes) -> list[NDArray[np.float64]]:
    traced = graph.trace(codes)
    return [tensor.format.values(traced[tensor.name]) for tensor in graph.outputs]


def _by_torch(module: Any, x: NDArray[np.float64]) -> NDArray[np.float64]:
    import torch

    with torch.no_grad():
        made: NDArray[np.float64] = module.double()(torch.from_numpy(x)).numpy()
    return made


def _with_reuse(rng: np.random.Generator, graph: Graph) -> Graph:
    """Some layers with a reuse factor, any legal one."""
    ops: list[Op] = []
    for op in graph:
        if isinstance(op, SumOfProducts) and rng.random() < 0.4:
            inputs, outputs = op.matrix.shape[1], op.output.shape[0]
            legal = range(1, len(op.rows) + 1) if isinstance(op, SparseDense) else legal_reuse_factors(inputs, outputs)
            op = replace(op, reuse_factor=int(rng.choice(legal)))
        ops.append(op)
    return graph.rebuilt(ops, {})


def _first(expected: NDArray[Any], got: NDArray[Any]) -> str | None:
    """Where two arrays first differ."""
    if expected.shape != got.shape:
        return f"shapes {expected.shape} and {got.shape}"
    places = np.argwhere(expected != got)
    if not len(places):
        return None
    at = tuple(int(n) for n in places[0])
    return f"{len(places)} of {expected.size} numbers differ, first at {at}: {expected[at]} and {got[at]}"
