/// \file
/// Convolutions over one or two spatial axes.
///
/// Meaning, in every variant and for every accumulator type Acc, at each position and for each output channel j:
///
///     acc = Acc(bias[j]);  for i ascending: acc = Acc(acc + Acc(read[i] * weight[j][i]));  y[j] = acc
///
/// where read[0], read[1], ... is what the taps read at that position, tap by tap within a channel and channel by
/// channel of the group that j belongs to; padding reads zero. Leaving out a product of zero changes nothing: its cast is
/// zero, and a sum that the accumulator holds is cast to itself.
/// Tensors are channels of rows of columns; `Rows` and `Columns` are windows (window.h).
///
/// What each of them takes, INPUTS being those of an output, READ channels times the taps; II is that of a position:
///
/// | kernel      | multipliers          | accumulators         | II | a position is complete after, plus the pipeline |
/// |-------------|----------------------|----------------------|----|-------------------------------------------------|
/// | conv        | weights but zeros    | none                 | 1  | 1 cycle                                         |
/// | conv_reuse  | INPUTS * N_OUT / R   | N_OUT                | R  | R cycles                                        |
/// | conv_serial | INPUTS * N_OUT / R   | INPUTS * N_OUT / R   | R  | R cycles, as many outputs every INPUTS cycles   |

#ifndef QAPSULE_CONV_H
#define QAPSULE_CONV_H

#include "dense.h"
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

/// The place of the next one, row by row: counters in place of divisions, which would be hardware.
template <class Columns>
position behind(const position& at) {
    QAPSULE_INLINE
    const bool wraps = at.column == Columns::positions - 1;
    const position next = {at.row + wraps, wraps ? 0 : at.column + 1};
    return next;
}

/// What one tap reads of a channel at one position.
template <class Rows, class Columns, class X, int N>
X read_tap(const X (&x)[N], int channel, int tap_row, int tap_column, const position& at) {
    QAPSULE_INLINE
    if (!Rows::inside(at.row, tap_row) || !Columns::inside(at.column, tap_column)) return X(0);
    return x[(channel * Rows::size + Rows::element(at.row, tap_row)) * Columns::size +
             Columns::element(at.column, tap_column)];
}

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
                    read[(c * Rows::kernel + i) * Columns::kernel + j][p] =
                        read_tap<Rows, Columns>(x, channel + c, i, j, at[p]);
                }
            }
        }
    }
}

/// The same at one position.
template <class Rows, class Columns, int READ, class X, int N, int INPUTS>
void read_window(const X (&x)[N], X (&read)[INPUTS], int channel, const position& at) {
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
                read[(c * Rows::kernel + i) * Columns::kernel + j] =
                    read_tap<Rows, Columns>(x, channel + c, i, j, at);
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

/// The group of output j, counted from that of the first one, which `before` outputs of its group precede.
template <int MADE>
constexpr int group_of(int j, int before) {
    return j / MADE + (before + j % MADE >= MADE);
}

/// The products of one step, as in dense.h: number m is of input first + m / N and goes to acc[m % N], which takes it
/// from its own group. MADE outputs belong to each.
template <int MADE, class X, class Acc, class W, int GROUPS, int INPUTS, int N, int M>
void add_step(const X (&read)[GROUPS][INPUTS], Acc (&acc)[N], const W (&weight)[M], int first, int before,
              all_multipliers) {
    QAPSULE_INLINE
    QAPSULE_UNROLLED(inputs)
    for (int i = 0; i < M / N; ++i) {
        QAPSULE_UNROLL
        QAPSULE_UNROLLED(outputs)
        for (int j = 0; j < N; ++j) {
            QAPSULE_UNROLL
            const int group = GROUPS == 1 ? 0 : group_of<MADE>(j, before);
            acc[j] = multiply_add(acc[j], read[group][first + i], weight[i * N + j]);
        }
    }
}

/// The same for some of them.
template <int MADE, class X, class Acc, class W, int GROUPS, int INPUTS, int N, int M, int... NUMBER>
void add_step(const X (&read)[GROUPS][INPUTS], Acc (&acc)[N], const W (&weight)[M], int first, int before,
              multipliers<NUMBER...>) {
    QAPSULE_INLINE
    static constexpr int input[M] = {NUMBER / N...};
    static constexpr int output[M] = {NUMBER % N...};
    QAPSULE_PARTITION(input, 0)
    QAPSULE_PARTITION(output, 0)
    QAPSULE_UNROLLED(products)
    for (int m = 0; m < M; ++m) {
        QAPSULE_UNROLL
        const int group = GROUPS == 1 ? 0 : group_of<MADE>(output[m], before);
        acc[output[m]] = multiply_add(acc[output[m]], read[group][first + input[m]], weight[m]);
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
            const detail::position after = detail::behind<Columns>(next);
            if (first + p + 1 < positions) next = after;
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

/// Resource-saving: INPUTS * N_OUT / R multipliers, each used R times per position; II = R times the positions.
///
/// At each position this is `dense_reuse` (dense.h): step r reads weight[r], one memory word, for the products of
/// INPUTS / R inputs with all outputs, in input-major order, and multipliers without a weight do not exist (`Used`).
/// More than INPUTS steps are what `conv_serial` has.
template <class Rows, class Columns, int READ, int R, class Used = all_multipliers, class X, class Acc, class W, class B,
          int N, int M, int N_OUT, int MULTIPLIERS>
void conv_reuse(const X (&x)[N], Acc (&y)[M], const W (&weight)[R][MULTIPLIERS], const B (&bias)[N_OUT]) {
    constexpr int positions = Rows::positions * Columns::positions;
    constexpr int groups = N / (READ * Rows::size * Columns::size);
    constexpr int made = N_OUT / groups;
    constexpr int inputs = READ * Rows::kernel * Columns::kernel;
    static_assert(N == groups * READ * Rows::size * Columns::size && N_OUT == made * groups,
                  "qapsule::conv_reuse: the channels of x and y must divide into as many groups");
    static_assert(M == N_OUT * positions,
                  "qapsule::conv_reuse: y must have an element for each position of each channel");
    static_assert(inputs % R == 0, "qapsule::conv_reuse: the reuse factor R must divide the inputs of an output; for "
                                   "their number times a divisor of N_OUT there is conv_serial");
    static_assert(MULTIPLIERS == detail::existing(inputs * N_OUT / R, Used()),
                  "qapsule::conv_reuse: weight must be [R][inputs * N_OUT / R], less the multipliers that do not exist");
    constexpr int inputs_per_step = inputs / R;
    QAPSULE_PARTITION(y, 0)
    QAPSULE_PARTITION(bias, 0)
    QAPSULE_RESHAPE(weight, 2)
    X read[groups][inputs];
    QAPSULE_PARTITION(read, 0)
    Acc acc[N_OUT];
    QAPSULE_PARTITION(acc, 0)
    detail::position at = {0, 0};
    int step = 0;
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
        detail::add_step<made>(read, acc, weight[step], step * inputs_per_step, 0, Used());
        ++step;
        if (step == R) {
            QAPSULE_UNROLLED(results)
            for (int j = 0; j < N_OUT; ++j) {
                QAPSULE_UNROLL
                y[j * positions + at.row * Columns::positions + at.column] = acc[j];
            }
            step = 0;
            at = detail::behind<Columns>(at);
        }
    }
}

/// The long pipeline for low power: AT_ONCE = INPUTS * N_OUT / R multipliers and accumulators, for an R of INPUTS times
/// PARTS, which at each position go through the outputs AT_ONCE at a time.
///
/// At each position this is `dense_serial` (dense.h): step r = part * INPUTS + i reads weight[r], one memory word, and
/// of each group that the outputs of the part belong to what input i reads: of one group, or of no groups at all, a
/// single element of x per cycle. x, y, the weights and the biases may each be a memory.
template <class Rows, class Columns, int READ, int R, class Used = all_multipliers, class X, class Acc, class W, class B,
          int N, int M, int PARTS, int AT_ONCE, int MULTIPLIERS>
void conv_serial(const X (&x)[N], Acc (&y)[M], const W (&weight)[R][MULTIPLIERS], const B (&bias)[PARTS][AT_ONCE]) {
    constexpr int positions = Rows::positions * Columns::positions;
    constexpr int groups = N / (READ * Rows::size * Columns::size);
    constexpr int made = PARTS * AT_ONCE / groups;
    constexpr int inputs = READ * Rows::kernel * Columns::kernel;
    static_assert(N == groups * READ * Rows::size * Columns::size && PARTS * AT_ONCE == made * groups,
                  "qapsule::conv_serial: the channels of x and y must divide into as many groups");
    static_assert(M == PARTS * AT_ONCE * positions,
                  "qapsule::conv_serial: y must have an element for each position of each channel");
    static_assert(R == inputs * PARTS,
                  "qapsule::conv_serial: the reuse factor R must be the inputs of an output times a divisor of the "
                  "outputs, by which the biases are divided too");
    static_assert(MULTIPLIERS == detail::existing(AT_ONCE, Used()),
                  "qapsule::conv_serial: weight must be [R][inputs * N_OUT / R], less the multipliers that do not exist");
    // The groups of a part are the same ones for each of its outputs where parts end where groups end, or groups end
    // where parts end; else they shift.
    constexpr int common = detail::greatest_common_divisor(AT_ONCE, made);
    constexpr bool shift = common != AT_ONCE && common != made;
    constexpr int spanned = (made - common + AT_ONCE - 1) / made + 1;
    QAPSULE_RESHAPE(weight, 2)
    QAPSULE_RESHAPE(bias, 2)
    X read[spanned][1];
    QAPSULE_PARTITION(read, 0)
    Acc acc[AT_ONCE];
    QAPSULE_PARTITION(acc, 0)
    detail::position at = {0, 0};
    int step = 0;
    int part = 0;
    int group = 0;
    int before = 0;
    int channel = 0;
    int tap_row = 0;
    int tap_column = 0;
    QAPSULE_PIPELINED(steps, 1)
    for (int cycle = 0; cycle < positions * R; ++cycle) {
        QAPSULE_PIPELINE(1)
        const bool begins = channel == 0 && tap_row == 0 && tap_column == 0;
        if (begins) {
            QAPSULE_UNROLLED(biases)
            for (int j = 0; j < AT_ONCE; ++j) {
                QAPSULE_UNROLL
                acc[j] = Acc(bias[part][j]);
            }
        }
        QAPSULE_UNROLLED(groups)
        for (int g = 0; g < spanned; ++g) {
            QAPSULE_UNROLL
            // A part that begins with a group may span one less.
            if (group + g < groups)
                read[g][0] = detail::read_tap<Rows, Columns>(x, (group + g) * READ + channel, tap_row, tap_column, at);
        }
        detail::add_step<made>(read, acc, weight[step], 0, shift ? before : 0, Used());
        ++step;
        ++tap_column;
        if (tap_column == Columns::kernel) {
            tap_column = 0;
            ++tap_row;
        }
        if (tap_row == Rows::kernel) {
            tap_row = 0;
            ++channel;
        }
        if (channel == READ) {
            QAPSULE_UNROLLED(results)
            for (int j = 0; j < AT_ONCE; ++j) {
                QAPSULE_UNROLL
                y[(part * AT_ONCE + j) * positions + at.row * Columns::positions + at.column] = acc[j];
            }
            channel = 0;
            ++part;
            before += AT_ONCE % made;
            group += AT_ONCE / made + (before >= made);
            before -= before >= made ? made : 0;
        }
        if (part == PARTS) {
            step = 0;
            part = 0;
            group = 0;
            before = 0;
            at = detail::behind<Columns>(at);
        }
    }
}

}  // namespace qapsule

#endif  // QAPSULE_CONV_H
