// The number types of tiny. Only this file differs between tools.

#ifndef DESIGN_TINY_TYPES_H
#define DESIGN_TINY_TYPES_H

#include "ap_fixed.h"
#include "ap_int.h"

typedef ap_fixed<8, 3, AP_RND_CONV, AP_SAT> x_t;
typedef ap_fixed<15, 5> fc1_t;
typedef ap_fixed<6, 1> fc1_weight_t;
typedef ap_fixed<8, 1> fc1_bias_t;
typedef ap_ufixed<14, 4> relu1_t;
typedef ap_ufixed<6, 3, AP_RND_CONV, AP_SAT> act1_t;
typedef ap_fixed<12, 4> fc2_t;
typedef ap_fixed<6, 1> fc2_weight_t;
typedef ap_fixed<8, 1> fc2_bias_t;

#endif  // DESIGN_TINY_TYPES_H
