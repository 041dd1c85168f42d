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

}  // namespace qapsule

#endif  // QAPSULE_NUMBERS_H
