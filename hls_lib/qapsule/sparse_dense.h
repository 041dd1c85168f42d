/// \file
/// Fully connected layers of which only the non-zero weights exist.

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

/// y = weight x + bias in R steps of ceil(NNZ / R) multipliers; II = R, any 1 <= R <= NNZ.
///
/// The entries are sorted so that each output meets its inputs in ascending order (by row, then column, is one such
/// order and the fast one in software); then the meaning is that of `dense`. At R = 1 every index is a constant, and
/// the layer is wires and one multiplier per non-zero weight; else an index selects among inputs and accumulators.
template <int R, class X, class Acc, class W, class Row, class Col, class B, int N_IN, int N_OUT, int NNZ>
void sparse_dense(const X (&x)[N_IN], Acc (&y)[N_OUT], const coo<W, Row, Col> (&entries)[NNZ], const B (&bias)[N_OUT]) {
    static_assert(R >= 1 && R <= NNZ,
                  "qapsule::sparse_dense: the reuse factor R must lie between 1 and the number of non-zero weights");
    constexpr int multipliers = (NNZ + R - 1) / R;
    QAPSULE_PARTITION(y, 0)
    QAPSULE_PARTITION(bias, 0)
    QAPSULE_PACK(entries)
    QAPSULE_UNROLLED(biases)
    for (int j = 0; j < N_OUT; ++j) {
        QAPSULE_UNROLL
        y[j] = Acc(bias[j]);
    }
    QAPSULE_PIPELINED(steps, 1)
    for (int first = 0; first < NNZ; first += multipliers) {
        QAPSULE_PIPELINE(1)
        QAPSULE_UNROLLED(products)
        for (int m = 0; m < multipliers; ++m) {
            QAPSULE_UNROLL
            // The last step may find fewer weights left than there are multipliers.
            if (first + m < NNZ) {
                const coo<W, Row, Col>& entry = entries[first + m];
                y[entry.col] = multiply_add(y[entry.col], x[entry.row], entry.weight);
            }
        }
    }
}

}  // namespace qapsule

#endif  // QAPSULE_SPARSE_DENSE_H
