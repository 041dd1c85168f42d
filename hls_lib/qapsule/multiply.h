/// \file
/// The product of two tensors.

#ifndef QAPSULE_MULTIPLY_H
#define QAPSULE_MULTIPLY_H

#include "pragmas.h"

namespace qapsule {

/// y = a * b, element by element; Y holds every product. II = 1, unrolled; N multipliers of two variables.
template <class A, class B, class Y, int N>
void multiply(const A (&a)[N], const B (&b)[N], Y (&y)[N]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        y[i] = Y(a[i] * b[i]);
    }
}

}  // namespace qapsule

#endif  // QAPSULE_MULTIPLY_H
