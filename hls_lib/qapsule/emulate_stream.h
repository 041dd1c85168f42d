/// \file
/// Looks at the packets of a design while it is emulated.

#ifndef QAPSULE_EMULATE_STREAM_H
#define QAPSULE_EMULATE_STREAM_H

#include "emulate.h"

namespace qapsule {
namespace emulation {

/// One element of every live lane to one place in every row.
template <class Out, class Element>
inline void scatter_place(Out* out, const Element* codes, int row, int live, double lsb) {
    for (int lane = 0; lane < live; ++lane) scatter(out + std::int64_t(lane) * row, codes + lane, 1, 1, 1, lsb);
}

/// Codes [channels][lanes] of a packet, one of so many, to their places in the rows of an array.
template <class Element>
__attribute__((noinline)) void store_packet(const qapsule_array& to, const Element* codes, int channels, int lanes,
                                            int packets, int number) {
    const int row = channels * packets;
    for (int c = 0; c < channels; ++c) {
        const std::int64_t place = current()->first * row + std::int64_t(c) * packets + number;
        const Element* from = codes + c * lanes;
        const int live = current()->live;
        if (to.kind == QAPSULE_FLOAT32) scatter_place(static_cast<float*>(to.data) + place, from, row, live, to.lsb);
        if (to.kind == QAPSULE_FLOAT64) scatter_place(static_cast<double*>(to.data) + place, from, row, live, to.lsb);
        if (to.kind == QAPSULE_CODES) scatter_place(static_cast<std::int64_t*>(to.data) + place, from, row, live, 1);
    }
}

/// What QAPSULE_TRACE_PACKET becomes: hands a packet out if somebody asked for its tensor.
template <class T, int C>
inline void probe_packet(int slot, const T (&array)[C], int packets, int number) {
    const qapsule_array& to = current()->tensors[slot];
    if (__builtin_expect(to.kind != QAPSULE_ABSENT, 0)) {
        typename codes_of<T>::element buffer[C * codes_of<T>::lanes];
        store_packet(to, codes_of<T>::read(array, buffer), C, codes_of<T>::lanes, packets, number);
    }
}

}  // namespace emulation
}  // namespace qapsule

#endif  // QAPSULE_EMULATE_STREAM_H
