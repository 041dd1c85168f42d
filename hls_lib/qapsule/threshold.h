/// \file
/// Any step function per channel, as comparisons: exact where no multiplier of legal width is.

#ifndef QAPSULE_THRESHOLD_H
#define QAPSULE_THRESHOLD_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

namespace detail {

/// The same step at every level of a channel, or one for each.
template <class D, int N>
constexpr const D& step_at(const D (&step)[N], int i, int) {
    return step[i];
}
template <class D, int N, int STEPS>
constexpr const D& step_at(const D (&step)[N][STEPS], int i, int k) {
    return step[i][k];
}

}  // namespace detail

/// y = start, then for every k with x >= level[k]: y = Y(y + step), step being units of Y, up or down: [N], or [N][STEPS]
/// where it changes its sign. II = 1, unrolled: N * STEPS comparisons with constants, no multiplier. The levels are
/// signed as x is: ap_fixed compares a signed with an unsigned number of more than 16 bits wrongly.
template <class X, class Y, class T, class S, class D, int N, int STEPS>
void threshold(const X (&x)[N], Y (&y)[N], const T (&level)[N][STEPS], const S (&start)[N], const D& step) {
    QAPSULE_PIPELINE(1)
    QAPSULE_PARTITION(level, 0)
    QAPSULE_PARTITION(start, 0)
    QAPSULE_PARTITION(step, 0)
    QAPSULE_UNROLLED(channels)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        Y sum = Y(start[i]);
        QAPSULE_UNROLLED(levels)
        for (int k = 0; k < STEPS; ++k) {
            QAPSULE_UNROLL
            sum = select(x[i] >= level[i][k], Y(sum + detail::step_at(step, i, k)), sum);
        }
        y[i] = sum;
    }
}

}  // namespace qapsule

#endif  // QAPSULE_THRESHOLD_H
