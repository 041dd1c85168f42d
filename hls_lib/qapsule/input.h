/// \file
/// Where data enters and leaves a design.
///
/// The arguments of a top-level function are plain arrays, which every HLS tool accepts; they forget their size, which
/// the kernels ask for. So they are copied at the border: wires, no cycles of their own in a pipelined design.

#ifndef QAPSULE_INPUT_H
#define QAPSULE_INPUT_H

#include "pragmas.h"

namespace qapsule {

template <class T, int N>
void input(const T* port, T (&x)[N]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        x[i] = port[i];
    }
}

template <class T, int N>
void output(const T (&y)[N], T* port) {
    QAPSULE_PIPELINE(1)
    QAPSULE_UNROLLED(elements)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        port[i] = y[i];
    }
}

}  // namespace qapsule

/// The array `x` of the N numbers of type T that came in at `port`. A simulation may define it otherwise before, as the
/// emulator does.
#ifndef QAPSULE_INPUT
#define QAPSULE_INPUT(T, x, N, port) \
    T x[N];                          \
    QAPSULE_PARTITION(x, 0)          \
    qapsule::input(port, x);
#endif

#endif  // QAPSULE_INPUT_H
