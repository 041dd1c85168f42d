/// \file
/// Machine words behind a fixed-point number: one signed integer, or a vector register of them.
///
/// A word<BITS, LANES> is the narrowest of int32, int64 and __int128 that holds BITS bits, sign included. With
/// LANES > 1 it is a GCC/Clang vector extension type, so that one C++ operator computes that many samples. Sums,
/// products and left shifts go through the unsigned type: they wrap, and are never undefined.

#ifndef QAPSULE_WORD_H
#define QAPSULE_WORD_H

#include <cstdint>
#include <type_traits>

// Vectors wider than the machine's registers pass by value between functions of this library alone, so that nobody else
// has to agree on how; the compilers' warning that this depends on the machine means libraries.
#if defined(__clang__)
#if __has_warning("-Wpsabi")
#pragma clang diagnostic ignored "-Wpsabi"
#endif
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

namespace qapsule {
namespace detail {

__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;

template <int BITS, int LANES>
struct element_of {
    static_assert(BITS <= 128, "qapsule::fixed: this number needs more than 128 bits; narrow an operand before");
    static_assert(LANES == 1 || BITS <= 64,
                  "qapsule::fixed: this number needs more than 64 bits, which only one lane (L = 1) can hold");
    using narrow = typename std::conditional<(BITS <= 32), std::int32_t, std::int64_t>::type;
    using type = typename std::conditional<(BITS <= 64), narrow, int128>::type;
};

template <class E>
struct unsigned_of;
template <>
struct unsigned_of<std::int32_t> {
    using type = std::uint32_t;
};
template <>
struct unsigned_of<std::int64_t> {
    using type = std::uint64_t;
};
template <>
struct unsigned_of<int128> {
    using type = uint128;
};

/// LANES integers of type E side by side; for one lane the integer itself.
template <class E, int LANES>
struct lanes {
    static_assert(LANES > 0 && (LANES & (LANES - 1)) == 0, "qapsule::fixed: the number of lanes L is a power of two");
    typedef E type __attribute__((vector_size(sizeof(E) * LANES)));
};
template <class E>
struct lanes<E, 1> {
    typedef E type;
};

/// Changes the integer type lane by lane, keeping the value modulo its width; one lane spreads over all.
template <class TO, int LANES, int LANES_FROM>
struct convert {
    static_assert(LANES == LANES_FROM, "qapsule::fixed: two numbers of different lane counts meet; only L = 1 spreads");
    template <class X>
    static typename lanes<TO, LANES>::type apply(X x) {
        return __builtin_convertvector(x, typename lanes<TO, LANES>::type);
    }
};
template <class TO, int LANES>
struct convert<TO, LANES, 1> {
    template <class X>
    static typename lanes<TO, LANES>::type apply(X x) {
        return typename lanes<TO, LANES>::type{} + static_cast<TO>(x);
    }
};
template <class TO>
struct convert<TO, 1, 1> {
    template <class X>
    static constexpr TO apply(X x) {
        return static_cast<TO>(x);
    }
};

/// 1 in each lane where a comparison held, 0 elsewhere.
template <class E>
constexpr E ones(bool held) {
    return E(held);
}
template <class E, class MASK>
constexpr MASK ones(MASK held) {
    return -held;
}

template <class MASK, int LANES>
struct any_lane {
    static bool of(const MASK& held) {
        bool any = false;
        for (int lane = 0; lane < LANES; ++lane) any |= held[lane] != 0;
        return any;
    }
};
template <class MASK>
struct any_lane<MASK, 1> {
    static constexpr bool of(bool held) { return held; }
};

template <int BITS, int LANES>
struct word {
    using element = typename element_of<BITS, LANES>::type;
    using unsigned_element = typename unsigned_of<element>::type;
    using type = typename lanes<element, LANES>::type;
    using unsigned_type = typename lanes<unsigned_element, LANES>::type;

    static constexpr int bits = 8 * sizeof(element);

    template <int LANES_FROM, class X>
    static constexpr type from(X x) {
        return convert<element, LANES, LANES_FROM>::apply(x);
    }
    static constexpr type add(type a, type b) { return type(unsigned_type(a) + unsigned_type(b)); }
    static constexpr type subtract(type a, type b) { return type(unsigned_type(a) - unsigned_type(b)); }
    static constexpr type multiply(type a, type b) { return type(unsigned_type(a) * unsigned_type(b)); }

    /// a * 2^SHIFT; zero once every bit has left the word.
    template <int SHIFT>
    static constexpr type shift_left(type a) {
        static_assert(SHIFT >= 0, "qapsule: a left shift counts up");
        return SHIFT < bits ? type(unsigned_type(a) << unsigned_element(SHIFT < bits ? SHIFT : 0)) : type{};
    }
    /// 2^POWER - 1, for POWER < bits.
    static constexpr element low_bits(int power) {
        return element(static_cast<unsigned_element>(unsigned_element(1) << power) - 1);
    }
};

}  // namespace detail
}  // namespace qapsule

#endif  // QAPSULE_WORD_H
