// The constants of "fc", as exact decimals.

#ifndef DESIGN_TINY_WEIGHTS_FC_H
#define DESIGN_TINY_WEIGHTS_FC_H

#include "../types.h"

static const fc_weight_t fc_weight[3][7] = {
    {0.25, 0.0, 0.75, -0.5, 0.0, 0.75, 1.0},
    {0.75, 1.75, 0.0, 0.0, -1.75, 0.0, -1.0},
    {1.25, 0.25, -0.25, -1.5, 0.5, 0.25, 0.5}
};
static const fc_bias_t fc_bias[4] = {
    0.125, -0.25, 0.375, -0.5
};

#endif  // DESIGN_TINY_WEIGHTS_FC_H
