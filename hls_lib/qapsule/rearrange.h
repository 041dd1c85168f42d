/// \file
/// Whatever moves numbers: transposing, slicing, padding, repeating.

#ifndef QAPSULE_REARRANGE_H
#define QAPSULE_REARRANGE_H

#include "pragmas.h"

namespace qapsule {

/// y[i] = x[source[i]]; Y holds every X. Unrolled, and every index is a constant: wires.
template <class X, class Y, class Index, int N, int M>
void rearrange(const X (&x)[N], Y (&y)[M], const Index (&source)[M]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_PARTITION(source, 0)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < M; ++i) {
        QAPSULE_UNROLL
        y[i] = Y(x[source[i]]);
    }
}

/// The same, with the constant `fill` where the source is N.
template <class X, class Y, class Index, class F, int N, int M>
void rearrange(const X (&x)[N], Y (&y)[M], const Index (&source)[M], const F (&fill)[1]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_PARTITION(source, 0)
    QAPSULE_PARTITION(fill, 0)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < M; ++i) {
        QAPSULE_UNROLL
        y[i] = source[i] < N ? Y(x[source[i] < N ? source[i] : Index(0)]) : Y(fill[0]);
    }
}

}  // namespace qapsule

#endif  // QAPSULE_REARRANGE_H
