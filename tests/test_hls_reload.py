"""Tables that are filled from the words on a bus: every kind of entry, on every number type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cxx import AC, AP, OWN, Flavour, build, codes_of, run

from compress.fixed import FixedPoint

FORMATS = FixedPoint(1, 0), FixedPoint(6, 2), FixedPoint(8, -3, False), FixedPoint(32, 7), FixedPoint(33, 7, False), \
    FixedPoint(64, 70)  # fmt: skip

RELOAD = """
#include "qapsule/conv.h"
#include "qapsule/sparse_dense.h"
#include "qapsule/voter.h"
typedef {number} number;
typedef {word} word;
enum : int {{ WORDS = 6 * ({fields}) * (sizeof(word) > 4 ? 2 : 1), SKIPPED = 3 }};
static {table};
static volatile word copy[6][{fields}];
int main() {{
    static unsigned int bus[SKIPPED + WORDS];
    for (int i = 0; i < SKIPPED; ++i) bus[i] = 0xdeadbeefU;
    for (int i = 0; i < WORDS; ++i) bus[SKIPPED + i] = static_cast<unsigned int>(get());
    qapsule::reload<SKIPPED, word>(bus, table);
    qapsule::reload_copy<SKIPPED, word>(bus, copy);
    for (int i = 0; i < 6; ++i) {{
        std::uint64_t code;
        unpack({entry}, &code);
        put(code);
        for (int k = 0; k < {fields}; ++k) put(copy[i][k]);
        {indices}
    }}
}}
"""
COO = "put(table[i / 3][i % 3].row); put(table[i / 3][i % 3].col);"
SHAPES = {
    "list": ("number table[6]", 1, "table[i]", ""),
    "rows": ("number table[2][3]", 1, "table[i / 3][i % 3]", ""),
    "column": ("number table[6][1]", 1, "table[i][0]", ""),
    "entries": ("qapsule::coo<number> table[2][3]", 3, "table[i / 3][i % 3].weight", COO),
    "taps": ("qapsule::tap<number, unsigned short> table[6]", 2, "table[i].weight", "put(table[i].input);"),
}


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("flavour", [OWN, AP, AC], ids=lambda flavour: flavour.name)
def test_a_table_is_what_the_words_say(tmp_path: Path, flavour: Flavour, fmt: FixedPoint) -> None:
    # The kinds of entries are the same code for every format: one format sees them all.
    for shape in SHAPES if fmt.width == 33 else ["list", "rows"]:
        table, fields, entry, indices = SHAPES[shape]
        word = "unsigned long long" if fmt.width > 32 else "unsigned int"
        source = RELOAD.format(
            number=flavour.spell(fmt), word=word, table=table, fields=fields, entry=entry, indices=indices
        )
        program = build(source, tmp_path / shape, flavour)
        rng = np.random.default_rng(1)
        given = rng.integers(0, 1 << 9, size=(6, fields), dtype=np.uint64)
        given[:, -1] = rng.integers(0, 1 << 64, size=6, dtype=np.uint64) & np.uint64((1 << fmt.width) - 1)
        halves = [given, given >> np.uint64(32)] if fmt.width > 32 else [given]
        words = np.stack(halves, axis=2).ravel() & np.uint64(2**32 - 1)
        made = run(program, words).reshape(6, -1)
        assert np.array_equal(codes_of(made[:, 0], fmt), codes_of(given[:, -1], fmt))
        assert np.array_equal(made[:, 1 : fields + 1], given)
        assert np.array_equal(made[:, fields + 1 :], given[:, :-1])
