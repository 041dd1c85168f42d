#include "tiny.h"

#include "qapsule/cast.h"
#include "qapsule/dense.h"
#include "qapsule/input.h"
#include "qapsule/relu.h"
#include "qapsule/voter.h"
#include "qapsule/trace.h"
#include "weights/fc1.h"
#include "weights/fc2.h"

// "fc1": takes its constants from the words on the bus when told to, then computes with those that it has.
static void fc1_layer(const x_t (&x)[4], fc1_t (&fc1)[3], const unsigned int fc1_words[15], bool load) {
    if (load) {
        qapsule::reload<0, unsigned char>(fc1_words, fc1_weight);
        qapsule::reload<12, unsigned char>(fc1_words, fc1_bias);
    }
    QAPSULE_STORAGE(fc1_weight, RAM_1P, BRAM)
    qapsule::dense_reuse<2>(x, fc1, fc1_weight, fc1_bias);
}

// "fc2": takes its constants from the words on the bus when told to, then computes with those that it has.
static void fc2_layer(const act1_t (&act1)[3], fc2_t (&fc2)[2], const unsigned int fc2_words[24], bool load) {
    if (load) {
        qapsule::reload_copy<0, unsigned char>(fc2_words, fc2_weight_copy0);
        qapsule::reload_copy<6, unsigned char>(fc2_words, fc2_weight_copy1);
        qapsule::reload_copy<12, unsigned char>(fc2_words, fc2_weight_copy2);
        qapsule::reload_copy<18, unsigned char>(fc2_words, fc2_bias_copy0);
        qapsule::reload_copy<20, unsigned char>(fc2_words, fc2_bias_copy1);
        qapsule::reload_copy<22, unsigned char>(fc2_words, fc2_bias_copy2);
    }
    fc2_weight_t fc2_weight[2][3];
    QAPSULE_PARTITION(fc2_weight, 0)
    qapsule::vote(fc2_weight_copy0, fc2_weight_copy1, fc2_weight_copy2, fc2_weight);
    fc2_bias_t fc2_bias[2];
    QAPSULE_PARTITION(fc2_bias, 0)
    qapsule::vote(fc2_bias_copy0, fc2_bias_copy1, fc2_bias_copy2, fc2_bias);
    qapsule::dense(act1, fc2, fc2_weight, fc2_bias);
}

void tiny(const x_t x_in[4], fc2_t fc2_out[2], const unsigned int fc1_words[15], const unsigned int fc2_words[24], bool load) {
#if defined(__VITIS_HLS__) || defined(__VIVADO_HLS__)
#pragma HLS ARRAY_RESHAPE variable=x_in complete dim=0
#pragma HLS INTERFACE ap_vld port=x_in
#pragma HLS ARRAY_RESHAPE variable=fc2_out complete dim=0
#pragma HLS INTERFACE ap_vld port=fc2_out
#pragma HLS INTERFACE s_axilite port=fc1_words bundle=weights
#pragma HLS INTERFACE s_axilite port=fc2_words bundle=weights
#pragma HLS INTERFACE s_axilite port=load bundle=weights
#endif
    QAPSULE_DATAFLOW

    QAPSULE_INPUT(x_t, x, 4, x_in)
    QAPSULE_TRACE("x", x)

    fc1_t fc1[3];
    QAPSULE_PARTITION(fc1, 0)
    fc1_layer(x, fc1, fc1_words, load);
    QAPSULE_TRACE("fc1", fc1)

    relu1_t relu1[3];
    QAPSULE_PARTITION(relu1, 0)
    qapsule::relu(fc1, relu1);
    QAPSULE_TRACE("relu1", relu1)

    act1_t act1[3];
    QAPSULE_PARTITION(act1, 0)
    qapsule::cast(relu1, act1);
    QAPSULE_TRACE("act1", act1)

    fc2_t fc2[2];
    QAPSULE_PARTITION(fc2, 0)
    fc2_layer(act1, fc2, fc2_words, load);
    QAPSULE_TRACE("fc2", fc2)

    qapsule::output(fc2, fc2_out);
}
