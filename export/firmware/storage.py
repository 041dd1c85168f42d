"""How the constants of a design are stored where they are not simply tables in its source.

Either they stand there as codes, three times over, behind a voter; or they are words that are loaded while it runs,
once or three times. A word is a code in two's complement, cut off at the width of its format; an entry with indices is
several. ``voter.h`` makes the tables that the kernels read out of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.firmware.tables import IndexType, Parts, Table, TypeName, table_of
from export.ir import Graph, GraphError, Op

#: Widths that C++ has words of.
_WORDS = {8: "unsigned char", 16: "unsigned short", 32: "unsigned int", 64: "unsigned long long"}

#: Bits of a word on a bus.
_BUS = 32

COPIES = 3


class Weights(Enum):
    """Whether the constants of a design are part of it, or words that are loaded into it."""

    CONSTANT = "constant"
    RELOADABLE = "reloadable"

    @classmethod
    def of(cls, given: Weights | str) -> Weights:
        """The member, from itself or from its value. Raises ValueError for anything else, listing those there are."""
        try:
            return cls(given)
        except ValueError:
            known = " or ".join(repr(each.value) for each in cls)
            raise ValueError(f"there are no weights={given!r}; choose {known}") from None


class Delivery(Enum):
    """How the words of a design come to it.

    ``WIRES``: from registers outside, all of them at any time; the design reads them with each sample. ``BUS``: one
    after the other when it is told to load; it has tables of its own, which begin with the constants of its network.
    """

    WIRES = "wires"
    BUS = "bus"


@dataclass(frozen=True)
class Stored:
    """``table`` as the kernel knows it, and ``words``, (entries, fields), what each of the ``names`` holds of it.

    ``places`` are those names as the function says them that reads them.
    """

    table: Table
    words: Table
    codes: NDArray[np.uint64] = field(compare=False)
    redundant: bool
    delivery: Delivery | None
    names: tuple[str, ...]
    places: tuple[str, ...]

    @property
    def is_outside(self) -> bool:
        """Whether the source has nothing of it."""
        return self.delivery is Delivery.WIRES

    @property
    def is_written(self) -> bool:
        """Whether the design writes what stands in its source."""
        return self.delivery is Delivery.BUS

    @property
    def is_assembled(self) -> bool:
        """Whether the table is made of the words with each sample, and is else no memory of its own."""
        return self.redundant or self.is_outside

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """How a process gets the words, where they are outside."""
        if not self.is_outside:
            return ()
        return tuple(
            Argument(f"const {self.words.type} (&{name}_words){self.words.suffix}", f"weights.{name}")
            for name in self.names
        )


@dataclass(frozen=True)
class Argument:
    """Of a function within the design: its declaration, and what the top-level function gives."""

    declaration: str
    value: str


#: Of whatever has constants on a bus: whether to take them now.
LOAD = Argument("bool load", "load")


def in_order(arguments: Iterable[Argument]) -> tuple[Argument, ...]:
    """Each once, and whether to load behind what is loaded."""
    return tuple(sorted(dict.fromkeys(arguments), key=lambda argument: argument == LOAD))


@dataclass(frozen=True)
class Load:
    """Words of a bus, from ``first`` on, that are written to ``target``: a copy of codes, or else a table itself."""

    target: str
    stored: Stored
    first: int
    words: NDArray[np.uint32] = field(compare=False)

    @property
    def end(self) -> int:
        return self.first + len(self.words)

    @property
    def contents(self) -> str:
        """What a word is, or the words of an entry in their order."""
        fields = ("a code", "an index, then its code", "a row, a column, then a code")[self.stored.codes.shape[1] - 1]
        halves = len(self.words) > self.stored.codes.size
        return f"{fields}; each in two words, the lower half first" if halves else fields

    @property
    def call(self) -> str:
        """The kernel, with what it is instantiated with."""
        return f"{'reload_copy' if self.stored.redundant else 'reload'}<{self.first}, {self.stored.words.type}>"


def loads(stored: Iterable[Stored]) -> Iterator[Load]:
    """What is taken from the words on the bus of one layer, in their order; a code beyond 32 bits is two of them."""
    first = 0
    for each in stored:
        halves = [each.codes.ravel()]
        if each.words.type == _WORDS[2 * _BUS]:
            halves.append(halves[0] >> np.uint64(_BUS))
        words = (np.stack(halves, axis=1).ravel() & np.uint64(2**_BUS - 1)).astype(np.uint32)
        for name in each.names if each.is_written else ():
            yield (load := Load(name, each, first, words))
            first = load.end


def protected(graph: Graph, tmr: bool | Collection[str]) -> frozenset[str]:
    """The names of the layers whose constants are stored three times: all that have any, or those listed.

    Raises GraphError for a layer that is not there, or has none.
    """
    candidates = [op.name for op in graph if op.constants]
    if isinstance(tmr, bool):
        return frozenset(candidates if tmr else ())
    asked = (tmr,) if isinstance(tmr, str) else tuple(tmr)
    for name in asked:
        if name not in candidates:
            raise GraphError(
                f"{graph.name}: tmr names {name!r}, which is no layer with constants; those are "
                f"{', '.join(map(repr, candidates)) or 'none'}"
            )
    return frozenset(asked)


def stored(
    op: Op, name: str, parts: Parts, redundant: bool, delivery: Delivery | None, streamed: bool
) -> Iterator[Stored]:
    """Every table of ``op``, whose identifier is ``name``; none where they are simply part of the source."""
    if not op.constants or not (redundant or delivery):
        return
    types = {kind.name: kind for kind in parts.types}
    for each, (kind, entries) in parts.entries.items():
        table = table_of(f"{name}_{each}", kind, entries)
        rows = [_words(kind, str(entry), types) for entry in entries.ravel()]
        bits = max(width for row in rows for _, width in row)
        word = next(spelled for width, spelled in _WORDS.items() if bits <= width)
        codes = np.array([[code for code, _ in row] for row in rows], dtype=np.uint64)
        text = np.array([[f"{code}{'ULL' if bits > 32 else 'U'}" for code in row] for row in codes.tolist()])
        names = tuple(f"{table.name}_copy{k}" for k in range(COPIES)) if redundant else (table.name,)
        places = names
        if delivery is Delivery.WIRES:  # a process is given those of its own
            places = tuple(f"{each}_words" if streamed else f"weights.{each}" for each in names)
        yield Stored(table, table_of(table.name, word, text), codes, redundant, delivery, names, places)


def derived(op: Op, redundant: bool, delivery: Delivery | None) -> Iterator[str]:
    """What is appended to the identifier of an op whose constants are stored in one of these ways."""
    copies = [f"_copy{number}" for number in range(COPIES)] if redundant else []
    for each in (*op.constants, "entries", "taps", "unit", "used"):
        yield from (f"_{each}{copy}" for copy in copies)
        if delivery is Delivery.WIRES:
            yield from (f"_{each}{copy}_words" for copy in copies or [""])
    if delivery is Delivery.BUS:
        yield from ("_words", "_layer")


def _words(kind: str, entry: str, types: dict[str, TypeName]) -> list[tuple[int, int]]:
    """Code and width of each field of an entry, which is a literal, or some in braces, the weight last."""
    if not entry.startswith("{"):
        return [_word(types.get(kind), entry)]
    weight, *indices = kind.partition("<")[2].rstrip(">").split(", ")
    fields = entry.strip("{}").split(", ")
    return [_word(types.get(k), literal) for k, literal in zip((*indices, weight), fields, strict=True)]


def _word(kind: Any, literal: str) -> tuple[int, int]:
    if kind is None:  # a word of C++ already
        return int(literal.rstrip("u"), 0), 32
    if isinstance(kind, IndexType):
        return int(literal), kind.bits
    if kind.digit and not kind.digit.has_zeros:
        return int(float(literal) > 0), kind.digit.bits
    fmt = kind.format
    return int(math.ldexp(float(literal), fmt.frac)) % (1 << fmt.width), fmt.width
