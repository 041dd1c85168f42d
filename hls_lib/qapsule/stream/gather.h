/// \file
/// Packets in another order: all are kept in a memory, and each that is made is one of them or a constant.

#ifndef QAPSULE_STREAM_GATHER_H
#define QAPSULE_STREAM_GATHER_H

#include "../packet.h"
#include "../pragmas.h"

namespace qapsule {
namespace stream {

template <class T, int C>
void keep(const T (&x)[C], packet<T, C>& place) {
    QAPSULE_INLINE
    QAPSULE_UNROLLED(channels)
    for (int c = 0; c < C; ++c) {
        QAPSULE_UNROLL
        place.data[c] = x[c];
    }
}

/// y = the packet of that number, or `fill` where the number is negative.
template <class T, int C, int PACKETS>
void recall(const packet<T, C> (&kept)[PACKETS], T (&y)[C], int number, const T& fill) {
    QAPSULE_INLINE
    const packet<T, C> found = kept[number < 0 ? 0 : number];
    QAPSULE_UNROLLED(channels)
    for (int c = 0; c < C; ++c) {
        QAPSULE_UNROLL
        y[c] = number < 0 ? fill : found.data[c];
    }
}

}  // namespace stream
}  // namespace qapsule

#endif  // QAPSULE_STREAM_GATHER_H
