/// \file
/// The emulator's view of Siemens' ac_fixed, whose header the design's types.h has included before.

#ifndef QAPSULE_EMULATE_AC_H
#define QAPSULE_EMULATE_AC_H

#include "emulate.h"

namespace qapsule {
namespace emulation {

template <int W, int I, bool S, ac_q_mode Q, ac_o_mode O>
struct codes_of<ac_fixed<W, I, S, Q, O>> {
    using number = ac_fixed<W, I, S, Q, O>;
    using element = std::int64_t;
    static constexpr int lanes = 1;

    template <int N>
    static const element* read(const number (&array)[N], element (&codes)[N]) {
        for (int i = 0; i < N; ++i) codes[i] = ac_int<64, true>(array[i].template slc<W>(0)).to_int64();
        return codes;
    }
    static number make(const element (&codes)[1]) {
        number x = 0;
        x.set_slc(0, ac_int<W, S>(static_cast<long long>(codes[0])));
        return x;
    }
    static element widen(std::int64_t code) { return code; }
};

}  // namespace emulation
}  // namespace qapsule

#endif  // QAPSULE_EMULATE_AC_H
