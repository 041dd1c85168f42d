#include "tiny.h"

#include "qapsule/affine.h"
#include "qapsule/cast.h"
#include "qapsule/channel_cast.h"
#include "qapsule/clip.h"
#include "qapsule/dense.h"
#include "qapsule/input.h"
#include "qapsule/maximum.h"
#include "qapsule/relu.h"
#include "qapsule/reshape.h"
#include "qapsule/sparse_dense.h"
#include "qapsule/threshold.h"
#include "qapsule/trace.h"
#include "weights/affine.h"
#include "weights/fc.h"
#include "weights/threshold.h"
#include "weights/sparse.h"
#include "weights/narrow.h"
#include "weights/clip.h"
#include "weights/channels.h"

// Each channel of "channels" in its own format; one function, so that one process makes the tensor.
static void channels_channels(const clip_t (&x)[2], channels_t (&y)[2]) {
    QAPSULE_PIPELINE(1)
    qapsule::channel_cast<channels_format0_t>(x, y, channels_format0);
    qapsule::channel_cast<channels_format1_t>(x, y, channels_format1);
}

void tiny(const x_t x_in[6], largest_t largest_out[2]) {
#if defined(__VITIS_HLS__) || defined(__VIVADO_HLS__)
#pragma HLS ARRAY_RESHAPE variable=x_in complete dim=0
#pragma HLS INTERFACE ap_vld port=x_in
#pragma HLS ARRAY_RESHAPE variable=largest_out complete dim=0
#pragma HLS INTERFACE ap_vld port=largest_out
#endif

    QAPSULE_INPUT(x_t, x, 6, x_in)
    QAPSULE_TRACE("x", x)

    cast_t cast[6];
    QAPSULE_PARTITION(cast, 0)
    qapsule::cast(x, cast);
    QAPSULE_TRACE("cast", cast)

    affine_t affine[6];
    QAPSULE_PARTITION(affine, 0)
    qapsule::affine(cast, affine, affine_scale, affine_offset);
    QAPSULE_TRACE("affine", affine)

    flat_t flat[6];
    QAPSULE_PARTITION(flat, 0)
    qapsule::reshape(affine, flat);
    QAPSULE_TRACE("flat", flat)

    fc_t fc[4];
    QAPSULE_PARTITION(fc, 0)
    qapsule::dense_reuse<3, qapsule::multipliers<0, 1, 2, 4, 5, 6, 7>>(flat, fc, fc_weight, fc_bias);
    QAPSULE_TRACE("fc", fc)

    relu_t relu[4];
    QAPSULE_PARTITION(relu, 0)
    qapsule::relu(fc, relu);
    QAPSULE_TRACE("relu", relu)

    threshold_t threshold[4];
    QAPSULE_PARTITION(threshold, 0)
    qapsule::threshold(relu, threshold, threshold_level, threshold_start, threshold_step);
    QAPSULE_TRACE("threshold", threshold)

    sparse_t sparse[3];
    QAPSULE_PARTITION(sparse, 0)
    qapsule::sparse_dense(threshold, sparse, sparse_entries, sparse_bias);
    QAPSULE_TRACE("sparse", sparse)

    narrow_t narrow[2];
    QAPSULE_PARTITION(narrow, 0)
    qapsule::dense(sparse, narrow, narrow_weight, narrow_bias);
    QAPSULE_TRACE("narrow", narrow)

    clip_t clip[2];
    QAPSULE_PARTITION(clip, 0)
    qapsule::clip(narrow, clip, clip_low, clip_high);
    QAPSULE_TRACE("clip", clip)

    channels_t channels[2];
    QAPSULE_PARTITION(channels, 0)
    channels_channels(clip, channels);
    QAPSULE_TRACE("channels", channels)

    largest_t largest[2];
    QAPSULE_PARTITION(largest, 0)
    qapsule::maximum(channels, narrow, largest);
    QAPSULE_TRACE("largest", largest)

    qapsule::output(largest, largest_out);
}
