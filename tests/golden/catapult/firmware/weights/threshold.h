// The constants of "threshold", as exact decimals.

#ifndef DESIGN_TINY_WEIGHTS_THRESHOLD_H
#define DESIGN_TINY_WEIGHTS_THRESHOLD_H

#include "../types.h"

static const threshold_level_t threshold_level[4][3] = {
    {0.0, 0.15625, 0.28125},
    {0.03125, 0.03125, 1.25},
    {0.09375, 0.9375, 9.375},
    {3.125, 6.25, 9.375}
};
static const threshold_start_t threshold_start[4] = {
    -2.0, 3.0, 0.0, 1.0
};
static const threshold_step_t threshold_step[4] = {
    1.0, -1.0, 1.0, 1.0
};

#endif  // DESIGN_TINY_WEIGHTS_THRESHOLD_H
