/// \file
/// What a kernel asks of a number type beyond conversion, `*`, `+` and comparison.
///
/// Kernels are templates over the type: qapsule::fixed, ap_fixed and ac_fixed all serve. They include this file and no
/// vendor's; the types header of a design includes the vendor's.

#ifndef QAPSULE_NUMBERS_H
#define QAPSULE_NUMBERS_H

namespace qapsule {

/// a if the comparison held, else b: a multiplexer. Types of several lanes overload it for their masks.
template <class T>
constexpr T select(bool held, const T& a, const T& b) {
    return held ? a : b;
}

/// acc + x * w as every kernel computes it: the product is cast to the accumulator's type, then the sum is.
template <class Acc, class X, class W>
constexpr Acc multiply_add(const Acc& acc, const X& x, const W& w) {
    return Acc(acc + Acc(x * w));
}

namespace detail {

constexpr double squared(double x) { return x * x; }

/// 2^power, exact for every power that a double has.
constexpr double power_of_two(int power) {
    return power == 0 ? 1 : squared(power_of_two(power / 2)) * (power % 2 == 0 ? 1 : power > 0 ? 2 : 0.5);
}

// The bits of a number as the vendors' types hand them out; the other one does not compile.
template <class X>
auto bits_of(const X& x, int) -> decltype(x.range(X::width - 1, 0).to_uint64()) {
    return x.range(X::width - 1, 0).to_uint64();
}
template <class X>
auto bits_of(const X& x, long) -> decltype(x.template slc<X::width>(0).to_uint64()) {
    return x.template slc<X::width>(0).to_uint64();
}

/// The lowest 2^n - 1 that is not below `last`.
constexpr unsigned long long all_ones(unsigned long long last) {
    return last == 0 ? 0 : 2 * all_ones(last / 2) + 1;
}

}  // namespace detail

/// The entry at the code of x - LOW, which must be one of the places; types of several lanes overload it.
template <long long LOW, class Y, class E, int CODES, class X>
Y look_up(const E (&entries)[CODES], const X& x) {
    // Modulo a power of two the bits of a negative code do as well as the code, and no more of them are subtracted.
    const unsigned long long place =
        (detail::bits_of(x, 0) - static_cast<unsigned long long>(LOW)) & detail::all_ones(CODES - 1);
    return Y(entries[place]);
}

/// How many results a kernel computes side by side, where it fetches a weight once for all of them. In hardware each is
/// another copy of the multipliers; a number type of software asks for as many as its machine has registers for.
template <class T>
struct side_by_side {
    static constexpr int count = 1;
};

}  // namespace qapsule

#endif  // QAPSULE_NUMBERS_H
