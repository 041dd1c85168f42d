/// \file
/// Fully connected layers of signs: XNOR and population count.

#ifndef QAPSULE_BINARY_DENSE_H
#define QAPSULE_BINARY_DENSE_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

/// Signs as bits, 0 for -1. A number type that can hold many of them in one word specialises it.
template <class X, int N>
class signs {
  public:
    explicit signs(const X (&x)[N]) : x_(x) {}

    /// At how many places the weights agree, each worth `unit`. Bit i of word w is the weight of input 32 w + i.
    template <class Count, class U, int WORDS>
    Count agreements(const unsigned (&weight)[WORDS], const U& unit) const {
        static_assert(32 * WORDS >= N, "qapsule::signs: a word holds the weights of 32 inputs");
        QAPSULE_INLINE
        Count count = Count(0);
        QAPSULE_UNROLLED(inputs)
        for (int i = 0; i < N; ++i) {
            QAPSULE_UNROLL
            const X sign = X((weight[i / 32] >> unsigned(i % 32)) & 1u);
            count = select(x_[i] == sign, Count(count + unit), count);
        }
        return count;
    }

  private:
    const X (&x_)[N];
};

/// y = offset + unit * (number of inputs that agree with their weight). II = 1, unrolled: N_IN * N_OUT XNORs, which are
/// wires and inverters since the weights are constants, and a population count per output; no multiplier.
template <class Count, class X, class Y, class B, class U, int N_IN, int N_OUT, int WORDS>
void binary_dense(const X (&x)[N_IN], Y (&y)[N_OUT], const unsigned (&weight)[N_OUT][WORDS], const B (&offset)[N_OUT],
                  const U (&unit)[1]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_PARTITION(weight, 0)
    QAPSULE_PARTITION(offset, 0)
    const signs<X, N_IN> bits(x);
    QAPSULE_UNROLLED(outputs)
    for (int j = 0; j < N_OUT; ++j) {
        QAPSULE_UNROLL
        y[j] = Y(offset[j] + bits.template agreements<Count>(weight[j], unit[0]));
    }
}

}  // namespace qapsule

#endif  // QAPSULE_BINARY_DENSE_H
