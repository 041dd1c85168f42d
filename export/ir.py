"""The integer graph: what the hardware computes, with every number an integer code.

A :class:`Graph` is an immutable value: a tuple of :class:`Op` in an order in which each op follows what it reads.
An op is a frozen dataclass that owns its *law* (checked when it is built), its *meaning* in integers
(:meth:`Op.eval`) and its *reach* (:meth:`Op.bounds`); the ops themselves are in :mod:`export.ops`.
A rewrite makes a new graph; nothing is ever changed in place.
"""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compress.fixed import Codes, FixedPoint, as_codes
from export.intervals import Bounds
from export.scales import Reading


class GraphError(ValueError):
    """A graph that breaks a law. The message names the op, both values and the cure."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array of codes. ``shape`` is that of one sample; the batch axis is never part of it."""

    name: str
    shape: tuple[int, ...]
    format: FixedPoint

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if not self.shape or min(self.shape) < 1:
            raise GraphError(f"{self.name}: a tensor has at least one axis and no empty one, got shape {self.shape}")

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __str__(self) -> str:
        return f"{self.name}: {self.format}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """An array of codes known now: weights, biases, scales. Read-only, compared by content."""

    codes: Codes
    format: FixedPoint

    def __post_init__(self) -> None:
        codes = as_codes(self.codes).copy()
        codes.flags.writeable = False
        object.__setattr__(self, "codes", codes)
        if codes.size:
            low, high = int(codes.min()), int(codes.max())
            if low < self.format.min_code or high > self.format.max_code:
                raise GraphError(f"codes from {low} to {high} do not fit {self.format}; widen the format")

    @classmethod
    def fitting(cls, codes: ArrayLike, frac: int) -> Const:
        """The codes in the narrowest format that holds them all (and zero)."""
        exact = as_codes(codes)
        low = min(0, int(exact.min())) if exact.size else 0
        high = max(0, int(exact.max())) if exact.size else 0
        return cls(exact, FixedPoint.covering(low, high, frac))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    @property
    def values(self) -> NDArray[np.float64]:
        return self.format.values(self.codes)

    def _key(self) -> tuple[Any, ...]:
        return (self.format, self.shape, tuple(self.codes.ravel().tolist()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Const({self.format}{list(self.shape)})"


@dataclass(frozen=True)
class Op(ABC):
    """One step of the computation, identified by the name of the tensor it makes.

    Subclasses add fields; every :class:`Tensor` in one, alone or in a tuple, is an input, in the order of declaration.
    """

    #: False for an op that only passes see: one of them replaces it before a backend renders the graph.
    has_kernel: ClassVar[bool] = True

    output: Tensor

    @property
    def name(self) -> str:
        return self.output.name

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(t for f in dataclasses.fields(self) if f.name != "output" for t in _tensors(getattr(self, f.name)))

    @property
    def constants(self) -> dict[str, Const]:
        """The op's constants by field name."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: v for name, v in values.items() if isinstance(v, Const)}

    @property
    def interval(self) -> int:
        """Cycles from one sample to the next that its kernel takes, over arrays."""
        return 1

    @abstractmethod
    def eval(self, *codes: Codes) -> Codes:
        """Input codes, each of shape (batch, \\*shape), to output codes of shape (batch, \\*output.shape)."""

    @abstractmethod
    def bounds(self, *bounds: Bounds) -> Bounds:
        """The reachable codes of the output, element by element, given those of the inputs."""

    def verify(self, *bounds: Bounds) -> None:  # noqa: B027 - most laws need no bounds and live in __post_init__
        """Raise GraphError where the op's law does not hold for what its inputs can reach."""

    def rewired(self, replacement: Mapping[Tensor, Tensor]) -> Op:
        """This op reading other tensors."""
        changed = self._swapped(replacement)
        return dataclasses.replace(self, **changed) if changed else self

    def moved(self, replacement: Mapping[Tensor, Tensor], **changes: Any) -> Op:
        """As :meth:`rewired`, making another tensor too; all at once, since each change alone might break the law."""
        output = replacement.get(self.output, self.output)
        return dataclasses.replace(self, output=output, **(self._swapped(replacement) | changes))

    def _swapped(self, replacement: Mapping[Tensor, Tensor]) -> dict[str, Any]:
        """The fields that read replaced tensors, as they are afterwards."""
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "output" and any(t in replacement for t in _tensors(value)):
                settled = tuple(replacement.get(t, t) for t in _tensors(value))
                changed[field.name] = settled[0] if isinstance(value, Tensor) else settled
        return changed

    def fail(self, message: str) -> GraphError:
        return GraphError(f"{self.name}: {message}")


def _tensors(value: Any) -> tuple[Tensor, ...]:
    """The tensors that a field of an op holds."""
    if isinstance(value, Tensor):
        return (value,)
    return value if isinstance(value, tuple) and value and isinstance(value[0], Tensor) else ()


@dataclass(frozen=True)
class Graph:
    """Ops in topological order, and the tensors that leave. ``notes`` is what the passes have to report.

    ``readings`` say, one per output or none at all, what its values stand for; None: for themselves.
    """

    name: str
    ops: tuple[Op, ...]
    outputs: tuple[Tensor, ...]
    notes: tuple[str, ...] = ()
    readings: tuple[Reading | None, ...] = ()

    def __post_init__(self) -> None:
        made: set[Tensor] = set()
        names: set[str] = set()
        for op in self.ops:
            for tensor in op.inputs:
                if tensor not in made:
                    raise op.fail(f"reads {tensor}, which no earlier op makes")
            if op.name in names:
                raise op.fail("the name is taken by an earlier op; tensor names are unique in a graph")
            made.add(op.output)
            names.add(op.name)
        for tensor in self.outputs:
            if tensor not in made:
                raise GraphError(f"{self.name}: the output {tensor} is made by no op")
        for tensor, reading in zip(self.outputs, self.readings, strict=bool(self.readings)):
            if reading is not None and len(reading.scale) != tensor.shape[0]:
                raise GraphError(f"{tensor}: a reading of {len(reading.scale)} channels; give one pair per channel")

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    @cached_property
    def inputs(self) -> tuple[Op, ...]:
        """The ops that read nothing: where data enters."""
        return tuple(op for op in self.ops if not op.inputs)

    @cached_property
    def bounds(self) -> dict[Tensor, Bounds]:
        """What every tensor can reach, by interval arithmetic from the inputs."""
        reach: dict[Tensor, Bounds] = {}
        for op in self.ops:
            reach[op.output] = op.bounds(*(reach[t] for t in op.inputs))
        return reach

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that has a meaning; the notes have none."""
        text = hashlib.sha256(self.name.encode())
        for op in self.ops:
            text.update(repr(op).encode())
            for const in op.constants.values():
                text.update(repr(const.codes.ravel().tolist()).encode())
        text.update(repr(self.outputs).encode())
        if self.readings:
            text.update(repr(self.readings).encode())
        return text.hexdigest()

    def reading(self, tensor: Tensor) -> Reading | None:
        """What the values of an output stand for; None: for themselves, as those of any other tensor."""
        return dict(zip(self.outputs, self.readings, strict=False)).get(tensor)

    def producer(self, tensor: Tensor) -> Op:
        return self._producers[tensor]

    @cached_property
    def _producers(self) -> dict[Tensor, Op]:
        return {op.output: op for op in self.ops}

    def consumers(self, tensor: Tensor) -> tuple[Op, ...]:
        return tuple(op for op in self.ops if tensor in op.inputs)

    def sole_consumer(self, tensor: Tensor) -> Op | None:
        """The one op that reads ``tensor``, or None where there are several or the tensor leaves the graph."""
        readers = self.consumers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def verify(self) -> Graph:
        """Check every op's law on what its inputs can reach. Returns self, so that it chains."""
        for op in self.ops:
            op.verify(*(self.bounds[t] for t in op.inputs))
            reach = self.bounds[op.output]
            if reach.low.shape != op.output.shape:
                raise op.fail(f"bounds of shape {reach.low.shape} for a tensor of shape {op.output.shape}")
            if not reach.inside(op.output.format):
                low, high = reach.range
                raise op.fail(f"reaches codes from {low} to {high}, which {op.output.format} does not hold; widen it")
        return self

    def trace(self, *codes: ArrayLike) -> dict[str, Codes]:
        """Every tensor's codes by name, for input codes of shape (batch, \\*shape)."""
        if len(codes) != len(self.inputs):
            raise GraphError(f"{self.name}: takes {len(self.inputs)} inputs, got {len(codes)}")
        known: dict[Tensor, Codes] = {}
        fed = iter(codes)
        for op in self.ops:
            known[op.output] = op.eval(*(known[t] for t in op.inputs)) if op.inputs else op.eval(as_codes(next(fed)))
        return {tensor.name: value for tensor, value in known.items()}

    def eval(self, *codes: ArrayLike) -> Codes:
        """The codes of the (first) output."""
        return self.trace(*codes)[self.outputs[0].name]

    def rebuilt(self, ops: Iterable[Op], replacement: Mapping[Tensor, Tensor], note: str | None = None) -> Graph:
        """A graph of ``ops`` where readers of a replaced tensor, and the outputs, follow the replacement.

        Chains of replacements are followed, so a pass may replace a tensor that itself replaced another.
        """

        def final(tensor: Tensor) -> Tensor:
            while tensor in replacement:
                tensor = replacement[tensor]
            return tensor

        settled = {old: final(old) for old in replacement}
        return Graph(
            self.name,
            tuple(op.rewired(settled) for op in ops),
            tuple(final(t) for t in self.outputs),
            (*self.notes, note) if note else self.notes,
            self.readings,
        )

    def __str__(self) -> str:
        return "\n".join(
            f"{op.output} = {type(op).__name__}({', '.join(t.name for t in op.inputs)})" for op in self.ops
        )
