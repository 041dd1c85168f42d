/// \file
/// Limits other than those of a number format.

#ifndef QAPSULE_CLIP_H
#define QAPSULE_CLIP_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

/// y = min(max(x, low), high) per channel; the limits are codes of x, of a type without its modes: they may be numbers
/// that a symmetric X never is. II = 1, unrolled; no multiplier, two comparisons with constants and two multiplexers per
/// element.
template <class X, class Y, class L, class H, int N>
void clip(const X (&x)[N], Y (&y)[N], const L (&low)[N], const H (&high)[N]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_PARTITION(low, 0)
    QAPSULE_PARTITION(high, 0)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        const Y raised = select(x[i] < low[i], Y(low[i]), Y(x[i]));
        y[i] = select(x[i] > high[i], Y(high[i]), raised);
    }
}

}  // namespace qapsule

#endif  // QAPSULE_CLIP_H
