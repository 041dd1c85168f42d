/// \file
/// The largest element of each window.

#ifndef QAPSULE_MAX_POOL_H
#define QAPSULE_MAX_POOL_H

#include "numbers.h"
#include "pragmas.h"
#include "window.h"

namespace qapsule {

/// y = the largest element of every window of every channel; padding never wins. One position per cycle for all
/// channels, so that II = Rows::positions * Columns::positions; Rows::kernel * Columns::kernel - 1 comparisons per
/// channel, no multiplier.
template <class Rows, class Columns, class X, class Y, int N, int M>
void max_pool(const X (&x)[N], Y (&y)[M]) {
    constexpr int channels = N / (Rows::size * Columns::size);
    static_assert(N == channels * Rows::size * Columns::size, "qapsule::max_pool: x must be channels of whole axes");
    static_assert(M == channels * Rows::positions * Columns::positions,
                  "qapsule::max_pool: y must have an element for each position of each channel");
    QAPSULE_PARTITION(y, 0)
    QAPSULE_PIPELINED(rows, 1)
    for (int row = 0; row < Rows::positions; ++row) {
        QAPSULE_PIPELINED(columns, 1)
        for (int column = 0; column < Columns::positions; ++column) {
            QAPSULE_PIPELINE(1)
            QAPSULE_UNROLLED(channels)
            for (int c = 0; c < channels; ++c) {
                QAPSULE_UNROLL
                X largest = X(0);
                bool any = false;
                QAPSULE_UNROLLED(tap_rows)
                for (int i = 0; i < Rows::kernel; ++i) {
                    QAPSULE_UNROLL
                    QAPSULE_UNROLLED(tap_columns)
                    for (int j = 0; j < Columns::kernel; ++j) {
                        QAPSULE_UNROLL
                        if (Rows::inside(row, i) && Columns::inside(column, j)) {
                            const X& read = x[(c * Rows::size + Rows::element(row, i)) * Columns::size +
                                              Columns::element(column, j)];
                            largest = any ? select(read > largest, read, largest) : read;
                            any = true;
                        }
                    }
                }
                y[(c * Rows::positions + row) * Columns::positions + column] = Y(largest);
            }
        }
    }
}

}  // namespace qapsule

#endif  // QAPSULE_MAX_POOL_H
