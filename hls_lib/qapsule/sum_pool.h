/// \file
/// The sum of each window, weighted: averages, whose divisors are elsewhere.

#ifndef QAPSULE_SUM_POOL_H
#define QAPSULE_SUM_POOL_H

#include "numbers.h"
#include "pragmas.h"
#include "window.h"

namespace qapsule {

/// y = Y(Sum(x + x + ...) * weight) over every window of every channel; padding reads zero. There is a weight for each
/// position, or one for all; one whose code is 1 is a place of the binary point and no multiplier. Sum holds the sum of
/// any part of a window. One position per cycle for all channels: II = Rows::positions * Columns::positions.
template <class Rows, class Columns, class Sum, class X, class Y, class W, int N, int M, int WEIGHTS>
void sum_pool(const X (&x)[N], Y (&y)[M], const W (&weight)[WEIGHTS]) {
    constexpr int channels = N / (Rows::size * Columns::size);
    static_assert(N == channels * Rows::size * Columns::size, "qapsule::sum_pool: x must be channels of whole axes");
    static_assert(M == channels * Rows::positions * Columns::positions,
                  "qapsule::sum_pool: y must have an element for each position of each channel");
    static_assert(WEIGHTS == 1 || WEIGHTS == Rows::positions * Columns::positions,
                  "qapsule::sum_pool: there must be one weight, or one for each position");
    QAPSULE_PARTITION(y, 0)
    QAPSULE_PIPELINED(rows, 1)
    for (int row = 0; row < Rows::positions; ++row) {
        QAPSULE_PIPELINED(columns, 1)
        for (int column = 0; column < Columns::positions; ++column) {
            QAPSULE_PIPELINE(1)
            const W& share = weight[WEIGHTS == 1 ? 0 : row * Columns::positions + column];
            QAPSULE_UNROLLED(channels)
            for (int c = 0; c < channels; ++c) {
                QAPSULE_UNROLL
                Sum sum = Sum(0);
                QAPSULE_UNROLLED(tap_rows)
                for (int i = 0; i < Rows::kernel; ++i) {
                    QAPSULE_UNROLL
                    QAPSULE_UNROLLED(tap_columns)
                    for (int j = 0; j < Columns::kernel; ++j) {
                        QAPSULE_UNROLL
                        if (Rows::inside(row, i) && Columns::inside(column, j)) {
                            sum = Sum(sum + x[(c * Rows::size + Rows::element(row, i)) * Columns::size +
                                              Columns::element(column, j)]);
                        }
                    }
                }
                y[(c * Rows::positions + row) * Columns::positions + column] = Y(sum * share);
            }
        }
    }
}

}  // namespace qapsule

#endif  // QAPSULE_SUM_POOL_H
