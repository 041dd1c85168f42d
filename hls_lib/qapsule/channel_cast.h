/// \file
/// A change of number format that differs from channel to channel.

#ifndef QAPSULE_CHANNEL_CAST_H
#define QAPSULE_CHANNEL_CAST_H

#include "pragmas.h"

namespace qapsule {

/// y[i] = F(x[i]) for the elements i listed in `which`, under the modes of F; Y holds every F. One call for each
/// format, so that each is a type that the tool knows: the bits of y[i] that F does not have are constants, and so are
/// those of whatever is computed from them. Unrolled; every index is a constant; no multiplier. The calls for one tensor
/// belong into one function, which makes it.
template <class F, class X, class Y, class Index, int N, int COUNT>
void channel_cast(const X (&x)[N], Y (&y)[N], const Index (&which)[COUNT]) {
    static_assert(COUNT <= N, "qapsule::channel_cast: more elements are listed than there are");
    QAPSULE_INLINE
    QAPSULE_PARTITION(which, 0)
    QAPSULE_UNROLLED(elements)
    for (int k = 0; k < COUNT; ++k) {
        QAPSULE_UNROLL
        y[which[k]] = Y(F(x[which[k]]));
    }
}

/// y[i] = 0 for the elements i listed in `which`: those that have no bits.
template <class Y, class Index, int N, int COUNT>
void channel_zero(Y (&y)[N], const Index (&which)[COUNT]) {
    static_assert(COUNT <= N, "qapsule::channel_zero: more elements are listed than there are");
    QAPSULE_INLINE
    QAPSULE_PARTITION(which, 0)
    QAPSULE_UNROLLED(elements)
    for (int k = 0; k < COUNT; ++k) {
        QAPSULE_UNROLL
        y[which[k]] = Y(0);
    }
}

}  // namespace qapsule

#endif  // QAPSULE_CHANNEL_CAST_H
