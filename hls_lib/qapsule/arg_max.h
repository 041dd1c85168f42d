/// \file
/// The place of the largest element.

#ifndef QAPSULE_ARG_MAX_H
#define QAPSULE_ARG_MAX_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

namespace detail {

template <class X, class Y>
struct ranked {
    X value;
    Y channel;
};

/// The first largest of COUNT channels from FIRST on: a balanced tree of comparisons.
template <int FIRST, int COUNT>
struct largest_of {
    template <class Y, class X, int N>
    static ranked<X, Y> at(const X (&x)[N], int place, int places) {
        QAPSULE_INLINE
        constexpr int half = COUNT / 2;
        const ranked<X, Y> one = largest_of<FIRST, half>::template at<Y>(x, place, places);
        const ranked<X, Y> other = largest_of<FIRST + half, COUNT - half>::template at<Y>(x, place, places);
        const auto held = one.value >= other.value;
        return {select(held, one.value, other.value), select(held, one.channel, other.channel)};
    }
};
template <int FIRST>
struct largest_of<FIRST, 1> {
    template <class Y, class X, int N>
    static ranked<X, Y> at(const X (&x)[N], int place, int places) {
        QAPSULE_INLINE
        return {x[FIRST * places + place], Y(FIRST)};
    }
};

}  // namespace detail

/// y[i] = the first channel whose element at place i is the largest, for N / M channels of M places. II = 1, unrolled;
/// no multiplier, N - M comparisons, of which a signal passes log2(N / M).
template <class X, class Y, int N, int M>
void arg_max(const X (&x)[N], Y (&y)[M]) {
    static_assert(N % M == 0, "qapsule::arg_max: x must be whole channels, each of the size of y");
    QAPSULE_PIPELINE(1)
    QAPSULE_UNROLLED(places)
    for (int i = 0; i < M; ++i) {
        QAPSULE_UNROLL
        y[i] = detail::largest_of<0, N / M>::template at<Y>(x, i, M).channel;
    }
}

}  // namespace qapsule

#endif  // QAPSULE_ARG_MAX_H
