/// \file
/// Fully connected layers of which only the non-zero weights exist.
///
/// The entries stand so that each output meets its inputs in ascending order; then the meaning is that of `dense`.

#ifndef QAPSULE_SPARSE_DENSE_H
#define QAPSULE_SPARSE_DENSE_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

/// A non-zero weight with its place beside it: it multiplies input `row` and adds to output `col`. The index types are
/// whatever the design can spell narrowest (ap_uint<6>, ac_int<6, false>; in software an unsigned short).
template <class W, class Row = unsigned short, class Col = Row>
struct coo {
    Row row;
    Col col;
    W weight;
};

namespace detail {

/// The entries `first` to `first + COUNT` - 1 of a step, all of different outputs: every accumulator is read before any
/// is written, so that a tool sees additions side by side and not one after the other.
template <int COUNT, class X, class Acc, class W, class Row, class Col, int N_IN, int N_OUT, int M>
void add_entries(const X (&x)[N_IN], Acc (&y)[N_OUT], const coo<W, Row, Col> (&entries)[M], int first) {
    QAPSULE_INLINE
    Acc sums[COUNT];
    QAPSULE_PARTITION(sums, 0)
    QAPSULE_UNROLLED(products)
    for (int m = 0; m < COUNT; ++m) {
        QAPSULE_UNROLL
        const coo<W, Row, Col>& entry = entries[first + m];
        sums[m] = multiply_add(y[entry.col], x[entry.row], entry.weight);
    }
    QAPSULE_UNROLLED(results)
    for (int m = 0; m < COUNT; ++m) {
        QAPSULE_UNROLL
        y[entries[first + m].col] = sums[m];
    }
}

}  // namespace detail

/// Fully parallel: II = 1. All loops are unrolled, so that every index is a constant, and the layer is wires and one
/// multiplier for each of the NNZ weights. The entries stand by column, then row: of no interest to hardware, but the
/// order that software is fast in, and takes for granted.
template <class X, class Acc, class W, class Row, class Col, class B, int N_IN, int N_OUT, int NNZ>
void sparse_dense(const X (&x)[N_IN], Acc (&y)[N_OUT], const coo<W, Row, Col> (&entries)[NNZ], const B (&bias)[N_OUT]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_PARTITION(y, 0)
    QAPSULE_PARTITION(entries, 0)
    QAPSULE_PARTITION(bias, 0)
    QAPSULE_UNROLLED(biases)
    for (int j = 0; j < N_OUT; ++j) {
        QAPSULE_UNROLL
        y[j] = Acc(bias[j]);
    }
    QAPSULE_UNROLLED(products)
    for (int k = 0; k < NNZ; ++k) {
        QAPSULE_UNROLL
        const coo<W, Row, Col>& entry = entries[k];
        y[entry.col] = multiply_add(y[entry.col], x[entry.row], entry.weight);
    }
}

/// R steps of M entries each, M multipliers: II = R, y is complete after R cycles plus the depth of the pipeline.
///
/// Step r reads entries[r], one memory word; places that are left over hold a weight of zero, which changes no sum in
/// any mode. An index selects among inputs and accumulators. At II = 1 what a step adds must stand in the accumulators
/// when the next one reads them, which leaves a cycle for a multiplexer and an adder; products are computed ahead. A
/// tool cannot know that two indices differ. SIDE_BY_SIDE consecutive entries of a step (the last ones may be fewer)
/// must be of different outputs, those with a weight of zero too, and are added at once; such groups of a step are
/// added one after the other, so that the fewer there are the faster a clock can be. With 1 any order is allowed.
template <int R, int SIDE_BY_SIDE = 1, class X, class Acc, class W, class Row, class Col, class B, int N_IN, int N_OUT,
          int M>
void sparse_dense_reuse(const X (&x)[N_IN], Acc (&y)[N_OUT], const coo<W, Row, Col> (&entries)[R][M],
                        const B (&bias)[N_OUT]) {
    static_assert(SIDE_BY_SIDE >= 1 && SIDE_BY_SIDE <= M && SIDE_BY_SIDE <= N_OUT,
                  "qapsule::sparse_dense_reuse: as many entries side by side have different outputs as a step has "
                  "entries, and as there are outputs, at most");
    constexpr int rest = M % SIDE_BY_SIDE;
    QAPSULE_PARTITION(y, 0)
    QAPSULE_PARTITION(bias, 0)
    // First the fields of an entry become one number (or else each field an array of its own), then those of a step.
    QAPSULE_PACK(entries)
    QAPSULE_RESHAPE(entries, 2)
    QAPSULE_UNROLLED(biases)
    for (int j = 0; j < N_OUT; ++j) {
        QAPSULE_UNROLL
        y[j] = Acc(bias[j]);
    }
    QAPSULE_PIPELINED(steps, 1)
    for (int r = 0; r < R; ++r) {
        QAPSULE_PIPELINE(1)
        QAPSULE_UNROLLED(groups)
        for (int first = 0; first + SIDE_BY_SIDE <= M; first += SIDE_BY_SIDE) {
            QAPSULE_UNROLL
            detail::add_entries<SIDE_BY_SIDE>(x, y, entries[r], first);
        }
        if (rest != 0) detail::add_entries<rest != 0 ? rest : 1>(x, y, entries[r], M - rest);
    }
}

}  // namespace qapsule

#endif  // QAPSULE_SPARSE_DENSE_H
