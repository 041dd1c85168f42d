/// \file
/// Windows over a tensor that comes in packet by packet: only the lines that a window spans are kept.
///
/// The elements of a plane pass one per cycle, row by row. Behind the last element of a row, and behind the last row, go
/// as many cycles as the last window reaches into the padding there; padding in front takes none. `Rows` and `Columns`
/// are windows that slide (qapsule/window.h).

#ifndef QAPSULE_STREAM_WINDOW_H
#define QAPSULE_STREAM_WINDOW_H

#include "../packet.h"
#include "../pragmas.h"
#include "../window.h"

namespace qapsule {
namespace stream {

namespace detail {

/// How windows move along an axis, in elements of it.
template <class Axis>
struct motion;
template <int SIZE, int KERNEL, int STRIDE, int DILATION, int BEFORE, int AFTER>
struct motion<sliding<SIZE, KERNEL, STRIDE, DILATION, BEFORE, AFTER>> {
    using axis = sliding<SIZE, KERNEL, STRIDE, DILATION, BEFORE, AFTER>;
    static_assert(BEFORE < axis::span, "qapsule::stream: the first window must reach beyond the padding before it");
    static constexpr int stride = STRIDE;
    static constexpr int dilation = DILATION;
    /// The element with which the first window ends, and how many pass, padding behind included.
    static constexpr int first_end = axis::span - 1 - BEFORE;
    static constexpr int last_end = first_end + (axis::positions - 1) * STRIDE;
    static constexpr int steps = last_end < SIZE ? SIZE : last_end + 1;
};

/// Which window ends next along an axis, and after how many elements: counters in place of divisions.
template <class Axis>
struct progress {
    int position = 0;
    int left = motion<Axis>::first_end;

    bool ends() const { return left == 0 && position < Axis::positions; }
    void next() {
        position += left == 0;
        left = left == 0 ? motion<Axis>::stride - 1 : left - 1;
    }
};

}  // namespace detail

/// The place of the element that passes, and of the windows that end with it.
template <class Rows, class Columns>
struct scan {
    static constexpr int steps = detail::motion<Rows>::steps * detail::motion<Columns>::steps;
    /// Lines that are kept; an array has one at least.
    static constexpr int lines = Rows::span > 1 ? Rows::span - 1 : 1;

    int row = 0;
    int column = 0;
    detail::progress<Rows> down;
    detail::progress<Columns> across;

    /// Whether an element passes, and no padding.
    bool inside() const { return row < Rows::size && column < Columns::size; }
    /// Whether the last element of a window passes.
    bool ends() const { return down.ends() && across.ends(); }
    /// That of the window, row by row.
    int number() const { return down.position * Columns::positions + across.position; }
    void next() {
        if (column == detail::motion<Columns>::steps - 1) {
            column = 0;
            across = detail::progress<Columns>();
            ++row;
            down.next();
        } else {
            ++column;
            across.next();
        }
    }
};

/// Takes in the element that passes, if there is one. `seen` are the elements that a window spans if it ends there.
template <class Rows, class Columns, class From, class X, int LINES, int C>
void advance(From& from, X (&lines)[LINES][Columns::size][C], X (&seen)[Rows::span][Columns::span][C],
             const scan<Rows, Columns>& at) {
    QAPSULE_INLINE
    QAPSULE_UNROLLED(rows)
    for (int i = 0; i < Rows::span; ++i) {
        QAPSULE_UNROLL
        QAPSULE_UNROLLED(columns)
        for (int j = 0; j + 1 < Columns::span; ++j) {
            QAPSULE_UNROLL
            QAPSULE_UNROLLED(channels)
            for (int c = 0; c < C; ++c) {
                QAPSULE_UNROLL
                seen[i][j][c] = seen[i][j + 1][c];
            }
        }
    }
    if (at.column < Columns::size) {
        packet<X, C> next = packet<X, C>();
        if (at.row < Rows::size) next = from.read();
        QAPSULE_UNROLLED(newest)
        for (int c = 0; c < C; ++c) {
            QAPSULE_UNROLL
            QAPSULE_UNROLLED(above)
            for (int i = 0; i + 1 < Rows::span; ++i) {
                QAPSULE_UNROLL
                seen[i][Columns::span - 1][c] = lines[i][at.column][c];
            }
            seen[Rows::span - 1][Columns::span - 1][c] = next.data[c];
            QAPSULE_UNROLLED(upwards)
            for (int i = 0; i + 1 < Rows::span; ++i) {
                QAPSULE_UNROLL
                lines[i][at.column][c] = seen[i + 1][Columns::span - 1][c];
            }
        }
    }
}

/// What the taps of the window that ends here read, channel by channel.
template <class Rows, class Columns, class X, int C, int N>
void look(const X (&seen)[Rows::span][Columns::span][C], X (&x)[N], const X& padding, const scan<Rows, Columns>& at) {
    static_assert(N == C * Rows::kernel * Columns::kernel, "qapsule::stream::look: every tap reads every channel");
    QAPSULE_INLINE
    QAPSULE_UNROLLED(channels)
    for (int c = 0; c < C; ++c) {
        QAPSULE_UNROLL
        QAPSULE_UNROLLED(tap_rows)
        for (int i = 0; i < Rows::kernel; ++i) {
            QAPSULE_UNROLL
            QAPSULE_UNROLLED(tap_columns)
            for (int j = 0; j < Columns::kernel; ++j) {
                QAPSULE_UNROLL
                const bool inside = Rows::inside(at.down.position, i) && Columns::inside(at.across.position, j);
                x[(c * Rows::kernel + i) * Columns::kernel + j] =
                    inside ? seen[i * detail::motion<Rows>::dilation][j * detail::motion<Columns>::dilation][c]
                           : padding;
            }
        }
    }
}

}  // namespace stream
}  // namespace qapsule

#endif  // QAPSULE_STREAM_WINDOW_H
