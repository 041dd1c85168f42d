/// \file
/// Sparse layers of software emulation.
///
/// Where every index is a constant a compiler does what a synthesis tool does: no index is left, a weight becomes shifts
/// and additions or an immediate, a sum stays in a register. Its time grows faster than the number of weights, though.

#ifndef QAPSULE_SPARSE_LANES_H
#define QAPSULE_SPARSE_LANES_H

#include "fixed.h"
#include "sparse_dense.h"

// In front of a loop: it is unrolled whole, whatever its size.
#if defined(__clang__)
#define QAPSULE_UNROLLED_WHOLE _Pragma("clang loop unroll(full)")
#else
#define QAPSULE_UNROLLED_WHOLE _Pragma("GCC unroll 1024")
#endif

namespace qapsule {

namespace detail {

/// Whether the sums of Acc come out the same in any order: arithmetic modulo a power of two, without rounding.
template <class X, class W, class Acc>
struct in_any_order {
#ifdef QAPSULE_VERIFY  // a partial sum in another order may lie where no bound was proved
    static constexpr bool value = false;
#else
    static constexpr bool value =
        (Acc::overflows == WRAP || Acc::overflows == PROVED) && X::frac + W::frac <= Acc::frac;
#endif
};

template <bool UNROLLED>
struct entries_in_software {
    template <class X, class Acc, class W, class Row, class Col, int N_IN, int N_OUT, int NNZ>
    static void add(const X (&x)[N_IN], Acc (&y)[N_OUT], const coo<W, Row, Col> (&entries)[NNZ]) {
        constexpr int at_once = 8;
        int k = 0;
        while (k < NNZ) {
            const Col col = entries[k].col;
            Acc sum = y[col];
            if (in_any_order<X, W, Acc>::value) {
                // An addition takes longer than its turn comes round, so that there are two sums of each output; from
                // memory, and back to it, it would take longer still.
                Acc other = Acc(0);
                for (; k + at_once <= NNZ && entries[k + at_once - 1].col == col; k += at_once)
                    for (int n = k; n < k + at_once; n += 2) {
                        sum = multiply_add(sum, x[entries[n].row], entries[n].weight);
                        other = multiply_add(other, x[entries[n + 1].row], entries[n + 1].weight);
                    }
                sum = Acc(sum + other);
            }
            for (; k < NNZ && entries[k].col == col; ++k)
                sum = multiply_add(sum, x[entries[k].row], entries[k].weight);
            y[col] = sum;
        }
    }
};
template <>
struct entries_in_software<true> {
    template <class X, class Acc, class W, class Row, class Col, int N_IN, int N_OUT, int NNZ>
    __attribute__((always_inline)) static void add(const X (&x)[N_IN], Acc (&y)[N_OUT],
                                                   const coo<W, Row, Col> (&entries)[NNZ]) {
        QAPSULE_UNROLLED_WHOLE
        for (int k = 0; k < NNZ; ++k) {
            const coo<W, Row, Col>& entry = entries[k];
            y[entry.col] = multiply_add(y[entry.col], x[entry.row], entry.weight);
        }
    }
};

}  // namespace detail

/// The same function for one sample or several side by side. The entries of an output stand together, without others in
/// between; the order in which they do is kept.
template <class X, int W, int I, bool S, rounding Q, overflow O, int L, class Weight, class Row, class Col, class B,
          int N_IN, int N_OUT, int NNZ>
__attribute__((always_inline)) inline void sparse_dense(const X (&x)[N_IN], fixed<W, I, S, Q, O, L> (&y)[N_OUT],
                                                        const coo<Weight, Row, Col> (&entries)[NNZ],
                                                        const B (&bias)[N_OUT]) {
    constexpr int most = 1024;
    for (int j = 0; j < N_OUT; ++j) y[j] = fixed<W, I, S, Q, O, L>(bias[j]);
    detail::entries_in_software<(NNZ <= most)>::add(x, y, entries);
}

}  // namespace qapsule

#undef QAPSULE_UNROLLED_WHOLE

#endif  // QAPSULE_SPARSE_LANES_H
