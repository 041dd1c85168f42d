/// \file
/// Any function of a narrow number, read from a memory.

#ifndef QAPSULE_TABLE_H
#define QAPSULE_TABLE_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

/// y = entries[code of x - LOW], element i from table i * TABLES / N: one table for all, or one per channel. Every code
/// that x can be has an entry. II = 1, unrolled; no multiplier. Each element reads a memory of its own, so that the tool
/// stores a table as often as its reading ports ask for.
template <long long LOW, class X, class Y, class E, int N, int TABLES, int CODES>
void table(const X (&x)[N], Y (&y)[N], const E (&entries)[TABLES][CODES]) {
    static_assert(N % TABLES == 0, "qapsule::table: there must be one table, or one for each channel");
    QAPSULE_PIPELINE(1)
    QAPSULE_PARTITION(entries, 1)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        y[i] = look_up<LOW, Y>(entries[i / (N / TABLES)], x[i]);
    }
}

}  // namespace qapsule

#endif  // QAPSULE_TABLE_H
