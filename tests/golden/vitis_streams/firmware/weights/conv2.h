// The constants of "conv2", as exact decimals.

#ifndef DESIGN_TINY_STREAMS_WEIGHTS_CONV2_H
#define DESIGN_TINY_STREAMS_WEIGHTS_CONV2_H

#include "../types.h"
#include "../qapsule/conv.h"

static const qapsule::tap<conv2_weight_t, conv2_input_t> conv2_taps[2][16] = {
    {{0, 0.5}, {1, -0.5}, {2, -0.75}, {3, -0.25}, {4, -0.25}, {5, 0.5}, {7, -0.75}, {8, -0.25}, {9, 0.25}, {10, 0.5}, {11, 0.5}, {12, 0.75}, {13, -0.5}, {14, 0.75}, {15, -0.75}, {17, -0.5}},
    {{0, -0.5}, {1, 0.25}, {2, -0.25}, {4, -0.5}, {5, -0.5}, {6, 0.5}, {8, 0.25}, {9, 0.25}, {10, 0.75}, {11, -0.25}, {12, -0.5}, {13, 0.25}, {14, 0.75}, {15, 0.75}, {16, 0.75}, {17, 0.25}}
};
static const conv2_used_t conv2_used[2] = {
    16, 16
};
static const conv2_bias_t conv2_bias[2] = {
    -0.25, -0.25
};

#endif  // DESIGN_TINY_STREAMS_WEIGHTS_CONV2_H
