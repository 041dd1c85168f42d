/// \file
/// One of two tensors, by the sign of a third.

#ifndef QAPSULE_BY_SIGN_H
#define QAPSULE_BY_SIGN_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

/// y = x >= 0 ? a : b, element by element; Y holds every A and every B. II = 1, unrolled; no multiplier.
template <class X, class A, class B, class Y, int N>
void by_sign(const X (&x)[N], const A (&a)[N], const B (&b)[N], Y (&y)[N]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        y[i] = select(x[i] >= X(0), Y(a[i]), Y(b[i]));
    }
}

}  // namespace qapsule

#endif  // QAPSULE_BY_SIGN_H
