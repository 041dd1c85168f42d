// The constants of "fc2", as exact decimals: those that it has until others are loaded.

#ifndef DESIGN_TINY_WEIGHTS_FC2_H
#define DESIGN_TINY_WEIGHTS_FC2_H

#include "../types.h"

// Three times, as codes: fc2_weight.
static volatile unsigned char fc2_weight_copy0[6][1] = {
    {14U}, {8U}, {3U}, {4U}, {27U}, {50U}
};
static volatile unsigned char fc2_weight_copy1[6][1] = {
    {14U}, {8U}, {3U}, {4U}, {27U}, {50U}
};
static volatile unsigned char fc2_weight_copy2[6][1] = {
    {14U}, {8U}, {3U}, {4U}, {27U}, {50U}
};
// Three times, as codes: fc2_bias.
static volatile unsigned char fc2_bias_copy0[2][1] = {
    {80U}, {43U}
};
static volatile unsigned char fc2_bias_copy1[2][1] = {
    {80U}, {43U}
};
static volatile unsigned char fc2_bias_copy2[2][1] = {
    {80U}, {43U}
};

#endif  // DESIGN_TINY_WEIGHTS_FC2_H
