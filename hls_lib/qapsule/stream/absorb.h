/// \file
/// Fully connected layers over a tensor that comes in packet by packet: no packet is kept, only the sums.
///
/// The products of a packet are an equal part of the layer's. They take STEPS cycles, one input after the other: a step
/// is either whole inputs of the packet, or an equal part of the outputs of one of them.

#ifndef QAPSULE_STREAM_ABSORB_H
#define QAPSULE_STREAM_ABSORB_H

#include "../numbers.h"
#include "../pragmas.h"
#include "../sparse_dense.h"

namespace qapsule {
namespace stream {

/// Which products of a packet of C inputs are next.
template <int STEPS, int C, int N_OUT>
struct turn {
    static_assert(C % STEPS == 0 || (STEPS % C == 0 && C * N_OUT % STEPS == 0),
                  "qapsule::stream::turn: the steps of a packet must divide its inputs, or be their number times a "
                  "divisor of the outputs");
    static constexpr int inputs = STEPS <= C ? C / STEPS : 1;
    static constexpr int outputs = C * N_OUT / STEPS / inputs;

    int input = 0;
    int output = 0;

    /// Whether a packet comes in.
    bool begins() const { return input == 0 && output == 0; }
    /// Counters in place of divisions, which would be hardware.
    void next() {
        output += outputs;
        if (output != N_OUT) return;
        output = 0;
        input += inputs;
        if (input == C) input = 0;
    }
};

/// The same where only some of the weights are there: the steps of a packet.
template <int STEPS>
struct share {
    int step = 0;

    bool begins() const { return step == 0; }
    void next() { step = step == STEPS - 1 ? 0 : step + 1; }
};

/// What the sums begin with.
template <class Acc, class B, int N_OUT>
void begin(Acc (&y)[N_OUT], const B (&bias)[N_OUT]) {
    QAPSULE_INLINE
    QAPSULE_PARTITION(bias, 0)
    QAPSULE_UNROLLED(biases)
    for (int j = 0; j < N_OUT; ++j) {
        QAPSULE_UNROLL
        y[j] = Acc(bias[j]);
    }
}

/// Adds the products of step r, whose weights are one memory word.
template <int STEPS, class X, class Acc, class W, int C, int N_OUT, int R, int M>
void absorb(const X (&x)[C], Acc (&y)[N_OUT], const W (&weight)[R][M], const turn<STEPS, C, N_OUT>& at, int r) {
    static_assert(STEPS * M == C * N_OUT, "qapsule::stream::absorb: a step must be an equal part of a packet's products");
    static_assert(R % STEPS == 0, "qapsule::stream::absorb: there must be weights for every step of every packet");
    QAPSULE_INLINE
    QAPSULE_RESHAPE(weight, 2)
    constexpr int inputs = turn<STEPS, C, N_OUT>::inputs;
    constexpr int outputs = turn<STEPS, C, N_OUT>::outputs;
    QAPSULE_UNROLLED(inputs)
    for (int i = 0; i < inputs; ++i) {
        QAPSULE_UNROLL
        QAPSULE_UNROLLED(outputs)
        for (int j = 0; j < outputs; ++j) {
            QAPSULE_UNROLL
            y[at.output + j] = multiply_add(y[at.output + j], x[at.input + i], weight[r][i * outputs + j]);
        }
    }
}

/// Adds the entries of step r, one memory word, whose rows are inputs of the packet. As in `sparse_dense_reuse` so many
/// SIDE_BY_SIDE are of different outputs, those of weights of zero too.
template <int SIDE_BY_SIDE, class X, class Acc, class W, class Row, class Col, int C, int N_OUT, int R, int M>
void absorb_entries(const X (&x)[C], Acc (&y)[N_OUT], const coo<W, Row, Col> (&entries)[R][M], int r) {
    static_assert(M % SIDE_BY_SIDE == 0, "qapsule::stream::absorb_entries: a step must be whole groups of entries");
    QAPSULE_INLINE
    QAPSULE_PACK(entries)
    QAPSULE_RESHAPE(entries, 2)
    QAPSULE_UNROLLED(groups)
    for (int first = 0; first < M; first += SIDE_BY_SIDE) {
        QAPSULE_UNROLL
        qapsule::detail::add_entries<SIDE_BY_SIDE>(x, y, entries[r], first);
    }
}

}  // namespace stream
}  // namespace qapsule

#endif  // QAPSULE_STREAM_ABSORB_H
