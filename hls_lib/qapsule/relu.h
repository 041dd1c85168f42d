/// \file
/// The rectifier.

#ifndef QAPSULE_RELU_H
#define QAPSULE_RELU_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

/// y = Y(max(x, 0)). II = 1, unrolled; no multiplier, one multiplexer and the cast's logic per element.
template <class X, class Y, int N>
void relu(const X (&x)[N], Y (&y)[N]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        y[i] = Y(select(x[i] > X(0), x[i], X(0)));
    }
}

}  // namespace qapsule

#endif  // QAPSULE_RELU_H
