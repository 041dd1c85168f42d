/// \file
/// Rounding and overflow modes, with the vendors' names and meanings, on plain integer codes.
///
/// A cast is two steps: `round_off` drops fraction bits, `fit` adds missing ones and brings the code into the range of
/// the target. What the compiler can tell from the two formats alone costs nothing: a target that holds every value of
/// the source is reached by a shift.

#ifndef QAPSULE_MODES_H
#define QAPSULE_MODES_H

#include "word.h"

#ifdef QAPSULE_VERIFY
#include <cstdio>
#include <cstdlib>
#endif

namespace qapsule {

enum rounding {
    TRN,          ///< towards minus infinity: the bits are cut off
    TRN_ZERO,     ///< towards zero
    RND,          ///< to nearest, ties towards plus infinity
    RND_ZERO,     ///< to nearest, ties towards zero
    RND_INF,      ///< to nearest, ties away from zero
    RND_MIN_INF,  ///< to nearest, ties towards minus infinity
    RND_CONV      ///< to nearest, ties to even
};

enum overflow {
    WRAP,      ///< the upper bits are cut off
    SAT,       ///< to the nearest end of the range
    SAT_ZERO,  ///< to zero
    SAT_SYM,   ///< to the nearest end of the range made symmetric; one signed bit stays {-1, 0}
    PROVED     ///< excluded by an analysis of the whole network: no code. -DQAPSULE_VERIFY aborts where it happens
};

namespace detail {

constexpr int larger(int a, int b) { return a > b ? a : b; }

#ifdef QAPSULE_VERIFY
[[noreturn]] inline void overflow_disproved(int width, int integer, bool is_signed) {
    std::fprintf(stderr, "qapsule: a value overflows %sfixed<%d, %d>, which was proved impossible\n",
                 is_signed ? "" : "u", width, integer);
    std::abort();
}
#endif

/// floor(x / 2^SHIFT), or one more where Q says so, for codes x of a format of WIDTH bits.
template <rounding Q, int SHIFT, int WIDTH, int STORED, int LANES>
struct round_off {
    // Dropping more bits than there are leaves less than half a unit: only the sign matters, and 2 bits can tell it.
    static constexpr bool vanishes = SHIFT > WIDTH;
    static constexpr int shift = vanishes ? 2 : SHIFT;
    using w = word<larger(STORED, shift + 2), LANES>;
    using type = typename w::type;
    using element = typename w::element;

    static constexpr type apply(type x) {
        if (vanishes) x = ones<element>(x > element(0)) - ones<element>(x < element(0));
        return nearest(x);
    }

  private:
    static constexpr element half = element(element(1) << (shift - 1));
    static constexpr element fraction = w::low_bits(shift);

    static constexpr type nearest(type x) {
        if (Q == TRN_ZERO) x = w::add(x, (x >> (w::bits - 1)) & fraction);
        const type floor = x >> shift;
        if (Q == TRN || Q == TRN_ZERO) return floor;
        return w::add(floor, ones<element>(w::add(x & fraction, bump(x, floor)) > half));
    }
    /// 1 where a tie goes up: it lifts the dropped fraction above one half.
    static constexpr type bump(type x, type floor) {
        return Q == RND_CONV   ? floor & element(1)
               : Q == RND_ZERO ? ones<element>(x < element(0))
               : Q == RND_INF  ? ones<element>(x >= element(0))
               : Q == RND      ? type{} + element(1)
                               : type{};
    }
};

/// x * 2^SHIFT brought into W bits, for codes -2^MAGNITUDE (0 unless FROM_SIGNED) <= x < 2^MAGNITUDE.
template <int W, int I, bool S, overflow O, int SHIFT, int MAGNITUDE, bool FROM_SIGNED, int LANES>
struct fit {
    using target = word<W + !S, LANES>;
    using w = word<(O == WRAP) ? W + !S : larger(W + !S, MAGNITUDE + 1), LANES>;
    using type = typename w::type;
    using element = typename w::element;

    static constexpr bool symmetric = O == SAT_SYM && S && W > 1;
    static constexpr element highest = w::low_bits(W - S);
    static constexpr element lowest = symmetric ? -highest : S ? -highest - 1 : 0;
    static constexpr bool may_exceed = MAGNITUDE + SHIFT > W - S;
    static constexpr bool may_undercut =
        FROM_SIGNED && (!S || MAGNITUDE + SHIFT > W - S || (symmetric && MAGNITUDE + SHIFT == W - S));

    static constexpr type apply(type x) {
        const type shifted = w::template shift_left<SHIFT>(x);
        if (O == WRAP) return may_exceed || may_undercut ? wrap(shifted) : shifted;
        type fitted = shifted;
        if (may_exceed) {
            const auto above = x > source_highest;
            fitted = O == PROVED ? fitted : above ? end(highest) : fitted;
            verify(above);
        }
        if (may_undercut) {
            const auto below = x < source_lowest;
            fitted = O == PROVED ? fitted : below ? end(lowest) : fitted;
            verify(below);
        }
        return fitted;
    }

  private:
    // The ends of the range in units of the source, so that nothing is shifted out before it is compared.
    static constexpr element source_highest = SHIFT < W ? element(highest >> (SHIFT < W ? SHIFT : 0)) : element(0);
    static constexpr element source_lowest = !S          ? element(0)
                                             : symmetric ? element(-source_highest)
                                             : SHIFT < W ? element(lowest >> (SHIFT < W ? SHIFT : 0))
                                                         : element(0);

    static constexpr type end(element code) { return type{} + (O == SAT_ZERO ? element(0) : code); }

    static constexpr type wrap(type x) {
        return S ? w::template shift_left<w::bits - W>(x) >> (w::bits - W) : x & highest;
    }
    template <class MASK>
    static constexpr void verify(const MASK& outside) {
#ifdef QAPSULE_VERIFY
        if (O == PROVED && any_lane<MASK, LANES>::of(outside)) overflow_disproved(W, I, S);
#else
        (void)outside;
#endif
    }
};

}  // namespace detail
}  // namespace qapsule

#endif  // QAPSULE_MODES_H
