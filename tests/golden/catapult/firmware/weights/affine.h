// The constants of "affine", as exact decimals.

#ifndef DESIGN_TINY_WEIGHTS_AFFINE_H
#define DESIGN_TINY_WEIGHTS_AFFINE_H

#include "../types.h"

static const affine_scale_t affine_scale[6] = {
    0.75, 0.75, 0.75, -0.5, -0.5, -0.5
};
static const affine_offset_t affine_offset[6] = {
    0.0625, 0.0625, 0.0625, 0.3125, 0.3125, 0.3125
};

#endif  // DESIGN_TINY_WEIGHTS_AFFINE_H
