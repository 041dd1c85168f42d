/// \file
/// Windows along one axis of a tensor: what every tap reads at every position.
///
/// A window is a type with `size` (elements of the axis), `kernel` (taps), `positions`, and two functions of a position
/// and a tap: `element`, the index that the tap reads, and `inside`, whether there is such an element or only padding.
/// A tensor with a single spatial axis has the one row `single`.

#ifndef QAPSULE_WINDOW_H
#define QAPSULE_WINDOW_H

namespace qapsule {

/// KERNEL taps, DILATION elements apart, that move STRIDE elements from position to position, with BEFORE and AFTER
/// elements of padding around the axis.
template <int SIZE, int KERNEL, int STRIDE = 1, int DILATION = 1, int BEFORE = 0, int AFTER = 0>
struct sliding {
    static constexpr int size = SIZE;
    static constexpr int kernel = KERNEL;
    static constexpr int span = DILATION * (KERNEL - 1) + 1;
    static_assert(span <= BEFORE + SIZE + AFTER, "qapsule::sliding: a window must fit the axis with its padding");
    static constexpr int positions = (BEFORE + SIZE + AFTER - span) / STRIDE + 1;

    static constexpr int element(int position, int tap) { return position * STRIDE - BEFORE + tap * DILATION; }
    static constexpr bool inside(int position, int tap) {
        // The first and the last window tell whether there is any padding to be met.
        return (BEFORE == 0 || element(position, tap) >= 0) &&
               ((positions - 1) * STRIDE - BEFORE + span <= SIZE || element(position, tap) < SIZE);
    }
};

/// The one row of a tensor that has a single spatial axis.
using single = sliding<1, 1>;

namespace detail {

constexpr int greatest_common_divisor(int a, int b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

}  // namespace detail

/// SIZE elements divided among POSITIONS windows as evenly as whole elements can; windows may share elements.
template <int SIZE, int POSITIONS>
struct adaptive {
    static constexpr int size = SIZE;
    static constexpr int positions = POSITIONS;
    /// Of the longest window: it begins as far behind its even share as the remainders of p SIZE / POSITIONS go.
    static constexpr int kernel =
        (SIZE + 2 * POSITIONS - detail::greatest_common_divisor(SIZE, POSITIONS) - 1) / POSITIONS;

    static constexpr int first(int position) { return position * SIZE / POSITIONS; }
    static constexpr int end(int position) { return ((position + 1) * SIZE + POSITIONS - 1) / POSITIONS; }
    static constexpr int element(int position, int tap) { return first(position) + tap; }
    static constexpr bool inside(int position, int tap) { return element(position, tap) < end(position); }
};

}  // namespace qapsule

#endif  // QAPSULE_WINDOW_H
