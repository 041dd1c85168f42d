/// \file
/// The emulator's view of Xilinx's ap_fixed and ap_ufixed, whose header the design's types.h has included before.

#ifndef QAPSULE_EMULATE_AP_H
#define QAPSULE_EMULATE_AP_H

#include "emulate.h"

namespace qapsule {
namespace emulation {

template <class T, int W, bool S>
struct codes_of_ap {
    using element = std::int64_t;
    static constexpr int lanes = 1;

    template <int N>
    static const element* read(const T (&array)[N], element (&codes)[N]) {
        for (int i = 0; i < N; ++i) {
            const std::uint64_t upper = array[i].range().to_uint64() << (64 - W);
            codes[i] = S ? element(upper) >> (64 - W) : element(upper >> (64 - W));
        }
        return codes;
    }
    static T make(const element (&codes)[1]) {
        T number;
        number.range() = static_cast<unsigned long long>(codes[0]);
        return number;
    }
    static element widen(std::int64_t code) { return code; }
};

template <int W, int I, ap_q_mode Q, ap_o_mode O, int N>
struct codes_of<ap_fixed<W, I, Q, O, N>> : codes_of_ap<ap_fixed<W, I, Q, O, N>, W, true> {};
template <int W, int I, ap_q_mode Q, ap_o_mode O, int N>
struct codes_of<ap_ufixed<W, I, Q, O, N>> : codes_of_ap<ap_ufixed<W, I, Q, O, N>, W, false> {};

}  // namespace emulation
}  // namespace qapsule

#endif  // QAPSULE_EMULATE_AP_H
