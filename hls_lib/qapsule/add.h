/// \file
/// The sum of two tensors.

#ifndef QAPSULE_ADD_H
#define QAPSULE_ADD_H

#include "pragmas.h"

namespace qapsule {

/// y = a + b, element by element; Y holds every sum. II = 1, unrolled; N adders, no multiplier.
template <class A, class B, class Y, int N>
void add(const A (&a)[N], const B (&b)[N], Y (&y)[N]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        y[i] = Y(a[i] + b[i]);
    }
}

}  // namespace qapsule

#endif  // QAPSULE_ADD_H
