/// \file
/// Convolutions over one or two spatial axes.
///
/// Meaning, in every variant and for every accumulator type Acc, at each position and for each output channel j:
///
///     acc = Acc(bias[j]);  for i ascending: acc = Acc(acc + Acc(read[i] * weight[j][i]));  y[j] = acc
///
/// where read[0], read[1], ... is what the taps read at that position, tap by tap within a channel and channel by
/// channel of the group that j belongs to; padding reads zero. Leaving out a weight that is zero changes nothing.
/// Tensors are channels of rows of columns; `Rows` and `Columns` are windows (window.h).

#ifndef QAPSULE_CONV_H
#define QAPSULE_CONV_H

#include "numbers.h"
#include "pragmas.h"
#include "window.h"

namespace qapsule {

/// A weight with the number of the input that it multiplies.
template <class W, class Index = unsigned short>
struct tap {
    Index input;
    W weight;
};

namespace detail {

/// A place in the plane of positions.
struct position {
    int row;
    int column;
};

/// What the taps read of READ channels from `channel` on, at COUNT positions.
template <class Rows, class Columns, int READ, class X, int N, int INPUTS, int COUNT>
void read_window(const X (&x)[N], X (&read)[INPUTS][COUNT], int channel, const position (&at)[COUNT]) {
    QAPSULE_INLINE
    QAPSULE_UNROLLED(channels)
    for (int c = 0; c < READ; ++c) {
        QAPSULE_UNROLL
        QAPSULE_UNROLLED(tap_rows)
        for (int i = 0; i < Rows::kernel; ++i) {
            QAPSULE_UNROLL
            QAPSULE_UNROLLED(tap_columns)
            for (int j = 0; j < Columns::kernel; ++j) {
                QAPSULE_UNROLL
                QAPSULE_UNROLLED(positions)
                for (int p = 0; p < COUNT; ++p) {
                    QAPSULE_UNROLL
                    X& to = read[(c * Rows::kernel + i) * Columns::kernel + j][p];
                    if (Rows::inside(at[p].row, i) && Columns::inside(at[p].column, j)) {
                        to = x[((channel + c) * Rows::size + Rows::element(at[p].row, i)) * Columns::size +
                               Columns::element(at[p].column, j)];
                    } else {
                        to = X(0);
                    }
                }
            }
        }
    }
}

/// One output channel at COUNT positions. The taps behind the first `used` are zeros.
template <class X, class Acc, class W, class Index, class B, int INPUTS, int COUNT, int TAPS>
void sum_taps(const X (&read)[INPUTS][COUNT], Acc (&acc)[COUNT], const tap<W, Index> (&taps)[TAPS], int used,
              const B& bias) {
    QAPSULE_INLINE
    QAPSULE_UNROLLED(biases)
    for (int p = 0; p < COUNT; ++p) {
        QAPSULE_UNROLL
        acc[p] = Acc(bias);
    }
    QAPSULE_UNROLLED(products)
    for (int k = 0; k < TAPS; ++k) {
        QAPSULE_UNROLL
        if (k < used) {
            const tap<W, Index>& each = taps[k];
            QAPSULE_UNROLLED(positions)
            for (int p = 0; p < COUNT; ++p) {
                QAPSULE_UNROLL
                acc[p] = multiply_add(acc[p], read[each.input][p], each.weight);
            }
        }
    }
}

}  // namespace detail

/// One position per cycle: II = Rows::positions * Columns::positions, a multiplier for each weight that is not zero.
///
/// READ channels are read by each output channel j. Its weights that are not zero are the first used[j] of taps[j], by
/// ascending input; zeros fill up the list to the length of the longest. All loops but the one over positions are
/// unrolled, so that every index and every weight is a constant of its own product, and a zero costs nothing.
template <class Rows, class Columns, int READ, class X, class Acc, class W, class Index, class Used, class B, int N,
          int M, int N_OUT, int TAPS>
void conv(const X (&x)[N], Acc (&y)[M], const tap<W, Index> (&taps)[N_OUT][TAPS], const Used (&used)[N_OUT],
          const B (&bias)[N_OUT]) {
    constexpr int positions = Rows::positions * Columns::positions;
    constexpr int groups = N / (READ * Rows::size * Columns::size);
    constexpr int made = N_OUT / groups;
    static_assert(N == groups * READ * Rows::size * Columns::size && N_OUT == made * groups,
                  "qapsule::conv: the channels of x and y must divide into as many groups");
    static_assert(M == N_OUT * positions, "qapsule::conv: y must have an element for each position of each channel");
    constexpr int most = side_by_side<Acc>::count;
    constexpr int count = most < positions ? most : positions;
    QAPSULE_PARTITION(y, 0)
    QAPSULE_PARTITION(taps, 0)
    QAPSULE_PARTITION(used, 0)
    QAPSULE_PARTITION(bias, 0)
    detail::position next = {0, 0};
    QAPSULE_PIPELINED(positions, 1)
    for (int first = 0; first < positions; first += count) {
        QAPSULE_PIPELINE(1)
        detail::position at[count];
        QAPSULE_UNROLLED(places)
        for (int p = 0; p < count; ++p) {
            QAPSULE_UNROLL
            at[p] = next;
            // Behind the last position, that one again.
            if (first + p + 1 < positions) {
                const bool wraps = next.column == Columns::positions - 1;
                next.column = wraps ? 0 : next.column + 1;
                next.row += wraps;
            }
        }
        QAPSULE_UNROLLED(groups)
        for (int group = 0; group < groups; ++group) {
            QAPSULE_UNROLL
            X read[READ * Rows::kernel * Columns::kernel][count];
            QAPSULE_PARTITION(read, 0)
            detail::read_window<Rows, Columns, READ>(x, read, group * READ, at);
            QAPSULE_UNROLLED(outputs)
            for (int k = 0; k < made; ++k) {
                QAPSULE_UNROLL
                const int j = group * made + k;
                Acc acc[count];
                QAPSULE_PARTITION(acc, 0)
                detail::sum_taps(read, acc, taps[j], used[j], bias[j]);
                QAPSULE_UNROLLED(results)
                for (int p = 0; p < count; ++p) {
                    QAPSULE_UNROLL
                    y[j * positions + at[p].row * Columns::positions + at[p].column] = acc[p];
                }
            }
        }
    }
}

/// Resource-saving: READ * taps * N_OUT / R multipliers, each used R times per position; II = R times the positions.
///
/// The weights of a position stand in input-major order (k = i * N_OUT + j), as those of `dense_reuse` do: step r reads
/// weight[r], one memory word of as many weights, for whole inputs or for an equal part of the outputs of one input.
template <class Rows, class Columns, int READ, int R, class X, class Acc, class W, class B, int N, int M, int N_OUT,
          int MULTIPLIERS>
void conv_reuse(const X (&x)[N], Acc (&y)[M], const W (&weight)[R][MULTIPLIERS], const B (&bias)[N_OUT]) {
    constexpr int positions = Rows::positions * Columns::positions;
    constexpr int groups = N / (READ * Rows::size * Columns::size);
    constexpr int made = N_OUT / groups;
    constexpr int inputs = READ * Rows::kernel * Columns::kernel;
    static_assert(N == groups * READ * Rows::size * Columns::size && N_OUT == made * groups,
                  "qapsule::conv_reuse: the channels of x and y must divide into as many groups");
    static_assert(M == N_OUT * positions,
                  "qapsule::conv_reuse: y must have an element for each position of each channel");
    static_assert(R * MULTIPLIERS == inputs * N_OUT, "qapsule::conv_reuse: weight must be [R][inputs * N_OUT / R]");
    static_assert(inputs % R == 0 || (R % inputs == 0 && N_OUT % (R / inputs) == 0),
                  "qapsule::conv_reuse: the reuse factor R must divide the inputs of an output, or be their number "
                  "times a divisor of N_OUT");
    constexpr int inputs_per_step = R <= inputs ? inputs / R : 1;
    constexpr int outputs_per_step = MULTIPLIERS / inputs_per_step;
    QAPSULE_PARTITION(y, 0)
    QAPSULE_PARTITION(bias, 0)
    QAPSULE_RESHAPE(weight, 2)
    X read[groups][inputs][1];
    QAPSULE_PARTITION(read, 0)
    Acc acc[N_OUT];
    QAPSULE_PARTITION(acc, 0)
    // Counters in place of divisions, which would be hardware.
    detail::position at[1] = {{0, 0}};
    int step = 0;
    int input = 0;
    int output = 0;
    QAPSULE_PIPELINED(steps, 1)
    for (int cycle = 0; cycle < positions * R; ++cycle) {
        QAPSULE_PIPELINE(1)
        if (step == 0) {
            QAPSULE_UNROLLED(groups)
            for (int group = 0; group < groups; ++group) {
                QAPSULE_UNROLL
                detail::read_window<Rows, Columns, READ>(x, read[group], group * READ, at);
            }
            QAPSULE_UNROLLED(biases)
            for (int j = 0; j < N_OUT; ++j) {
                QAPSULE_UNROLL
                acc[j] = Acc(bias[j]);
            }
        }
        QAPSULE_UNROLLED(inputs)
        for (int i = 0; i < inputs_per_step; ++i) {
            QAPSULE_UNROLL
            QAPSULE_UNROLLED(outputs)
            for (int j = 0; j < outputs_per_step; ++j) {
                QAPSULE_UNROLL
                const int group = groups == 1 ? 0 : (output + j) / made;
                acc[output + j] = multiply_add(acc[output + j], read[group][input + i][0],
                                               weight[step][i * outputs_per_step + j]);
            }
        }
        output += outputs_per_step;
        if (output == N_OUT) {
            output = 0;
            input += inputs_per_step;
        }
        ++step;
        if (step == R) {
            QAPSULE_UNROLLED(results)
            for (int j = 0; j < N_OUT; ++j) {
                QAPSULE_UNROLL
                y[j * positions + at[0].row * Columns::positions + at[0].column] = acc[j];
            }
            step = 0;
            input = 0;
            const bool wraps = at[0].column == Columns::positions - 1;
            at[0].column = wraps ? 0 : at[0].column + 1;
            at[0].row += wraps;
        }
    }
}

}  // namespace qapsule

#endif  // QAPSULE_CONV_H
