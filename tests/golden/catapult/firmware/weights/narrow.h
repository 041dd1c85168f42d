// The constants of "narrow", as exact decimals.

#ifndef DESIGN_TINY_WEIGHTS_NARROW_H
#define DESIGN_TINY_WEIGHTS_NARROW_H

#include "../types.h"

static const narrow_weight_t narrow_weight[2][3] = {
    {0.5, -1.5, 1.0},
    {1.5, 0.5, -0.5}
};
static const narrow_bias_t narrow_bias[2] = {
    0.25, 0.5
};

#endif  // DESIGN_TINY_WEIGHTS_NARROW_H
