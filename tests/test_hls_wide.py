"""Packets in memory words: the documented layout, written down again in Python, against the kernel's processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cxx import AP, build, run

from compress.fixed import FixedPoint

BITS = 512

PROGRAM = """
#include <vector>
#include "qapsule/wide.h"
typedef TYPE T;
typedef hls::stream<qapsule::wide<BITS> > words;
int main() {
    const int samples = int(get());
    const int count = qapsule::layout<BITS, T, N>::total(samples * P);
    std::vector<qapsule::wide<BITS> > memory(count), again(count);
    for (auto& word : memory) for (int i = 0; i < BITS; i += 64) word.range(i + 63, i) = ap_uint<64>(get());
    words in("in"), dealt("dealt"), given("given"), out("out");
    hls::stream<qapsule::packet<T, N> > whole("whole");
    qapsule::load<T, N, P>(memory.data(), in, samples);
    qapsule::deal<T, N, P>(in, dealt, samples);
    if (STREAMS) {
        qapsule::enter<P>(dealt, whole, samples);
        for (int n = 0; n < samples * P; ++n) {
            const qapsule::packet<T, N> next = whole.read();
            for (int j = 0; j < N; ++j) put(next.data[j].range().to_uint64());
            whole.write(next);
        }
        qapsule::leave<P>(whole, given, samples);
    } else {
        for (int n = 0; n < samples * P; ++n) {
            T x[N];
            qapsule::take(dealt, x);
            for (int j = 0; j < N; ++j) put(x[j].range().to_uint64());
            qapsule::give(x, given);
        }
    }
    qapsule::gather<T, N, P>(given, out, samples);
    qapsule::store<T, N, P>(out, again.data(), samples);
    for (const auto& word : again)
        for (int i = 0; i < BITS; i += 64) put(ap_uint<64>(word.range(i + 63, i)).to_uint64());
    return in.empty() && dealt.empty() && whole.empty() && given.empty() && out.empty() ? 0 : 1;
}
"""


def packed(codes: np.ndarray, width: int) -> list[int]:
    """Memory words for codes of shape (packets, elements), as the header's first paragraph says."""
    packets, elements = codes.shape
    per_word = BITS // width
    sharing, words = (per_word // elements, 1) if elements <= per_word else (1, -(-elements // per_word))
    memory = [0] * (-(-packets // sharing) * words)
    for n, i in np.ndindex(packets, elements):
        if elements <= per_word:
            word, bit = n // sharing, (n % sharing * elements + i) * width
        else:
            word, bit = n * words + i // per_word, i % per_word * width
        memory[word] |= (int(codes[n, i]) & (1 << width) - 1) << bit
    return memory


def limbs(words: list[int]) -> list[int]:
    return [word >> shift & (1 << 64) - 1 for word in words for shift in range(0, BITS, 64)]


@pytest.mark.parametrize(
    ("fmt", "elements", "packets", "samples"),
    [
        (FixedPoint(8, 5), 16, 1, 9),  # four samples in a word, a quarter of the last
        (FixedPoint(7, 2), 5, 3, 10),  # fourteen in a word, bits to spare
        (FixedPoint(1, 0, signed=False), 512, 1, 3),  # a word exactly
        (FixedPoint(1, 0, signed=False), 1, 700, 1),  # 512 in a word
        (FixedPoint(6, 3), 85, 1, 2),  # one in a word
        (FixedPoint(6, 3), 86, 3, 1),  # two words, the second with one element
        (FixedPoint(64, 10), 17, 1, 2),  # three words
        (FixedPoint(37, 40, signed=False), 13, 4, 1),  # odd, a word
        (FixedPoint(37, 40), 14, 2, 2),  # odd, two words
    ],
)
def test_words_hold_packets_as_documented(
    fmt: FixedPoint, elements: int, packets: int, samples: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(elements)
    codes = rng.integers(fmt.min_code, fmt.max_code, size=(samples * packets, elements), dtype=np.int64, endpoint=True)
    expected, owned = packed(codes, fmt.width), packed(np.full(codes.shape, -1), fmt.width)
    # Bits that belong to nobody hold garbage on the way in, and zeros on the way out.
    garbage = [word | ~owner & int(rng.integers(1 << 62)) << 450 for word, owner in zip(expected, owned, strict=True)]
    constants = f"enum {{ BITS = {BITS}, N = {elements}, P = {packets}, STREAMS = {int(packets > 1)} }};\n"
    program = build(constants + PROGRAM.replace("TYPE", AP.spell(fmt)), tmp_path / "wide", AP)
    words = run(program, np.array([samples, *limbs(garbage)], dtype=np.uint64))
    got, memory = words[: codes.size], words[codes.size :]
    assert got.tolist() == [int(c) & (1 << fmt.width) - 1 for c in codes.ravel()]
    assert memory.tolist() == limbs(expected)
