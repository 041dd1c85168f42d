// The constants of "fc1", as exact decimals: those that it has until others are loaded.

#ifndef DESIGN_TINY_WEIGHTS_FC1_H
#define DESIGN_TINY_WEIGHTS_FC1_H

#include "../types.h"

static fc1_weight_t fc1_weight[2][6] = {
    {0.6875, -0.375, -0.625, 0.28125, -0.90625, 0.625},
    {0.03125, -0.84375, 0.28125, -0.46875, -0.9375, 0.8125}
};
static fc1_bias_t fc1_bias[3] = {
    0.0, 0.2109375, 0.9375
};

#endif  // DESIGN_TINY_WEIGHTS_FC1_H
