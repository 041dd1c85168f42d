// The constants of "clip", as exact decimals.

#ifndef DESIGN_TINY_WEIGHTS_CLIP_H
#define DESIGN_TINY_WEIGHTS_CLIP_H

#include "../types.h"

static const clip_low_t clip_low[2] = {
    -4.5, -16.0
};
static const clip_high_t clip_high[2] = {
    15.5, 3.0
};

#endif  // DESIGN_TINY_WEIGHTS_CLIP_H
