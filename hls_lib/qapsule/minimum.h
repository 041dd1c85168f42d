/// \file
/// The smaller of two tensors.

#ifndef QAPSULE_MINIMUM_H
#define QAPSULE_MINIMUM_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

/// y = min(a, b), element by element; Y holds every A and every B. II = 1, unrolled; no multiplier.
template <class A, class B, class Y, int N>
void minimum(const A (&a)[N], const B (&b)[N], Y (&y)[N]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        const Y one = Y(a[i]);
        const Y other = Y(b[i]);
        y[i] = select(one < other, one, other);
    }
}

}  // namespace qapsule

#endif  // QAPSULE_MINIMUM_H
