/// \file
/// A window over everything: no packet is kept, only what has been made of all before.

#ifndef QAPSULE_STREAM_FOLD_H
#define QAPSULE_STREAM_FOLD_H

#include "../numbers.h"
#include "../packet.h"
#include "../pragmas.h"
#include "transfer.h"

namespace qapsule {
namespace stream {

/// y = the largest of PACKETS packets, channel by channel. One packet per cycle, a comparison per channel.
template <class X, int PACKETS, class From, int C>
void max_fold(From& from, X (&largest)[C]) {
    QAPSULE_PARTITION(largest, 0)
    QAPSULE_PIPELINED(packets, 1)
    for (int p = 0; p < PACKETS; ++p) {
        QAPSULE_FLOW(1)
        X x[C];
        QAPSULE_PARTITION(x, 0)
        read(from, x);
        QAPSULE_UNROLLED(channels)
        for (int c = 0; c < C; ++c) {
            QAPSULE_UNROLL
            largest[c] = p == 0 ? x[c] : X(select(x[c] > largest[c], x[c], largest[c]));
        }
    }
}

/// The sum of PACKETS packets, channel by channel; Sum holds that of any part. One packet per cycle, an adder per
/// channel.
template <class X, int PACKETS, class From, class Sum, int C>
void sum_fold(From& from, Sum (&sum)[C]) {
    QAPSULE_PARTITION(sum, 0)
    QAPSULE_PIPELINED(packets, 1)
    for (int p = 0; p < PACKETS; ++p) {
        QAPSULE_FLOW(1)
        X x[C];
        QAPSULE_PARTITION(x, 0)
        read(from, x);
        QAPSULE_UNROLLED(channels)
        for (int c = 0; c < C; ++c) {
            QAPSULE_UNROLL
            sum[c] = p == 0 ? Sum(x[c]) : Sum(sum[c] + x[c]);
        }
    }
}

}  // namespace stream
}  // namespace qapsule

#endif  // QAPSULE_STREAM_FOLD_H
