"""How the constants of a design are stored where they are not simply tables in its source.

Either they stand there as codes, three times over, behind a voter; or they are no part of it, but words that are
loaded while it runs, once or three times. A word is a code in two's complement, cut off at the width of its format; an
entry with indices is several. ``voter.h`` makes the tables that the kernels read out of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.firmware.tables import IndexType, Parts, Table, TypeName, table_of
from export.ir import Graph, GraphError, Op

#: Widths that C++ has words of.
_WORDS = {8: "unsigned char", 16: "unsigned short", 32: "unsigned int", 64: "unsigned long long"}

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


@dataclass(frozen=True)
class Stored:
    """``table`` as the kernel knows it, and ``words``, (entries, fields), what each of the ``names`` holds of it."""

    table: Table
    words: Table
    codes: NDArray[np.uint64] = field(compare=False)
    redundant: bool
    loaded: bool

    @property
    def names(self) -> tuple[str, ...]:
        """What holds the words: three copies, or one."""
        if not self.redundant:
            return (self.table.name,)
        return tuple(f"{self.table.name}_copy{number}" for number in range(COPIES))

    @property
    def places(self) -> tuple[str, ...]:
        """The same as the top-level function says it."""
        return tuple(f"weights.{name}" for name in self.names) if self.loaded else self.names


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


def stored(op: Op, name: str, parts: Parts, redundant: bool, loaded: bool) -> Iterator[Stored]:
    """Every table of ``op``, whose identifier is ``name``; none where they are simply part of the source."""
    if not op.constants or not (redundant or loaded):
        return
    types = {kind.name: kind for kind in parts.types}
    for each, (kind, entries) in parts.entries.items():
        table = table_of(f"{name}_{each}", kind, entries)
        rows = [_words(kind, str(entry), types) for entry in entries.ravel()]
        bits = max(width for row in rows for _, width in row)
        word = next(spelled for width, spelled in _WORDS.items() if bits <= width)
        codes = np.array([[code for code, _ in row] for row in rows], dtype=np.uint64)
        text = np.array([[f"{code}{'ULL' if bits > 32 else 'U'}" for code in row] for row in codes.tolist()])
        yield Stored(table, table_of(table.name, word, text), codes, redundant, loaded)


def derived(op: Op) -> Iterator[str]:
    """What is appended to the identifier of a protected op."""
    for each in (*op.constants, "entries", "taps", "unit", "used"):
        yield from (f"_{each}_copy{number}" for number in range(COPIES))


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
    fmt = kind.format
    return int(math.ldexp(float(literal), fmt.frac)) % (1 << fmt.width), fmt.width

