"""What a conversion will do, as plain values: made by the walk, shown by the plan, carried out by the rewriting."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import fx, nn

from compress.layers import QuantSpec

STAYS = "stays"


@dataclass(frozen=True)
class Row:
    """What becomes of one layer or call, or a quantizer that is inserted (then ``was`` is empty).

    ``name`` is its name in the model; ``becomes`` the new layer, in the words of its ``repr``, or "stays"; ``key`` the
    spec key that decided; ``why`` the reason, where there is one to give.
    """

    name: str
    was: str
    becomes: str
    key: str = ""
    why: str = ""


@dataclass(frozen=True)
class Call:
    """A call that becomes a layer called ``name``: the counterpart of ``layer``, or ``layer`` itself without a spec."""

    name: str
    layer: nn.Module
    spec: QuantSpec | None


@dataclass(frozen=True)
class Inserted:
    """A ``QuantIdentity`` called ``name``, which quantizes as ``spec`` says of inputs."""

    name: str
    spec: QuantSpec


@dataclass
class Decisions:
    """Layers by name, the rest by the node of ``graph`` it is about: quantizers by the one right before them."""

    graph: fx.Graph
    layers: dict[str, QuantSpec] = field(default_factory=dict)
    calls: dict[fx.Node, Call] = field(default_factory=dict)
    inputs: dict[fx.Node, Inserted] = field(default_factory=dict)
    behind: dict[fx.Node, Inserted] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """The spec for one layer, and the key that decided it as a reader would write it."""

    spec: QuantSpec | None
    key: str


@dataclass(frozen=True)
class Flow:
    """What is known of a tensor of the network; its numbers belong to the layer that has the spec ``choice``."""

    source: fx.Node  # a quantizer of this tensor would stand right behind it
    what: str  # in words
    on_grid: bool
    exact: bool
    signed: bool
    scale: str  # the same for tensors of one and the same scale
    choice: Choice | None
