// The number types of tiny. Only this file differs between tools.

#ifndef DESIGN_TINY_TYPES_H
#define DESIGN_TINY_TYPES_H

#include "HLS/ac_fixed.h"
#include "HLS/ac_int.h"

typedef ac_fixed<7, 3, true, AC_RND_CONV, AC_SAT> x_t;
typedef ac_fixed<6, 4, true, AC_RND, AC_SAT_SYM> cast_t;
typedef ac_fixed<7, 4, true, AC_TRN_ZERO, AC_WRAP> affine_t;
typedef ac_fixed<4, 2, true> affine_scale_t;
typedef ac_fixed<6, 2, true> affine_offset_t;
typedef ac_fixed<7, 4, true> flat_t;
typedef ac_fixed<10, 5, true> fc_t;
typedef ac_fixed<4, 2, true> fc_weight_t;
typedef ac_fixed<4, 1, true> fc_bias_t;
typedef ac_fixed<9, 4, false> relu_t;
typedef ac_fixed<4, 4, true> threshold_t;
typedef ac_fixed<10, 5, false> threshold_level_t;
typedef ac_fixed<4, 4, true> threshold_start_t;
typedef ac_fixed<2, 2, true> threshold_step_t;
typedef ac_fixed<5, 4, true> sparse_t;
typedef ac_fixed<3, 2, true> sparse_weight_t;
typedef ac_int<2, false> sparse_row_t;
typedef ac_int<2, false> sparse_col_t;
typedef ac_fixed<2, 1, true> sparse_bias_t;
typedef ac_fixed<6, 5, true, AC_RND_MIN_INF, AC_SAT> narrow_t;
typedef ac_fixed<3, 2, true> narrow_weight_t;
typedef ac_fixed<3, 1, true> narrow_bias_t;
typedef ac_fixed<6, 5, true> clip_t;
typedef ac_fixed<6, 5, true> clip_low_t;
typedef ac_fixed<6, 5, true> clip_high_t;
typedef ac_fixed<6, 4, true> channels_t;
typedef ac_int<1, false> channels_index_t;
typedef ac_fixed<3, 4, true, AC_RND_CONV, AC_SAT> channels_format0_t;
typedef ac_fixed<4, 2, true, AC_RND_CONV, AC_SAT> channels_format1_t;
typedef ac_fixed<8, 6, true> largest_t;

#endif  // DESIGN_TINY_TYPES_H
