/// \file
/// What travels through a stream.

#ifndef QAPSULE_PACKET_H
#define QAPSULE_PACKET_H

namespace qapsule {

/// The C channels of a tensor at one position; positions follow each other row by row. A tensor of one axis is one
/// packet. The tools make one word of it, and ask that such a struct has no functions.
template <class T, int C>
struct packet {
    T data[C];
};

}  // namespace qapsule

#endif  // QAPSULE_PACKET_H
