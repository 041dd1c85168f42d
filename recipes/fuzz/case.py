"""One network drawn at random, and all that has to agree about it before any C++ is compiled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.fixed import Codes, FixedPoint, FixedPointError
from export.archive import dumped, loaded
from export.frontends.precision import Precision
from export.frontends.torch import lower
from export.ir import Graph, GraphError
from export.passes import steps
from export.streams.access import Io
from recipes.fuzz.choices import chosen
from recipes.fuzz.graphs import random_graph, random_inputs
from recipes.fuzz.modules import has_power_of_two_scales, random_module
from recipes.fuzz.planes import random_plane
from recipes.fuzz.wirings import random_wiring

SAMPLES = 40

#: Where networks come from, and the share of each.
ORIGINS = {"ops": 0.27, "planes": 0.13, "wiring": 0.26, "module": 0.34}

#: What a network that hardware cannot hold is refused with; any other error is a find.
_REFUSALS = ("no exact multiplier", "limit is 64", "which is never negative")


@dataclass(frozen=True, eq=False)
class Case:
    """``before`` is the network as drawn or lowered, ``graph`` what the passes and the user's choices make of it.

    ``between`` is what it is after each pass; ``tmr`` has its constants stored three times behind a voter.
    """

    name: str
    before: Graph
    graph: Graph
    io: Io
    codes: Codes  # of the one input: (samples, \\*shape)
    expected: NDArray[np.float64] | None = None  # the output by torch, where float64 is exact
    tmr: bool = False
    origin: str = "file"
    salt: int | None = None  # of what is drawn later: whether it becomes a project, of which backend, with what options
    between: tuple[Graph, ...] = ()

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
            "tmr": self.tmr,
            "origin": self.origin,
            "salt": self.salt,
            "codes": {"shape": list(self.codes.shape), "flat": [int(code) for code in self.codes.ravel()]},
        }

    @classmethod
    def loaded(cls, content: dict[str, Any]) -> Case:
        before, graph = (loaded(json.dumps(content[side])) for side in ("before", "graph"))
        codes = np.array(content["codes"]["flat"], dtype=object).reshape(content["codes"]["shape"])
        tmr, between = content.get("tmr", False), tuple(steps(before)[1:])
        later = {"tmr": tmr, "origin": content.get("origin", "file"), "salt": content.get("salt"), "between": between}
        return cls(content["name"], before, graph, Io(content["io"]), codes, **later)


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
    origin = str(rng.choice(list(ORIGINS), p=list(ORIGINS.values())))
    try:
        if origin in ("wiring", "module"):
            module, shape = random_wiring(rng) if origin == "wiring" else random_module(rng)
            before = lower(module, shape, name=name, precision=_tables(rng, module))
            (codes,) = random_inputs(rng, before, SAMPLES)
            if has_power_of_two_scales(module):
                expected = _by_torch(module, before.inputs[0].output.format.values(codes))
        else:
            before = random_graph(rng) if origin == "ops" else random_plane(rng, longest=6)
            before = replace(before, name=name)
            (codes,) = random_inputs(rng, before, SAMPLES)
        between = steps(before)[1:]
        graph = chosen(rng, between[-1])
    except GraphError as error:
        known = next((words for words in _REFUSALS if words in str(error)), None)
        if known is None:
            raise
        raise Refused(known) from error
    io, tmr = Io.STREAM if rng.random() < 0.3 else Io.PARALLEL, bool(rng.random() < 0.1)
    return Case(name, before, graph, io, codes, expected, tmr, origin, int(rng.integers(1 << 31)), tuple(between))


def in_python(case: Case) -> Iterator[Disagreement]:
    """What differs between torch, the graph, and the graph after each pass that has changed it."""
    first = _outputs(case.before, case.codes)
    if case.expected is not None and (difference := _first(case.expected, first[0])):
        yield Disagreement(case.name, "torch and graph", difference)
    stages = (case.before, *case.between, case.graph)
    for number, (before, after) in enumerate(pairwise(stages), start=1):
        if _is_same(before, after):
            continue
        for one, other in zip(first, _outputs(after, case.codes), strict=True):
            if difference := _first(one, other):
                yield Disagreement(case.name, f"the graph before and after {number} passes", difference)
                return


def _is_same(one: Graph, other: Graph) -> bool:
    """Whether a pass has handed on the very ops that it was given."""
    return one.outputs == other.outputs and [id(op) for op in one] == [id(op) for op in other]


def traces_differ(case: Case, between: str, got: dict[str, Codes]) -> Iterator[Disagreement]:
    """The first tensor that a compiled design has otherwise than the graph."""
    for tensor, codes in case.graph.trace(case.codes).items():
        if difference := _first(codes, got[tensor]):
            yield Disagreement(case.name, between, f"{tensor}: {difference}")
            return


def _outputs(graph: Graph, codes: Codes) -> list[NDArray[Any]]:
    """The numbers that leave, by whatever scale their reader knows; fractions where no float64 holds all of them."""
    traced = graph.trace(codes)
    made = []
    for tensor in graph.outputs:
        reading, own = graph.reading(tensor), traced[tensor.name]
        made.append(_numbers(tensor.format, own) if reading is None else reading.numbers(own, tensor.format))
    return made


def _numbers(fmt: FixedPoint, codes: Codes) -> NDArray[Any]:
    try:
        return fmt.values(codes)
    except FixedPointError:
        return codes.astype(object) * fmt.lsb


def _by_torch(module: Any, x: NDArray[np.float64]) -> NDArray[np.float64]:
    import torch

    with torch.no_grad():
        made: NDArray[np.float64] = module.double()(torch.from_numpy(x)).numpy()
    return made


def _tables(rng: np.random.Generator, module: Any) -> dict[str, Precision] | None:
    """Those of a softmax, short: what the error of long ones is takes seconds to find out."""
    from torch import nn

    layers = [name for name, each in module.named_modules() if isinstance(each, nn.Softmax)]
    return {
        name: Precision(table_width=int(rng.integers(3, 9)), stable=bool(rng.random() < 0.7)) for name in layers
    } or None


def _first(expected: NDArray[Any], got: NDArray[Any]) -> str | None:
    """Where two arrays first differ."""
    if expected.shape != got.shape:
        return f"shapes {expected.shape} and {got.shape}"
    places = np.argwhere(expected != got)
    if not len(places):
        return None
    at = tuple(int(n) for n in places[0])
    return f"{len(places)} of {expected.size} numbers differ, first at {at}: {expected[at]} and {got[at]}"
