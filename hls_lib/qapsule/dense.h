/// \file
/// Fully connected layers: y = weight x + bias.
///
/// Meaning, in every variant and for every accumulator type Acc:
///
///     acc = Acc(bias[j]);  for i ascending: acc = Acc(acc + Acc(x[i] * weight[j][i]));  y[j] = acc
///
/// With an Acc that holds every partial sum this is the exact sum, and the tool may add in any order; otherwise each
/// product and each partial sum is cast, in exactly this order.

#ifndef QAPSULE_DENSE_H
#define QAPSULE_DENSE_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

namespace detail {

/// Outputs `first` to `first + COUNT` - 1, in one pass over the inputs.
template <int COUNT, class X, class Acc, class W, class B, int N_IN, int N_OUT>
void dots(const X (&x)[N_IN], Acc (&y)[N_OUT], const W (&weight)[N_OUT][N_IN], const B (&bias)[N_OUT], int first) {
    QAPSULE_INLINE
    Acc acc[COUNT];
    QAPSULE_PARTITION(acc, 0)
    QAPSULE_UNROLLED(biases)
    for (int j = 0; j < COUNT; ++j) {
        QAPSULE_UNROLL
        acc[j] = Acc(bias[first + j]);
    }
    QAPSULE_UNROLLED(inputs)
    for (int i = 0; i < N_IN; ++i) {
        QAPSULE_UNROLL
        QAPSULE_UNROLLED(products)
        for (int j = 0; j < COUNT; ++j) {
            QAPSULE_UNROLL
            acc[j] = multiply_add(acc[j], x[i], weight[first + j][i]);
        }
    }
    QAPSULE_UNROLLED(results)
    for (int j = 0; j < COUNT; ++j) {
        QAPSULE_UNROLL
        y[first + j] = acc[j];
    }
}

}  // namespace detail

/// Fully parallel: II = 1, N_IN * N_OUT multipliers. All loops are unrolled, so that every weight is a constant of its
/// own product and a zero costs nothing. In hardware it makes no difference that the outputs are taken four at a time;
/// in software each input is then read once for four products.
template <class X, class Acc, class W, class B, int N_IN, int N_OUT>
void dense(const X (&x)[N_IN], Acc (&y)[N_OUT], const W (&weight)[N_OUT][N_IN], const B (&bias)[N_OUT]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_PARTITION(weight, 0)
    QAPSULE_PARTITION(bias, 0)
    constexpr int at_once = 4;
    constexpr int rest = N_OUT % at_once;
    QAPSULE_UNROLLED(outputs)
    for (int first = 0; first + at_once <= N_OUT; first += at_once) {
        QAPSULE_UNROLL
        detail::dots<at_once < N_OUT ? at_once : N_OUT>(x, y, weight, bias, first);
    }
    if (rest != 0) detail::dots<rest != 0 ? rest : 1>(x, y, weight, bias, N_OUT - rest);
}

/// Resource-saving: N_IN * N_OUT / R multipliers, each used R times, so that the layer takes new inputs every R cycles.
///
/// The weights stand in input-major order (k = i * N_OUT + j): step r reads weight[r], one memory word of M weights,
/// for the products r * M to r * M + M - 1. A step is thus either whole inputs (R divides N_IN) or an equal part of the
/// outputs of one input (R = N_IN * d, d divides N_OUT), and every output sums its inputs in ascending order.
template <int R, class X, class Acc, class W, class B, int N_IN, int N_OUT, int M>
void dense_reuse(const X (&x)[N_IN], Acc (&y)[N_OUT], const W (&weight)[R][M], const B (&bias)[N_OUT]) {
    static_assert(R * M == N_IN * N_OUT, "qapsule::dense_reuse: weight must be [R][N_IN * N_OUT / R]");
    static_assert(N_IN % R == 0 || (R % N_IN == 0 && N_OUT % (R / N_IN) == 0),
                  "qapsule::dense_reuse: the reuse factor R must divide N_IN, or be N_IN times a divisor of N_OUT");
    constexpr int inputs_per_step = R <= N_IN ? N_IN / R : 1;
    constexpr int outputs_per_step = M / inputs_per_step;
    QAPSULE_PARTITION(y, 0)
    QAPSULE_PARTITION(bias, 0)
    QAPSULE_RESHAPE(weight, 2)
    QAPSULE_UNROLLED(biases)
    for (int j = 0; j < N_OUT; ++j) {
        QAPSULE_UNROLL
        y[j] = Acc(bias[j]);
    }
    // Counters in place of a division of r, which would be hardware.
    int input = 0;
    int output = 0;
    QAPSULE_PIPELINED(steps, 1)
    for (int r = 0; r < R; ++r) {
        QAPSULE_PIPELINE(1)
        QAPSULE_UNROLLED(inputs)
        for (int i = 0; i < inputs_per_step; ++i) {
            QAPSULE_UNROLL
            QAPSULE_UNROLLED(outputs)
            for (int j = 0; j < outputs_per_step; ++j) {
                QAPSULE_UNROLL
                y[output + j] = multiply_add(y[output + j], x[input + i], weight[r][i * outputs_per_step + j]);
            }
        }
        output += outputs_per_step;
        if (output == N_OUT) {
            output = 0;
            input += inputs_per_step;
        }
    }
}

}  // namespace qapsule

#endif  // QAPSULE_DENSE_H
