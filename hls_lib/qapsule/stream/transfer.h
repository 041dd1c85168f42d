/// \file
/// Between streams and arrays, and from one stream to several.
///
/// A stream is anything with `packet<T, C> read()` and `void write(packet<T, C>)`: hls::stream, ac_channel, or
/// qapsule::queue in software. A tensor of C channels at P positions is P packets in a stream, and one array of C * P
/// numbers, channel by channel, in the kernels.

#ifndef QAPSULE_STREAM_TRANSFER_H
#define QAPSULE_STREAM_TRANSFER_H

#include "../packet.h"
#include "../pragmas.h"

namespace qapsule {
namespace stream {

/// The next packet, whose numbers T holds.
template <class From, class T, int C>
void read(From& from, T (&x)[C]) {
    QAPSULE_INLINE
    const auto next = from.read();
    static_assert(sizeof(next.data) == C * sizeof(next.data[0]), "qapsule::stream::read: a packet must have C channels");
    QAPSULE_UNROLLED(channels)
    for (int c = 0; c < C; ++c) {
        QAPSULE_UNROLL
        x[c] = T(next.data[c]);
    }
}

template <class T, int C, class To>
void write(const T (&y)[C], To& to) {
    QAPSULE_INLINE
    packet<T, C> next;
    QAPSULE_UNROLLED(channels)
    for (int c = 0; c < C; ++c) {
        QAPSULE_UNROLL
        next.data[c] = y[c];
    }
    to.write(next);
}

/// Packet p of a whole tensor.
template <int PACKETS, class From, class T, int N>
void take(From& from, T (&x)[N], int p) {
    static_assert(N % PACKETS == 0, "qapsule::stream::take: every packet of a tensor has as many channels");
    QAPSULE_INLINE
    const packet<T, N / PACKETS> next = from.read();
    QAPSULE_UNROLLED(channels)
    for (int c = 0; c < N / PACKETS; ++c) {
        QAPSULE_UNROLL
        x[c * PACKETS + p] = next.data[c];
    }
}

/// All packets of a tensor, one per cycle.
template <int PACKETS, class From, class T, int N>
void collect(From& from, T (&x)[N]) {
    QAPSULE_PIPELINED(packets, 1)
    for (int p = 0; p < PACKETS; ++p) {
        QAPSULE_FLOW(1)
        take<PACKETS>(from, x, p);
    }
}

template <int PACKETS, class T, int N, class To>
void emit(const T (&y)[N], To& to) {
    static_assert(N % PACKETS == 0, "qapsule::stream::emit: every packet of a tensor has as many channels");
    QAPSULE_PIPELINED(packets, 1)
    for (int p = 0; p < PACKETS; ++p) {
        QAPSULE_FLOW(1)
        packet<T, N / PACKETS> next;
        QAPSULE_UNROLLED(channels)
        for (int c = 0; c < N / PACKETS; ++c) {
            QAPSULE_UNROLL
            next.data[c] = y[c * PACKETS + p];
        }
        to.write(next);
    }
}

namespace detail {

template <class Packet>
void write_each(const Packet&) {
    QAPSULE_INLINE
}
template <class Packet, class To, class... More>
void write_each(const Packet& next, To& to, More&... more) {
    QAPSULE_INLINE
    to.write(next);
    write_each(next, more...);
}

}  // namespace detail

/// A stream has one reader; where a tensor has several, every packet is given to each of them. Without any, the packets
/// are dropped.
template <int PACKETS, class Packet, class From, class... To>
void fork(From& from, To&... to) {
    QAPSULE_PIPELINED(packets, 1)
    for (int p = 0; p < PACKETS; ++p) {
        QAPSULE_FLOW(1)
        const Packet next = from.read();
        detail::write_each(next, to...);
    }
}

}  // namespace stream
}  // namespace qapsule

#endif  // QAPSULE_STREAM_TRANSFER_H
