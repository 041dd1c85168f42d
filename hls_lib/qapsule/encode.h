/// \file
/// Real numbers to codes, without any error but the stated rounding: what a converter in front of the hardware does.

#ifndef QAPSULE_ENCODE_H
#define QAPSULE_ENCODE_H

#include "fixed.h"

namespace qapsule {

/// The code of a real number in a format of W bits, FRAC of them behind the point. `refused` becomes true for NaN,
/// infinity, and where a factor of 2^FRAC leaves the range of doubles. Codes of an unsigned 64-bit format come modulo
/// 2^64.
template <int W, int FRAC, bool S, rounding Q, overflow O>
struct encoder {
    static std::int64_t code(double value, bool& refused) {
        const double scaled = value * detail::power_of_two(FRAC);
        refused |= scaled - scaled != 0 || (scaled == 0) != (value == 0);
        const double whole = rounded(scaled);
        if (O == WRAP) return wrapped(whole);
        if (whole >= end) return O == SAT_ZERO ? 0 : highest;
        if (symmetric ? whole <= -end : whole < (S ? -end : 0)) return O == SAT_ZERO ? 0 : lowest;
        return integer(whole);
    }

  private:
    static constexpr bool symmetric = O == SAT_SYM && S && W > 1;
    static constexpr double end = detail::power_of_two(W - S);
    // A signed bit has no bit for a magnitude, and a shift by 64 has no meaning.
    static constexpr std::int64_t highest =
        W == S ? 0 : static_cast<std::int64_t>(~std::uint64_t(0) >> (W == S ? 0 : 64 - W + S));
    static constexpr std::int64_t lowest = !S ? 0 : symmetric ? -highest : -highest - 1;

    // The built-ins are one instruction each; <cmath> would be most of a design's compile time.
    static double rounded(double x) {
        if (Q == TRN) return __builtin_floor(x);
        if (Q == RND_CONV) return __builtin_rint(x);
        // The rest of a truncation is exact, that of a floor is not.
        const double whole = __builtin_trunc(x);
        const double rest = x - whole;
        if (Q == TRN_ZERO) return whole;
        const bool up = Q == RND || Q == RND_INF ? rest >= 0.5 : rest > 0.5;
        const bool down = Q == RND || Q == RND_ZERO ? rest < -0.5 : rest <= -0.5;
        return up ? whole + 1 : down ? whole - 1 : whole;
    }
    /// A whole number below 2^64 in magnitude, modulo 2^64.
    static std::int64_t integer(double whole) {
        if (W <= 62) return static_cast<std::int64_t>(whole);
        const std::uint64_t magnitude = static_cast<std::uint64_t>(__builtin_fabs(whole));
        return static_cast<std::int64_t>(whole < 0 ? 0 - magnitude : magnitude);
    }
    static std::int64_t wrapped(double whole) {
        // Towards zero, so that what is left has no more significant bits than there were.
        const double turns = __builtin_trunc(whole * detail::power_of_two(-W));
        const double rest = whole - turns * detail::power_of_two(W);
        const std::uint64_t upper = static_cast<std::uint64_t>(integer(rest)) << (64 - W);
        return S ? static_cast<std::int64_t>(upper) >> (64 - W) : static_cast<std::int64_t>(upper >> (64 - W));
    }
};

/// What has no bits is always zero; NaN and infinity are refused all the same.
struct no_encoder {
    static std::int64_t code(double value, bool& refused) {
        refused |= value - value != 0;
        return 0;
    }
};

/// The same for LANES numbers in a vector register, where `exact`; Real is float or double.
template <class Encoder, class Real, int LANES>
struct encoder_in_lanes {
    static constexpr bool exact = false;
};

template <int W, int FRAC, bool S, rounding Q, overflow O, class Real, int LANES>
struct encoder_in_lanes<encoder<W, FRAC, S, Q, O>, Real, LANES> {
    static constexpr int lanes = LANES;
    static constexpr bool is_float = sizeof(Real) == 4;
    using integer = typename std::conditional<is_float, std::int32_t, std::int64_t>::type;
    using reals = typename detail::lanes<Real, LANES>::type;
    using integers = typename detail::lanes<integer, LANES>::type;
    using codes = typename detail::lanes<std::int32_t, LANES>::type;

    /// Every code, and one beyond each end of the range, is a Real and an int32. A float only ever scales up, so that it
    /// is never lost, and an infinity that comes of it is out of range like any other number.
    static constexpr bool in_range = is_float ? W - S <= 23 && FRAC >= 0 && FRAC <= 100 : W - S <= 30 && FRAC <= 900;
    static constexpr bool exact = LANES > 1 && O != WRAP && FRAC >= -900 && in_range;

    /// `doubt` is no longer 0 in the lanes that had no code: what comes of NaN and infinity times zero stays NaN.
    static codes apply(reals values, reals& doubt) {
        const reals scaled = values * scale;
        doubt += (is_float ? values : scaled) * 0;
        if (!is_float && FRAC < 0) doubt += __builtin_convertvector((scaled == 0) ^ (values == 0), reals);
        return __builtin_convertvector(by_sum ? summed(scaled) : compared(scaled), codes);
    }

  private:
    static constexpr bool symmetric = O == SAT_SYM && S && W > 1;
    static constexpr Real scale = static_cast<Real>(detail::power_of_two(exact ? FRAC : 0));
    static constexpr integer highest = exact ? (integer(1) << (exact ? W - S : 0)) - 1 : 0;
    static constexpr integer lowest = symmetric ? -highest : S ? -highest - 1 : 0;

    /// Reals from 2^(digits - 1) to 2^digits lie one unit apart: a sum in there is rounded to nearest, ties to even, and
    /// its bits count units. So they do, in steps of any size but in order, wherever else the sum may lie; below zero
    /// they are negative.
    static constexpr int digits = is_float ? 24 : 53;
    static constexpr bool by_sum = Q == RND_CONV && W - S <= digits - 2;
    static constexpr integer origin = ((is_float ? integer(126) : integer(1022)) + digits << (digits - 1)) +
                                      (integer(1) << (digits - 2));

    static integers summed(reals scaled) {
        const reals sum = scaled + static_cast<Real>(detail::power_of_two(digits - 1) * 1.5);
        return within<origin + lowest, origin + highest, origin>(reinterpret_cast<integers>(sum)) - origin;
    }
    static integers compared(reals scaled) {
        // One unit outside the range decides like any number beyond it. In this order NaN becomes a number.
        reals near = scaled < Real(highest + 1) ? scaled : reals{} + Real(highest + 1);
        near = near > Real(lowest - 1) ? near : reals{} + Real(lowest - 1);
        return within<lowest, highest, 0>(nearest(near, __builtin_convertvector(near, integers)));
    }
    /// With limits that are constants of the template a compiler sees that these are the instructions min and max.
    template <integer LOW, integer HIGH, integer ZERO>
    static integers within(integers code) {
        if (O == SAT_ZERO) return (code > HIGH) | (code < LOW) ? integers{} + ZERO : code;
        code = code > HIGH ? integers{} + HIGH : code;
        return code > LOW ? code : integers{} + LOW;
    }
    /// A comparison is -1 where it holds.
    static integers nearest(reals near, integers whole) {
        const reals rest = near - __builtin_convertvector(whole, reals);
        constexpr Real half = Real(0.5);
        if (Q == TRN) return whole + (rest < 0);
        if (Q == TRN_ZERO) return whole;
        const integers odd = Q == RND_CONV ? (whole & 1) != 0 : integers{};
        const integers tie_up = Q == RND || Q == RND_INF ? ~integers{} : odd;
        const integers tie_down = Q == RND_INF || Q == RND_MIN_INF ? ~integers{} : odd;
        const integers up = (rest > half) | ((rest == half) & tie_up);
        const integers down = (rest < -half) | ((rest == -half) & tie_down);
        return whole - up + down;
    }
};

template <int W, int FRAC, bool S, rounding Q, overflow O, class Real, int LANES>
constexpr Real encoder_in_lanes<encoder<W, FRAC, S, Q, O>, Real, LANES>::scale;

}  // namespace qapsule

#endif  // QAPSULE_ENCODE_H
