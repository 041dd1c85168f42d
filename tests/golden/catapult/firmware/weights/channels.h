// The constants of "channels", as exact decimals.

#ifndef DESIGN_TINY_WEIGHTS_CHANNELS_H
#define DESIGN_TINY_WEIGHTS_CHANNELS_H

#include "../types.h"

static const channels_index_t channels_format0[1] = {
    0
};
static const channels_index_t channels_format1[1] = {
    1
};

#endif  // DESIGN_TINY_WEIGHTS_CHANNELS_H
