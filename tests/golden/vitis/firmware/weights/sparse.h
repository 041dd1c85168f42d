// The constants of "sparse", as exact decimals.

#ifndef DESIGN_TINY_WEIGHTS_SPARSE_H
#define DESIGN_TINY_WEIGHTS_SPARSE_H

#include "../types.h"
#include "../qapsule/sparse_dense.h"

static const qapsule::coo<sparse_weight_t, sparse_row_t, sparse_col_t> sparse_entries[4] = {
    {1, 0, 1.5}, {3, 0, -0.5}, {0, 1, 1.0}, {2, 2, -1.5}
};
static const sparse_bias_t sparse_bias[3] = {
    0.5, 0.0, -0.5
};

#endif  // DESIGN_TINY_WEIGHTS_SPARSE_H
