// The number types of tiny. Only this file differs between tools.

#ifndef DESIGN_TINY_TYPES_H
#define DESIGN_TINY_TYPES_H

#include "ap_fixed.h"
#include "ap_int.h"

typedef ap_fixed<7, 3, AP_RND_CONV, AP_SAT> x_t;
typedef ap_fixed<6, 4, AP_RND, AP_SAT_SYM> cast_t;
typedef ap_fixed<7, 4, AP_TRN_ZERO, AP_WRAP> affine_t;
typedef ap_fixed<4, 2> affine_scale_t;
typedef ap_fixed<6, 2> affine_offset_t;
typedef ap_fixed<7, 4> flat_t;
typedef ap_fixed<10, 5> fc_t;
typedef ap_fixed<4, 2> fc_weight_t;
typedef ap_fixed<4, 1> fc_bias_t;
typedef ap_ufixed<9, 4> relu_t;
typedef ap_fixed<4, 4> threshold_t;
typedef ap_ufixed<10, 5> threshold_level_t;
typedef ap_fixed<4, 4> threshold_start_t;
typedef ap_fixed<2, 2> threshold_step_t;
typedef ap_fixed<5, 4> sparse_t;
typedef ap_fixed<3, 2> sparse_weight_t;
typedef ap_uint<2> sparse_row_t;
typedef ap_uint<2> sparse_col_t;
typedef ap_fixed<2, 1> sparse_bias_t;
typedef ap_fixed<6, 5, AP_RND_MIN_INF, AP_SAT> narrow_t;
typedef ap_fixed<3, 2> narrow_weight_t;
typedef ap_fixed<3, 1> narrow_bias_t;
typedef ap_fixed<6, 5> clip_t;
typedef ap_fixed<6, 5> clip_low_t;
typedef ap_fixed<6, 5> clip_high_t;
typedef ap_fixed<6, 4> channels_t;
typedef ap_uint<1> channels_index_t;
typedef ap_fixed<3, 4, AP_RND_CONV, AP_SAT> channels_format0_t;
typedef ap_fixed<4, 2, AP_RND_CONV, AP_SAT> channels_format1_t;
typedef ap_fixed<8, 6> largest_t;

#endif  // DESIGN_TINY_TYPES_H
