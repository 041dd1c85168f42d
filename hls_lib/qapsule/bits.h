/// \file
/// Signs of software emulation, 32 to a word: one operator compares 32 of them, in every lane.

#ifndef QAPSULE_BITS_H
#define QAPSULE_BITS_H

#include "binary_dense.h"
#include "fixed.h"

namespace qapsule {

namespace detail {

/// Ones in each lane's word.
template <class WORD>
inline WORD population(WORD x) {
    x -= (x >> 1) & 0x55555555u;
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0fu;
    x += x >> 8;
    return (x + (x >> 16)) & 0x3fu;
}

}  // namespace detail

template <rounding Q, overflow O, int L, int N>
class signs<fixed<1, 1, false, Q, O, L>, N> {
    using number = fixed<1, 1, false, Q, O, L>;
    using packed = typename detail::lanes<std::uint32_t, L>::type;
    static constexpr int words = (N + 31) / 32;

  public:
    explicit signs(const number (&x)[N]) {
        for (int w = 0; w < words; ++w) {
            packed word = packed{};
            for (int i = 32 * w; i < N && i < 32 * w + 32; ++i) word |= packed(x[i].raw()) << unsigned(i % 32);
            words_[w] = word;
        }
    }

    template <class Count, class U, int WORDS>
    Count agreements(const unsigned (&weight)[WORDS], const U&) const {
        static_assert(WORDS == words, "qapsule::signs: a word holds the weights of 32 inputs");
        using count = typename Count::word;
        packed differences = packed{};
        for (int w = 0; w < words; ++w) differences += detail::population(words_[w] ^ weight[w]);
        using whole = typename detail::word<32, L>;
        return Count::from_raw(count::subtract(typename count::type{} + N,
                                               count::template from<L>(typename whole::type(differences))));
    }

  private:
    packed words_[words];
};

}  // namespace qapsule

#endif  // QAPSULE_BITS_H
