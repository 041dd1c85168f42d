#include "tiny.h"

#include "qapsule/cast.h"
#include "qapsule/dense.h"
#include "qapsule/relu.h"
#include "qapsule/stream/transfer.h"
#include "qapsule/voter.h"
#include "qapsule/trace.h"
#include "weights/fc1.h"
#include "weights/fc2.h"

// "fc1", "relu1", "act1": 1 x 3
static void act1_samples(x_stream& x_from, act1_stream& act1_to) {
    QAPSULE_STORAGE(fc1_weight, RAM_1P, BRAM)
    x_t x[4];
    QAPSULE_PARTITION(x, 0)
    qapsule::stream::read(x_from, x);
    fc1_t fc1[3];
    QAPSULE_PARTITION(fc1, 0)
    qapsule::dense_reuse<2>(x, fc1, fc1_weight, fc1_bias);
    QAPSULE_TRACE("fc1", fc1)
    relu1_t relu1[3];
    QAPSULE_PARTITION(relu1, 0)
    qapsule::relu(fc1, relu1);
    QAPSULE_TRACE("relu1", relu1)
    act1_t act1[3];
    QAPSULE_PARTITION(act1, 0)
    qapsule::cast(relu1, act1);
    QAPSULE_TRACE("act1", act1)
    qapsule::stream::write(act1, act1_to);
}

// The same, having taken its constants from the words on the bus when told to.
QAPSULE_PROCESS
static void act1_process(x_stream& x_from, act1_stream& act1_to, const unsigned int fc1_words[15], bool load) {
    if (load) {
        qapsule::reload<0, unsigned char>(fc1_words, fc1_weight);
        qapsule::reload<12, unsigned char>(fc1_words, fc1_bias);
    }
    act1_samples(x_from, act1_to);
}

// "fc2": 1 x 2
static void fc2_samples(act1_stream& act1_from, fc2_stream& fc2_to) {
    fc2_weight_t fc2_weight[2][3];
    QAPSULE_PARTITION(fc2_weight, 0)
    qapsule::vote(fc2_weight_copy0, fc2_weight_copy1, fc2_weight_copy2, fc2_weight);
    fc2_bias_t fc2_bias[2];
    QAPSULE_PARTITION(fc2_bias, 0)
    qapsule::vote(fc2_bias_copy0, fc2_bias_copy1, fc2_bias_copy2, fc2_bias);
    QAPSULE_FLOW(1)
    act1_t act1[3];
    QAPSULE_PARTITION(act1, 0)
    qapsule::stream::read(act1_from, act1);
    fc2_t fc2[2];
    QAPSULE_PARTITION(fc2, 0)
    qapsule::dense(act1, fc2, fc2_weight, fc2_bias);
    QAPSULE_TRACE("fc2", fc2)
    qapsule::stream::write(fc2, fc2_to);
}

// The same, having taken its constants from the words on the bus when told to.
QAPSULE_PROCESS
static void fc2_process(act1_stream& act1_from, fc2_stream& fc2_to, const unsigned int fc2_words[24], bool load) {
    if (load) {
        qapsule::reload_copy<0, unsigned char>(fc2_words, fc2_weight_copy0);
        qapsule::reload_copy<6, unsigned char>(fc2_words, fc2_weight_copy1);
        qapsule::reload_copy<12, unsigned char>(fc2_words, fc2_weight_copy2);
        qapsule::reload_copy<18, unsigned char>(fc2_words, fc2_bias_copy0);
        qapsule::reload_copy<20, unsigned char>(fc2_words, fc2_bias_copy1);
        qapsule::reload_copy<22, unsigned char>(fc2_words, fc2_bias_copy2);
    }
    fc2_samples(act1_from, fc2_to);
}

void tiny(x_stream& x_in, fc2_stream& fc2_out, const unsigned int fc1_words[15], const unsigned int fc2_words[24], bool load) {
#if defined(__VITIS_HLS__) || defined(__VIVADO_HLS__)
#pragma HLS INTERFACE axis port=x_in
#pragma HLS INTERFACE axis port=fc2_out
#pragma HLS INTERFACE s_axilite port=fc1_words bundle=weights
#pragma HLS INTERFACE s_axilite port=fc2_words bundle=weights
#pragma HLS INTERFACE s_axilite port=load bundle=weights
#endif
#if defined(__VIVADO_HLS__)
#pragma HLS DATA_PACK variable=x_in
#pragma HLS DATA_PACK variable=fc2_out
#endif
    QAPSULE_DATAFLOW
    QAPSULE_CHANNEL act1_stream act1;
    QAPSULE_FIFO(act1, 2)

    act1_process(x_in, act1, fc1_words, load);
    fc2_process(act1, fc2_out, fc2_words, load);
}
