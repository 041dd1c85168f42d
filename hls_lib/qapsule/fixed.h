/// \file
/// The number type behind software emulation: bit for bit the vendors' ap_fixed and ac_fixed, at native speed.
///
/// fixed<W, I, S, Q, O> is a number `raw() * 2^-(W - I)` of W bits, signed if S. Arithmetic is exact, in formats that
/// grow as the vendors' do; rounding Q and overflow O act when a value is converted into the type. fixed<..., L> with
/// L > 1 holds that number for L samples, in vector registers: a kernel written for one number computes L of them.

#ifndef QAPSULE_FIXED_H
#define QAPSULE_FIXED_H

#include "digits.h"
#include "modes.h"
#include "numbers.h"
#include "word.h"

namespace qapsule {

template <int W, int I, bool S = true, rounding Q = TRN, overflow O = WRAP, int L = 1>
class fixed;

/// The outcome of comparing numbers of L > 1 lanes; `select` turns it into numbers.
template <class E, int L>
struct mask {
    typename detail::lanes<E, L>::type held;  ///< -1 in the lanes where the comparison held, else 0
};

namespace detail {

/// The narrowest format that holds every value of both A and B.
template <class A, class B>
struct common {
    static constexpr bool is_signed = A::is_signed || B::is_signed;
    static constexpr int frac = larger(A::frac, B::frac);
    static constexpr int integer =
        larger(A::integer + (is_signed && !A::is_signed), B::integer + (is_signed && !B::is_signed));
    static constexpr int lanes = larger(A::lanes, B::lanes);
};

/// The type of an exact result.
template <int WIDTH, int INTEGER, bool SIGNED, int LANES>
using exact = fixed<WIDTH, INTEGER, SIGNED, TRN, WRAP, LANES>;

template <class A, class B>
using product_of =
    exact<A::width + B::width, A::integer + B::integer, A::is_signed || B::is_signed, larger(A::lanes, B::lanes)>;
template <class A, class B>
using common_of = exact<common<A, B>::frac + common<A, B>::integer, common<A, B>::integer, common<A, B>::is_signed,
                        common<A, B>::lanes>;
template <class A, class B>
using sum_of = exact<common_of<A, B>::width + 1, common_of<A, B>::integer + 1, common_of<A, B>::is_signed,
                     common_of<A, B>::lanes>;
template <class A, class B>
using difference_of =
    exact<common_of<A, B>::width + 1, common_of<A, B>::integer + 1, true, common_of<A, B>::lanes>;

/// Codes of FROM as codes of TO, under the modes of TO.
template <class TO, class FROM, bool DROPS = (FROM::frac > TO::frac)>
struct cast_codes {
    static constexpr int lanes = FROM::lanes;
    using fits = fit<TO::width, TO::integer, TO::is_signed, TO::overflows, TO::frac - FROM::frac,
                     FROM::width - FROM::is_signed, FROM::is_signed, lanes>;

    static constexpr typename fits::target::type apply(typename FROM::raw_type x) {
        return fits::target::template from<lanes>(fits::apply(fits::w::template from<lanes>(x)));
    }
};
template <class TO, class FROM>
struct cast_codes<TO, FROM, true> {
    static constexpr int lanes = FROM::lanes;
    static constexpr int shift = FROM::frac - TO::frac;
    using rounds = round_off<TO::rounds, shift, FROM::width, FROM::width + !FROM::is_signed, lanes>;
    // Rounding up can reach the next power of two.
    static constexpr int magnitude =
        larger(FROM::width - FROM::is_signed - shift, 0) + (TO::rounds != TRN && TO::rounds != TRN_ZERO);
    using fits =
        fit<TO::width, TO::integer, TO::is_signed, TO::overflows, 0, magnitude, FROM::is_signed, lanes>;

    static constexpr typename fits::target::type apply(typename FROM::raw_type x) {
        const auto rounded = rounds::apply(rounds::w::template from<lanes>(x));
        return fits::target::template from<lanes>(fits::apply(fits::w::template from<lanes>(rounded)));
    }
};

}  // namespace detail

template <int W, int I, bool S, rounding Q, overflow O, int L>
class fixed {
    static_assert(W >= 1, "qapsule::fixed: a number has at least one bit");

  public:
    static constexpr int width = W;
    static constexpr int integer = I;      ///< bits before the binary point, the sign included; may be < 0 or > W
    static constexpr int frac = W - I;     ///< bits behind the binary point
    static constexpr bool is_signed = S;
    static constexpr rounding rounds = Q;
    static constexpr overflow overflows = O;
    static constexpr int lanes = L;        ///< samples held

    using word = detail::word<W + !S, L>;
    using raw_type = typename word::type;
    using scalar = fixed<W, I, S, Q, O, 1>;

    /// Uninitialised, as a built-in number.
    fixed() = default;

    /// Conversion under the modes of this type; one sample spreads over all lanes.
    template <int W2, int I2, bool S2, rounding Q2, overflow O2, int L2>
    constexpr fixed(const fixed<W2, I2, S2, Q2, O2, L2>& other)
        : raw_(word::template from<L2>(detail::cast_codes<fixed, fixed<W2, I2, S2, Q2, O2, L2>>::apply(other.raw()))) {}

    /// A whole number, under the modes of this type.
    template <class T, typename std::enable_if<std::is_integral<T>::value, int>::type = 0>
    constexpr fixed(T value)
        : fixed(detail::exact<8 * sizeof(T), 8 * sizeof(T), std::is_signed<T>::value, 1>::from_raw(value)) {}

    /// A real number, under the modes of this type and without any other error. NaN has no code.
    constexpr fixed(double value) : raw_(word::template from<1>(code_of(value * scale))) {}

    static constexpr fixed from_raw(raw_type codes) {
        fixed number{};
        number.raw_ = codes;
        return number;
    }
    /// The integer code, value * 2^frac; a vector of L of them if L > 1.
    constexpr raw_type raw() const { return raw_; }

    /// The value of one sample; exact while W <= 53.
    constexpr double to_double() const {
        static_assert(L == 1, "qapsule::fixed: to_double() is for one sample; take raw()[lane] of several");
        return static_cast<double>(raw_) / scale;
    }

    constexpr detail::exact<W + 1, I + 1, true, L> operator-() const {
        using result = detail::exact<W + 1, I + 1, true, L>;
        using wider = typename result::word;
        return result::from_raw(wider::subtract(typename wider::type{}, wider::template from<L>(raw_)));
    }

  private:
    static constexpr double scale = detail::power_of_two(W - I);

    /// The code of one real number, given in units of this format.
    static constexpr typename scalar::raw_type code_of(double units) {
        using element = typename scalar::raw_type;
        constexpr double end = detail::power_of_two(W - S);
        // Almost every literal is a code of its type already; the range is open below for the sake of SAT_SYM.
        const bool inside = W <= 53 && units < end && units > (S ? -end : -1);
        return inside && units == static_cast<double>(static_cast<element>(units)) ? static_cast<element>(units)
                                                                                    : rounded_code(units);
    }
    static constexpr typename scalar::raw_type rounded_code(double units) {
        // From here on every mode sees no difference: wrapped it is 0, and any range ends below.
        constexpr double far = detail::power_of_two(120);
        units = units > far ? far : units < -far ? -far : units;
        detail::int128 floor = static_cast<detail::int128>(units);
        double rest = units - static_cast<double>(floor);
        const bool down = rest < 0;
        if (down) floor -= 1;
        // The rest above the floor in quarters, rounded so that it stays on its side of 0, 1/2 and 1.
        const double half = down ? -0.5 : 0.5;
        const int quarters = rest == 0 ? 0 : rest < half ? 1 : rest > half ? 3 : 2;
        using quartered = detail::exact<126, I + 124 - W, true, 1>;
        return scalar(quartered::from_raw(floor * 4 + quarters)).raw();
    }

    raw_type raw_;
};

template <int W, int I, bool S, rounding Q, overflow O, int L>
constexpr double fixed<W, I, S, Q, O, L>::scale;

namespace detail {

/// The codes of a number in a wider format, spread over its lanes.
template <class TO, class FROM>
constexpr typename TO::raw_type align(const FROM& x) {
    return TO(x).raw();
}
template <class MASK>
constexpr bool outcome(bool held) {
    return held;
}
template <class MASK, class VECTOR>
constexpr MASK outcome(VECTOR held) {
    return MASK{held};
}

}  // namespace detail

#define QAPSULE_TWO_FORMATS                                         \
    template <int W, int I, bool S, rounding Q, overflow O, int L, \
              int W2, int I2, bool S2, rounding Q2, overflow O2, int L2>
#define QAPSULE_FIRST fixed<W, I, S, Q, O, L>
#define QAPSULE_SECOND fixed<W2, I2, S2, Q2, O2, L2>

QAPSULE_TWO_FORMATS
constexpr detail::product_of<QAPSULE_FIRST, QAPSULE_SECOND> operator*(const QAPSULE_FIRST& a, const QAPSULE_SECOND& b) {
    using result = detail::product_of<QAPSULE_FIRST, QAPSULE_SECOND>;
    using word = typename result::word;
    return result::from_raw(word::multiply(word::template from<L>(a.raw()), word::template from<L2>(b.raw())));
}
QAPSULE_TWO_FORMATS
constexpr detail::sum_of<QAPSULE_FIRST, QAPSULE_SECOND> operator+(const QAPSULE_FIRST& a, const QAPSULE_SECOND& b) {
    using result = detail::sum_of<QAPSULE_FIRST, QAPSULE_SECOND>;
    return result::from_raw(result::word::add(detail::align<result>(a), detail::align<result>(b)));
}
QAPSULE_TWO_FORMATS
constexpr detail::difference_of<QAPSULE_FIRST, QAPSULE_SECOND> operator-(const QAPSULE_FIRST& a,
                                                                         const QAPSULE_SECOND& b) {
    using result = detail::difference_of<QAPSULE_FIRST, QAPSULE_SECOND>;
    return result::from_raw(result::word::subtract(detail::align<result>(a), detail::align<result>(b)));
}

#define QAPSULE_COMPARISON(OPERATOR)                                                                     \
    QAPSULE_TWO_FORMATS                                                                                  \
    constexpr auto operator OPERATOR(const QAPSULE_FIRST& a, const QAPSULE_SECOND& b) {                  \
        using both = detail::common_of<QAPSULE_FIRST, QAPSULE_SECOND>;                                   \
        using result = mask<typename both::word::element, both::lanes>;                                  \
        return detail::outcome<result>(detail::align<both>(a) OPERATOR detail::align<both>(b));          \
    }
QAPSULE_COMPARISON(<)
QAPSULE_COMPARISON(<=)
QAPSULE_COMPARISON(>)
QAPSULE_COMPARISON(>=)
QAPSULE_COMPARISON(==)
QAPSULE_COMPARISON(!=)

#undef QAPSULE_COMPARISON
#undef QAPSULE_TWO_FORMATS
#undef QAPSULE_FIRST
#undef QAPSULE_SECOND

template <int W, int I, bool S, rounding Q, overflow O, int L>
struct side_by_side<fixed<W, I, S, Q, O, L>> {
    static constexpr int count = 4;
};

/// A machine multiplies by plus or minus one as fast as it chooses.
template <int W, int I, bool S, rounding Q, overflow O, int L, class X, class Number, int FRAC>
fixed<W, I, S, Q, O, L> multiply_add(const fixed<W, I, S, Q, O, L>& acc, const X& x, const binary<Number, FRAC>& w) {
    return multiply_add(acc, x, Number::from_raw(w.raw() ? 1 : -1));
}
template <int W, int I, bool S, rounding Q, overflow O, int L, class X, class Number, int FRAC>
fixed<W, I, S, Q, O, L> multiply_add(const fixed<W, I, S, Q, O, L>& acc, const X& x, const ternary<Number, FRAC>& w) {
    return multiply_add(acc, x, w.number());
}

/// a in the lanes where the comparison held, b elsewhere.
template <class E, int W, int I, bool S, rounding Q, overflow O, int L>
fixed<W, I, S, Q, O, L> select(const mask<E, L>& comparison, const fixed<W, I, S, Q, O, L>& a,
                               const fixed<W, I, S, Q, O, L>& b) {
    using number = fixed<W, I, S, Q, O, L>;
    const typename number::raw_type held = number::word::template from<L>(comparison.held);
    return number::from_raw(held ? a.raw() : b.raw());
}

/// The entry at the code of x - LOW, lane by lane.
template <long long LOW, class Y, class E, int CODES, int W, int I, bool S, rounding Q, overflow O>
Y look_up(const E (&entries)[CODES], const fixed<W, I, S, Q, O, 1>& x) {
    return Y(entries[x.raw() - LOW]);
}
template <long long LOW, class Y, class E, int CODES, int W, int I, bool S, rounding Q, overflow O, int L>
Y look_up(const E (&entries)[CODES], const fixed<W, I, S, Q, O, L>& x) {
    using element = typename E::raw_type;
    using found = detail::exact<E::width, E::integer, E::is_signed, L>;
    element codes[L];
    for (int lane = 0; lane < L; ++lane) codes[lane] = entries[x.raw()[lane] - LOW].raw();
    typename found::raw_type raw;
    __builtin_memcpy(&raw, codes, sizeof raw);
    return Y(found::from_raw(raw));
}

}  // namespace qapsule

#include "bits.h"
#include "sparse_lanes.h"

#endif  // QAPSULE_FIXED_H
