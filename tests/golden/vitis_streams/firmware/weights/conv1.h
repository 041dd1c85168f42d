// The constants of "conv1", as exact decimals.

#ifndef DESIGN_TINY_STREAMS_WEIGHTS_CONV1_H
#define DESIGN_TINY_STREAMS_WEIGHTS_CONV1_H

#include "../types.h"
#include "../qapsule/conv.h"

static const qapsule::tap<conv1_weight_t, conv1_input_t> conv1_taps[2][15] = {
    {{2, 0.5}, {3, 0.75}, {4, -0.75}, {5, -0.5}, {6, 0.5}, {7, 0.75}, {8, -0.5}, {9, -0.25}, {10, 0.75}, {11, -0.25}, {12, -0.5}, {13, 0.5}, {14, -0.5}, {15, -0.25}, {16, 0.25}},
    {{0, -0.75}, {1, -0.75}, {2, 0.75}, {3, 0.5}, {4, 0.5}, {6, 0.5}, {7, -0.25}, {9, 0.5}, {10, -0.75}, {11, -0.25}, {12, -0.75}, {14, 0.75}, {15, -0.75}, {16, -0.25}, {17, -0.25}}
};
static const conv1_used_t conv1_used[2] = {
    15, 15
};
static const conv1_bias_t conv1_bias[2] = {
    0.75, -0.625
};

#endif  // DESIGN_TINY_STREAMS_WEIGHTS_CONV1_H
