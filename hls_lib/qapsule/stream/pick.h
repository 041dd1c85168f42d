/// \file
/// Numbers in another order: all packets are kept in a memory, and one number is taken from it per cycle.

#ifndef QAPSULE_STREAM_PICK_H
#define QAPSULE_STREAM_PICK_H

#include "../cast.h"
#include "../packet.h"
#include "../pragmas.h"
#include "gather.h"

namespace qapsule {
namespace stream {

/// y = one channel of one packet, or `fill` behind the last packet.
template <class X, class Y, class Place, class Channel, int C, int PACKETS>
void pick(const packet<X, C> (&kept)[PACKETS], Y& y, const Place& place, const Channel& channel, const Y& fill) {
    QAPSULE_INLINE
    const bool kept_here = place < PACKETS;
    const packet<X, C> found = kept[kept_here ? place : Place(0)];
    y = kept_here ? Y(found.data[channel]) : fill;
}

}  // namespace stream
}  // namespace qapsule

#endif  // QAPSULE_STREAM_PICK_H
