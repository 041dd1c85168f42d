/// \file
/// Weights of one digit, of layers whose products share their hardware: no product of theirs takes a multiplier.
///
/// Both are worth 2^-FRAC times their sign; Number is a number type that has this, its negative, and zero. Where each
/// product has a weight of its own they are ordinary constants, of which no multiplier is left anyway.

#ifndef QAPSULE_DIGITS_H
#define QAPSULE_DIGITS_H

#include "numbers.h"

namespace qapsule {

/// A binary weight, +1 or -1: one bit, 0 for -1.
template <class Number, int FRAC>
class binary {
  public:
    using raw_type = bool;
    static constexpr int width = 1;
    static constexpr bool is_signed = false;

    binary() = default;
    constexpr binary(double value) : positive_(value > 0) {}

    static constexpr binary from_raw(bool positive) { return binary(positive ? 1.0 : -1.0); }
    constexpr bool raw() const { return positive_; }

  private:
    bool positive_;
};

/// A ternary weight, +1, 0 or -1: a number of two bits.
template <class Number, int FRAC>
class ternary {
  public:
    ternary() = default;
    constexpr ternary(double value) : number_(value) {}
    constexpr explicit ternary(const Number& number) : number_(number) {}

    constexpr const Number& number() const { return number_; }

  private:
    Number number_;
};

/// Add or subtract.
template <class Acc, class X, class Number, int FRAC>
Acc multiply_add(const Acc& acc, const X& x, const binary<Number, FRAC>& w) {
    const Number plus(detail::power_of_two(-FRAC));
    const Number minus(-detail::power_of_two(-FRAC));
    return Acc(acc + select(w.raw(), Acc(x * plus), Acc(x * minus)));
}

/// Add, subtract or skip.
template <class Acc, class X, class Number, int FRAC>
Acc multiply_add(const Acc& acc, const X& x, const ternary<Number, FRAC>& w) {
    const Number plus(detail::power_of_two(-FRAC));
    const Number minus(-detail::power_of_two(-FRAC));
    const Number nothing(0);
    const Acc sum = Acc(acc + select(bool(w.number() > nothing), Acc(x * plus), Acc(x * minus)));
    return select(bool(w.number() == nothing), acc, sum);
}

}  // namespace qapsule

#endif  // QAPSULE_DIGITS_H
