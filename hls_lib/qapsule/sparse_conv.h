/// \file
/// Convolutions over one or two spatial axes of which only the non-zero weights exist.
///
/// With all of them at once that is `conv` (conv.h), which leaves out zeros by itself.

#ifndef QAPSULE_SPARSE_CONV_H
#define QAPSULE_SPARSE_CONV_H

#include "conv.h"
#include "numbers.h"
#include "pragmas.h"
#include "sparse_dense.h"

namespace qapsule {

/// R steps of MULTIPLIERS entries each at every position: II = R times the positions.
///
/// At each position this is `sparse_dense_reuse` (sparse_dense.h), with an accumulator for each output; the entries of an
/// output stand in the order of its inputs. A row counts what the taps read, tap by tap within a channel and channel by
/// channel of all that there are, so that groups need no arithmetic.
template <class Rows, class Columns, int R, int SIDE_BY_SIDE = 1, class X, class Acc, class W, class Row, class Col,
          class B, int N, int M, int N_OUT, int MULTIPLIERS>
void sparse_conv(const X (&x)[N], Acc (&y)[M], const coo<W, Row, Col> (&entries)[R][MULTIPLIERS],
                 const B (&bias)[N_OUT]) {
    constexpr int positions = Rows::positions * Columns::positions;
    constexpr int channels = N / (Rows::size * Columns::size);
    static_assert(N == channels * Rows::size * Columns::size,
                  "qapsule::sparse_conv: x must be channels of whole axes");
    static_assert(M == N_OUT * positions,
                  "qapsule::sparse_conv: y must have an element for each position of each channel");
    static_assert(SIDE_BY_SIDE >= 1 && SIDE_BY_SIDE <= MULTIPLIERS && SIDE_BY_SIDE <= N_OUT,
                  "qapsule::sparse_conv: as many entries side by side have different outputs as a step has entries, and "
                  "as there are outputs, at most");
    constexpr int rest = MULTIPLIERS % SIDE_BY_SIDE;
    QAPSULE_PARTITION(y, 0)
    QAPSULE_PARTITION(bias, 0)
    // First the fields of an entry become one number (or else each field an array of its own), then those of a step.
    QAPSULE_PACK(entries)
    QAPSULE_RESHAPE(entries, 2)
    X read[channels * Rows::kernel * Columns::kernel];
    QAPSULE_PARTITION(read, 0)
    Acc acc[N_OUT];
    QAPSULE_PARTITION(acc, 0)
    detail::position at = {0, 0};
    int step = 0;
    QAPSULE_PIPELINED(steps, 1)
    for (int cycle = 0; cycle < positions * R; ++cycle) {
        QAPSULE_PIPELINE(1)
        if (step == 0) {
            detail::read_window<Rows, Columns, channels>(x, read, 0, at);
            QAPSULE_UNROLLED(biases)
            for (int j = 0; j < N_OUT; ++j) {
                QAPSULE_UNROLL
                acc[j] = Acc(bias[j]);
            }
        }
        QAPSULE_UNROLLED(groups)
        for (int first = 0; first + SIDE_BY_SIDE <= MULTIPLIERS; first += SIDE_BY_SIDE) {
            QAPSULE_UNROLL
            detail::add_entries<SIDE_BY_SIDE>(read, acc, entries[step], first);
        }
        if (rest != 0) detail::add_entries<rest != 0 ? rest : 1>(read, acc, entries[step], MULTIPLIERS - rest);
        ++step;
        if (step == R) {
            QAPSULE_UNROLLED(results)
            for (int j = 0; j < N_OUT; ++j) {
                QAPSULE_UNROLL
                y[j * positions + at.row * Columns::positions + at.column] = acc[j];
            }
            step = 0;
            at = detail::behind<Columns>(at);
        }
    }
}

}  // namespace qapsule

#endif  // QAPSULE_SPARSE_CONV_H
