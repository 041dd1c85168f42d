/// \file
/// What a compiled design and the program that loads it agree on: plain C, no library.

#ifndef QAPSULE_EMULATION_ABI_H
#define QAPSULE_EMULATION_ABI_H

#include <cstdint>

/// Goes up whenever anything below changes its meaning.
#define QAPSULE_EMULATION_ABI 1

extern "C" {

enum qapsule_kind {
    QAPSULE_ABSENT = 0,   ///< nobody asked for this tensor
    QAPSULE_FLOAT32 = 1,  ///< values
    QAPSULE_FLOAT64 = 2,  ///< values
    QAPSULE_CODES = 3     ///< int64 codes; those of an unsigned 64-bit format modulo 2^64
};

/// A dense row-major array of samples.
struct qapsule_array {
    void *data;
    std::int32_t kind;  ///< a qapsule_kind
    double lsb;         ///< what one code is worth; only read where codes become values
};

/// Samples `first` to `last` - 1 of a batch. Distinct ranges of one batch may run at the same time.
struct qapsule_batch {
    const qapsule_array *inputs;   ///< one per input of the design: float32 or float64 values
    const qapsule_array *tensors;  ///< one per tensor of the design: where its samples go
    std::int64_t first;
    std::int64_t last;
};

/// Exported by a design as `qapsule_abi` and `qapsule_run`. Non-zero from `run`: a value that has no code came in, and
/// what was written means nothing.
typedef std::int32_t (*qapsule_abi_function)(void);
typedef std::int32_t (*qapsule_run_function)(const qapsule_batch *);
}

#endif  // QAPSULE_EMULATION_ABI_H
