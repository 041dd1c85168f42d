/// \file
/// Packets in wide memory words: what an accelerator card's kernel reads and writes in long bursts.
///
/// A packet is a whole sample where the design takes arrays, and the channels at one position where it takes streams.
/// An element of W bits is the code of a number, its lowest bit first. A word of BITS bits holds E = BITS / W elements,
/// which start at bits 0, W, 2 W, ...; no element is cut. A packet of N elements lies in one of two ways:
///
///     N <= E   K = E / N packets share a word: element i of its packet k stands at bit (k N + i) W
///     N > E    a packet takes M = ceil(N / E) words of its own: element i stands in word i / E at bit (i % E) W
///
/// All other bits are written as zero and never looked at. A sample is P packets, which follow each other in memory as
/// in a stream. The processes below run side by side, joined by streams of words: load, deal, (the design), gather,
/// store. Each takes one word, or one packet that shares one, in every cycle. What deal hands on and gather takes are
/// parts: M words for each packet, the lowest element of each at bit 0.

#ifndef QAPSULE_WIDE_H
#define QAPSULE_WIDE_H

#include <ap_int.h>
#include <hls_stream.h>

#include "packet.h"
#include "pragmas.h"

namespace qapsule {

/// A memory word; 512 bits are what the memory controllers of accelerator cards move in a cycle.
template <int BITS>
using wide = ap_uint<BITS>;

/// How packets of N elements of type T lie in words of BITS bits.
template <int BITS, class T, int N>
struct layout {
    static_assert(T::width <= BITS, "qapsule::layout: an element must fit a memory word");
    static constexpr int per_word = BITS / T::width;                                 ///< elements, E
    static constexpr int sharing = N <= per_word ? per_word / N : 1;                 ///< packets in a word, K
    static constexpr int words = N <= per_word ? 1 : (N + per_word - 1) / per_word;  ///< of a packet, M
    static constexpr int stride = sharing > 1 ? N * T::width : 0;                    ///< bits to the next packet

    /// Words that hold so many packets.
    static constexpr int total(int packets) { return (packets + sharing - 1) / sharing * words; }
};

/// Reads the words of so many samples from memory, in bursts.
template <class T, int N, int P, int BITS>
void load(const wide<BITS>* memory, hls::stream<wide<BITS> >& words, int samples) {
    const int count = layout<BITS, T, N>::total(samples * P);
    QAPSULE_PIPELINED(bursts, 1)
    for (int i = 0; i < count; ++i) {
        QAPSULE_PIPELINE(1)
        words.write(memory[i]);
    }
}

/// Writes the words of so many samples to memory, in bursts.
template <class T, int N, int P, int BITS>
void store(hls::stream<wide<BITS> >& words, wide<BITS>* memory, int samples) {
    const int count = layout<BITS, T, N>::total(samples * P);
    QAPSULE_PIPELINED(bursts, 1)
    for (int i = 0; i < count; ++i) {
        QAPSULE_PIPELINE(1)
        memory[i] = words.read();
    }
}

/// Words to parts. `slot` is the packet's place in its word: a counter in place of a division, which would be hardware.
template <class T, int N, int P, int BITS>
void deal(hls::stream<wide<BITS> >& words, hls::stream<wide<BITS> >& parts, int samples) {
    using lies = layout<BITS, T, N>;
    wide<BITS> word = 0;
    int slot = 0;
    QAPSULE_PIPELINED(packets, 1)
    for (int i = 0; i < samples * P * lies::words; ++i) {
        QAPSULE_PIPELINE(1)
        if (slot == 0) {
            word = words.read();
        } else {
            word >>= lies::stride;
        }
        parts.write(word);
        slot = slot == lies::sharing - 1 ? 0 : slot + 1;
    }
}

/// Parts to words. Packets enter a shared word from above; behind the last one zeros do, until the word is full.
template <class T, int N, int P, int BITS>
void gather(hls::stream<wide<BITS> >& parts, hls::stream<wide<BITS> >& words, int samples) {
    using lies = layout<BITS, T, N>;
    wide<BITS> word = 0;
    int slot = 0;
    QAPSULE_PIPELINED(packets, 1)
    for (int i = 0; i < lies::total(samples * P) * lies::sharing; ++i) {
        QAPSULE_PIPELINE(1)
        wide<BITS> part = 0;
        if (i < samples * P * lies::words) part = parts.read();
        part <<= (lies::sharing - 1) * lies::stride;
        word = slot == 0 ? part : wide<BITS>(word >> lies::stride | part);
        slot = slot == lies::sharing - 1 ? 0 : slot + 1;
        if (slot == 0) words.write(word);
    }
}

namespace detail {

/// Part m of a packet to the elements in it.
template <int BITS, class T, int N>
void read_part(const wide<BITS>& part, int m, T (&x)[N]) {
    QAPSULE_INLINE
    constexpr int per_word = layout<BITS, T, N>::per_word;
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        const int low = i % per_word * T::width;
        if (i / per_word == m) x[i].range() = part.range(low + T::width - 1, low);
    }
}

/// Elements to part m of their packet.
template <int BITS, class T, int N>
wide<BITS> made_part(const T (&y)[N], int m) {
    QAPSULE_INLINE
    constexpr int per_word = layout<BITS, T, N>::per_word;
    wide<BITS> part = 0;
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        const int low = i % per_word * T::width;
        if (i / per_word == m) part.range(low + T::width - 1, low) = y[i].range();
    }
    return part;
}

}  // namespace detail

/// The parts of the next sample to an array, for a design that takes arrays.
template <int BITS, class T, int N>
void take(hls::stream<wide<BITS> >& parts, T (&x)[N]) {
    QAPSULE_PIPELINED(words, 1)
    for (int m = 0; m < layout<BITS, T, N>::words; ++m) {
        QAPSULE_PIPELINE(1)
        detail::read_part(parts.read(), m, x);
    }
}

/// An array to the parts of the next sample.
template <int BITS, class T, int N>
void give(const T (&y)[N], hls::stream<wide<BITS> >& parts) {
    QAPSULE_PIPELINED(words, 1)
    for (int m = 0; m < layout<BITS, T, N>::words; ++m) {
        QAPSULE_PIPELINE(1)
        parts.write(detail::made_part<BITS>(y, m));
    }
}

/// Parts to packets, for a design that takes streams.
template <int P, int BITS, class T, int N>
void enter(hls::stream<wide<BITS> >& parts, hls::stream<packet<T, N> >& packets, int samples) {
    constexpr int words = layout<BITS, T, N>::words;
    packet<T, N> next;
    int m = 0;
    QAPSULE_PIPELINED(each, 1)
    for (int i = 0; i < samples * P * words; ++i) {
        QAPSULE_PIPELINE(1)
        detail::read_part(parts.read(), m, next.data);
        m = m == words - 1 ? 0 : m + 1;
        if (m == 0) packets.write(next);
    }
}

/// Packets to parts.
template <int P, int BITS, class T, int N>
void leave(hls::stream<packet<T, N> >& packets, hls::stream<wide<BITS> >& parts, int samples) {
    constexpr int words = layout<BITS, T, N>::words;
    packet<T, N> next;
    int m = 0;
    QAPSULE_PIPELINED(each, 1)
    for (int i = 0; i < samples * P * words; ++i) {
        QAPSULE_PIPELINE(1)
        if (m == 0) next = packets.read();
        parts.write(detail::made_part<BITS>(next.data, m));
        m = m == words - 1 ? 0 : m + 1;
    }
}

}  // namespace qapsule

#endif  // QAPSULE_WIDE_H
