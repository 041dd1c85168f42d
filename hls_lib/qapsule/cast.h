/// \file
/// A change of number format.

#ifndef QAPSULE_CAST_H
#define QAPSULE_CAST_H

#include "pragmas.h"

namespace qapsule {

/// y = Y(x) under the rounding and overflow modes of Y. II = 1, unrolled; no multiplier.
template <class X, class Y, int N>
void cast(const X (&x)[N], Y (&y)[N]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        y[i] = Y(x[i]);
    }
}

}  // namespace qapsule

#endif  // QAPSULE_CAST_H
