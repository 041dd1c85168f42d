/// \file
/// A scale and an offset per channel: what remains of batch normalisation or of a scale that is no power of two.

#ifndef QAPSULE_AFFINE_H
#define QAPSULE_AFFINE_H

#include "pragmas.h"

namespace qapsule {

/// y = Y(x * scale + offset): exact until the one rounding at the end. II = 1, unrolled, N multipliers by constants.
template <class X, class Y, class M, class C, int N>
void affine(const X (&x)[N], Y (&y)[N], const M (&scale)[N], const C (&offset)[N]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_PARTITION(scale, 0)
    QAPSULE_PARTITION(offset, 0)
    QAPSULE_UNROLLED(channels)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        y[i] = Y(x[i] * scale[i] + offset[i]);
    }
}

}  // namespace qapsule

#endif  // QAPSULE_AFFINE_H
