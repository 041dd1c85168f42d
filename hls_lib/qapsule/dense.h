/// \file
/// Fully connected layers: y = weight x + bias.
///
/// Meaning, in every variant and for every accumulator type Acc:
///
///     acc = Acc(bias[j]);  for i ascending: acc = Acc(acc + Acc(x[i] * weight[j][i]));  y[j] = acc
///
/// With an Acc that holds every partial sum this is the exact sum, and the tool may add in any order; otherwise each
/// product and each partial sum is cast, in exactly this order. Leaving out a product of zero changes nothing: its cast
/// is zero, and a sum that the accumulator holds is cast to itself.
///
/// | kernel       | multipliers       | accumulators      | II | y is complete after, plus the depth of the pipeline |
/// |--------------|-------------------|-------------------|----|-----------------------------------------------------|
/// | dense        | N_IN * N_OUT      | none              | 1  | 1 cycle                                             |
/// | dense_reuse  | N_IN * N_OUT / R  | N_OUT             | R  | R cycles                                            |
/// | dense_serial | N_IN * N_OUT / R  | N_IN * N_OUT / R  | R  | R cycles, as many outputs every N_IN cycles         |

#ifndef QAPSULE_DENSE_H
#define QAPSULE_DENSE_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

/// The multipliers of a layer that exist, by ascending number; all weights of the others are zero.
template <int... NUMBER>
struct multipliers {};

/// Every multiplier exists.
struct all_multipliers {};

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

/// How many of N multipliers exist.
constexpr int existing(int n, all_multipliers) { return n; }
template <int... NUMBER>
constexpr int existing(int, multipliers<NUMBER...>) {
    return sizeof...(NUMBER);
}

/// The products of one step, which begins with input `first`: number m is of input first + m / N and goes to
/// acc[m % N].
template <class X, class Acc, class W, int N_IN, int N, int M>
void add_step(const X (&x)[N_IN], Acc (&acc)[N], const W (&weight)[M], int first, all_multipliers) {
    QAPSULE_INLINE
    QAPSULE_UNROLLED(inputs)
    for (int i = 0; i < M / N; ++i) {
        QAPSULE_UNROLL
        QAPSULE_UNROLLED(outputs)
        for (int j = 0; j < N; ++j) {
            QAPSULE_UNROLL
            acc[j] = multiply_add(acc[j], x[first + i], weight[i * N + j]);
        }
    }
}

/// The same for some of them. Their places are constants of the unrolled loop: wires, nothing is looked up.
template <class X, class Acc, class W, int N_IN, int N, int M, int... NUMBER>
void add_step(const X (&x)[N_IN], Acc (&acc)[N], const W (&weight)[M], int first, multipliers<NUMBER...>) {
    QAPSULE_INLINE
    static constexpr int input[M] = {NUMBER / N...};
    static constexpr int output[M] = {NUMBER % N...};
    QAPSULE_PARTITION(input, 0)
    QAPSULE_PARTITION(output, 0)
    QAPSULE_UNROLLED(products)
    for (int m = 0; m < M; ++m) {
        QAPSULE_UNROLL
        acc[output[m]] = multiply_add(acc[output[m]], x[first + input[m]], weight[m]);
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
/// Step r reads weight[r], one memory word, for the products of N_IN / R inputs with all outputs, in input-major order:
/// multiplier m multiplies input m / N_OUT of the step and adds to output m % N_OUT. Every output has an accumulator, y
/// itself, and sums its inputs in ascending order. `Used` are the multipliers that have a weight which is not zero: the
/// others are not there, and weight has no column for them. For more steps than inputs there is `dense_serial`.
template <int R, class Used = all_multipliers, class X, class Acc, class W, class B, int N_IN, int N_OUT, int M>
void dense_reuse(const X (&x)[N_IN], Acc (&y)[N_OUT], const W (&weight)[R][M], const B (&bias)[N_OUT]) {
    static_assert(N_IN % R == 0,
                  "qapsule::dense_reuse: the reuse factor R must divide N_IN; for N_IN times a divisor of N_OUT there "
                  "is dense_serial");
    static_assert(M == detail::existing(N_IN * N_OUT / R, Used()),
                  "qapsule::dense_reuse: weight must be [R][N_IN * N_OUT / R], less the multipliers that do not exist");
    constexpr int inputs_per_step = N_IN / R;
    QAPSULE_PARTITION(y, 0)
    QAPSULE_PARTITION(bias, 0)
    QAPSULE_RESHAPE(weight, 2)
    QAPSULE_UNROLLED(biases)
    for (int j = 0; j < N_OUT; ++j) {
        QAPSULE_UNROLL
        y[j] = Acc(bias[j]);
    }
    QAPSULE_PIPELINED(steps, 1)
    for (int r = 0; r < R; ++r) {
        QAPSULE_PIPELINE(1)
        detail::add_step(x, y, weight[r], r * inputs_per_step, Used());
    }
}

/// The long pipeline for low power: M = N_IN * N_OUT / R multipliers and accumulators, for an R of N_IN * PARTS, which
/// go through the outputs M at a time.
///
/// Step r = part * N_IN + i reads weight[r], one memory word of M weights, and x[i]: multiplier m adds its product to
/// output part * M + m. Every output thus sums its inputs in ascending order, and is written when the last of them has
/// been added. The weights are one memory read in order; so is x, one element per cycle, and M elements of y are
/// written every N_IN cycles: either may be a memory, as nothing here takes them apart. bias[part] is a word too.
/// `Used` is as in `dense_reuse`.
template <int R, class Used = all_multipliers, class X, class Acc, class W, class B, int N_IN, int N_OUT, int PARTS,
          int AT_ONCE, int M>
void dense_serial(const X (&x)[N_IN], Acc (&y)[N_OUT], const W (&weight)[R][M], const B (&bias)[PARTS][AT_ONCE]) {
    static_assert(R == N_IN * PARTS && N_OUT == PARTS * AT_ONCE,
                  "qapsule::dense_serial: the reuse factor R must be N_IN times a divisor of N_OUT, by which the "
                  "biases are divided too");
    static_assert(M == detail::existing(AT_ONCE, Used()),
                  "qapsule::dense_serial: weight must be [R][N_IN * N_OUT / R], less the multipliers that do not "
                  "exist");
    QAPSULE_RESHAPE(weight, 2)
    QAPSULE_RESHAPE(bias, 2)
    Acc acc[AT_ONCE];
    QAPSULE_PARTITION(acc, 0)
    // Counters in place of a division of r, which would be hardware.
    int first = 0;
    int part = 0;
    QAPSULE_PIPELINED(steps, 1)
    for (int r = 0; r < R; ++r) {
        QAPSULE_PIPELINE(1)
        if (first == 0) {
            QAPSULE_UNROLLED(biases)
            for (int j = 0; j < AT_ONCE; ++j) {
                QAPSULE_UNROLL
                acc[j] = Acc(bias[part][j]);
            }
        }
        detail::add_step(x, acc, weight[r], first, Used());
        ++first;
        if (first == N_IN) {
            QAPSULE_UNROLLED(results)
            for (int j = 0; j < AT_ONCE; ++j) {
                QAPSULE_UNROLL
                y[part * AT_ONCE + j] = acc[j];
            }
            first = 0;
            ++part;
        }
    }
}

}  // namespace qapsule

#endif  // QAPSULE_DENSE_H
