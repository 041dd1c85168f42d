/// \file
/// Several tensors side by side.

#ifndef QAPSULE_CONCAT_H
#define QAPSULE_CONCAT_H

#include "pragmas.h"

namespace qapsule {

namespace detail {

template <int BLOCKS, int AT, class Y, int N>
void join(Y (&)[N]) {
    static_assert(BLOCKS * AT == N, "qapsule::concat: y must be as large as all its parts together");
}
/// The first part into each block of y, from element AT of the block on; then the rest.
template <int BLOCKS, int AT, class Y, int N, class X, int M, class... Rest>
void join(Y (&y)[N], const X (&x)[M], const Rest&... rest) {
    static_assert(N % BLOCKS == 0 && M % BLOCKS == 0, "qapsule::concat: y and every part must be whole blocks");
    QAPSULE_INLINE
    QAPSULE_UNROLLED(blocks)
    for (int block = 0; block < BLOCKS; ++block) {
        QAPSULE_UNROLL
        QAPSULE_UNROLLED(elements)
        for (int i = 0; i < M / BLOCKS; ++i) {
            QAPSULE_UNROLL
            y[block * (N / BLOCKS) + AT + i] = Y(x[block * (M / BLOCKS) + i]);
        }
    }
    join<BLOCKS, AT + M / BLOCKS>(y, rest...);
}

}  // namespace detail

/// y = its parts in turn, once for each of BLOCKS: a row-major concatenation along the axis behind BLOCKS indices. Y
/// holds every part. Unrolled: wires.
template <int BLOCKS, class Y, int N, class... Parts>
void concat(Y (&y)[N], const Parts&... parts) {
    QAPSULE_PIPELINE(1)
    detail::join<BLOCKS, 0>(y, parts...);
}

}  // namespace qapsule

#endif  // QAPSULE_CONCAT_H
