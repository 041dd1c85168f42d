#include "tiny_streams.h"

#include "qapsule/add.h"
#include "qapsule/cast.h"
#include "qapsule/conv.h"
#include "qapsule/dense.h"
#include "qapsule/max_pool.h"
#include "qapsule/relu.h"
#include "qapsule/reshape.h"
#include "qapsule/stream/transfer.h"
#include "qapsule/stream/window.h"
#include "qapsule/trace.h"
#include "weights/conv1.h"
#include "weights/conv2.h"
#include "weights/fc.h"

// "conv1", "act1": 16 x 2
QAPSULE_PROCESS
static void act1_process(x_stream& x_from, act1_stream& act1_to) {
    typedef qapsule::stream::scan<qapsule::sliding<4, 3, 1, 1, 1, 1>, qapsule::sliding<4, 3, 1, 1, 1, 1>> qapsule_scan;
    x_t qapsule_lines[qapsule_scan::lines][4][2];
    QAPSULE_PARTITION(qapsule_lines, 0)
    x_t qapsule_seen[3][3][2];
    QAPSULE_PARTITION(qapsule_seen, 0)
    qapsule_scan qapsule_at;
    QAPSULE_PIPELINED(elements, 1)
    for (int qapsule_step = 0; qapsule_step < qapsule_scan::steps; ++qapsule_step) {
        QAPSULE_FLOW(1)
        qapsule::stream::advance(x_from, qapsule_lines, qapsule_seen, qapsule_at);
        if (qapsule_at.ends()) {
            x_t x[18];
            QAPSULE_PARTITION(x, 0)
            qapsule::stream::look(qapsule_seen, x, x_t(0.0), qapsule_at);
            conv1_t conv1[2];
            QAPSULE_PARTITION(conv1, 0)
            qapsule::conv<qapsule::sliding<3, 3, 1, 1, 0, 0>, qapsule::sliding<3, 3, 1, 1, 0, 0>, 2>(x, conv1, conv1_taps, conv1_used, conv1_bias);
            QAPSULE_TRACE_PACKET("conv1", conv1, 16, qapsule_at.number())
            act1_t act1[2];
            QAPSULE_PARTITION(act1, 0)
            qapsule::cast(conv1, act1);
            QAPSULE_TRACE_PACKET("act1", act1, 16, qapsule_at.number())
            qapsule::stream::write(act1, act1_to);
        }
        qapsule_at.next();
    }
}

// "conv2", "act2": 16 x 2
QAPSULE_PROCESS
static void act2_process(act1_stream& act1_from, act2_stream& act2_to) {
    typedef qapsule::stream::scan<qapsule::sliding<4, 3, 1, 1, 1, 1>, qapsule::sliding<4, 3, 1, 1, 1, 1>> qapsule_scan;
    act1_t qapsule_lines[qapsule_scan::lines][4][2];
    QAPSULE_PARTITION(qapsule_lines, 0)
    act1_t qapsule_seen[3][3][2];
    QAPSULE_PARTITION(qapsule_seen, 0)
    qapsule_scan qapsule_at;
    QAPSULE_PIPELINED(elements, 1)
    for (int qapsule_step = 0; qapsule_step < qapsule_scan::steps; ++qapsule_step) {
        QAPSULE_FLOW(1)
        qapsule::stream::advance(act1_from, qapsule_lines, qapsule_seen, qapsule_at);
        if (qapsule_at.ends()) {
            act1_t act1[18];
            QAPSULE_PARTITION(act1, 0)
            qapsule::stream::look(qapsule_seen, act1, act1_t(0.0), qapsule_at);
            conv2_t conv2[2];
            QAPSULE_PARTITION(conv2, 0)
            qapsule::conv<qapsule::sliding<3, 3, 1, 1, 0, 0>, qapsule::sliding<3, 3, 1, 1, 0, 0>, 2>(act1, conv2, conv2_taps, conv2_used, conv2_bias);
            QAPSULE_TRACE_PACKET("conv2", conv2, 16, qapsule_at.number())
            act2_t act2[2];
            QAPSULE_PARTITION(act2, 0)
            qapsule::cast(conv2, act2);
            QAPSULE_TRACE_PACKET("act2", act2, 16, qapsule_at.number())
            qapsule::stream::write(act2, act2_to);
        }
        qapsule_at.next();
    }
}

// "sum", "relu": 16 x 2
QAPSULE_PROCESS
static void relu_process(act2_stream& act2_from, x_stream& x_from, relu_stream& relu_to) {
    QAPSULE_PIPELINED(packets, 1)
    for (int qapsule_packet = 0; qapsule_packet < 16; ++qapsule_packet) {
        QAPSULE_FLOW(1)
        act2_t act2[2];
        QAPSULE_PARTITION(act2, 0)
        qapsule::stream::read(act2_from, act2);
        x_t x[2];
        QAPSULE_PARTITION(x, 0)
        qapsule::stream::read(x_from, x);
        sum_t sum[2];
        QAPSULE_PARTITION(sum, 0)
        qapsule::add(act2, x, sum);
        QAPSULE_TRACE_PACKET("sum", sum, 16, qapsule_packet)
        relu_t relu[2];
        QAPSULE_PARTITION(relu, 0)
        qapsule::relu(sum, relu);
        QAPSULE_TRACE_PACKET("relu", relu, 16, qapsule_packet)
        qapsule::stream::write(relu, relu_to);
    }
}

// "pooled": 4 x 2
QAPSULE_PROCESS
static void pooled_process(relu_stream& relu_from, pooled_stream& pooled_to) {
    typedef qapsule::stream::scan<qapsule::sliding<4, 2, 2, 1, 0, 0>, qapsule::sliding<4, 2, 2, 1, 0, 0>> qapsule_scan;
    relu_t qapsule_lines[qapsule_scan::lines][4][2];
    QAPSULE_PARTITION(qapsule_lines, 0)
    relu_t qapsule_seen[2][2][2];
    QAPSULE_PARTITION(qapsule_seen, 0)
    qapsule_scan qapsule_at;
    QAPSULE_PIPELINED(elements, 1)
    for (int qapsule_step = 0; qapsule_step < qapsule_scan::steps; ++qapsule_step) {
        QAPSULE_FLOW(1)
        qapsule::stream::advance(relu_from, qapsule_lines, qapsule_seen, qapsule_at);
        if (qapsule_at.ends()) {
            relu_t relu[8];
            QAPSULE_PARTITION(relu, 0)
            qapsule::stream::look(qapsule_seen, relu, relu_t(0.0), qapsule_at);
            pooled_t pooled[2];
            QAPSULE_PARTITION(pooled, 0)
            qapsule::max_pool<qapsule::sliding<2, 2, 1, 1, 0, 0>, qapsule::sliding<2, 2, 1, 1, 0, 0>>(relu, pooled);
            QAPSULE_TRACE_PACKET("pooled", pooled, 4, qapsule_at.number())
            qapsule::stream::write(pooled, pooled_to);
        }
        qapsule_at.next();
    }
}

// "fc": 1 x 3
QAPSULE_PROCESS
static void fc_process(pooled_stream& flat_from, fc_stream& fc_to) {
    pooled_t flat[8];
    QAPSULE_PARTITION(flat, 0)
    QAPSULE_PIPELINED(packets, 1)
    for (int qapsule_packet = 0; qapsule_packet < 4; ++qapsule_packet) {
        QAPSULE_FLOW(1)
        qapsule::stream::take<4>(flat_from, flat, qapsule_packet);
    }
    QAPSULE_TRACE_AS("flat", flat, flat)
    fc_t fc[3];
    QAPSULE_PARTITION(fc, 0)
    qapsule::dense(flat, fc, fc_weight, fc_bias);
    QAPSULE_TRACE("fc", fc)
    qapsule::stream::write(fc, fc_to);
}

void tiny_streams(x_stream& x_in, fc_stream& fc_out) {
#if defined(__VITIS_HLS__) || defined(__VIVADO_HLS__)
#pragma HLS INTERFACE axis port=x_in
#pragma HLS INTERFACE axis port=fc_out
#endif
#if defined(__VIVADO_HLS__)
#pragma HLS DATA_PACK variable=x_in
#pragma HLS DATA_PACK variable=fc_out
#endif
    QAPSULE_DATAFLOW
    QAPSULE_CHANNEL x_stream x_fifo0;
    QAPSULE_FIFO(x_fifo0, 2)
    QAPSULE_CHANNEL x_stream x_fifo1;
    QAPSULE_FIFO(x_fifo1, 32)
    QAPSULE_CHANNEL act1_stream act1;
    QAPSULE_FIFO(act1, 2)
    QAPSULE_CHANNEL act2_stream act2;
    QAPSULE_FIFO(act2, 2)
    QAPSULE_CHANNEL relu_stream relu;
    QAPSULE_FIFO(relu, 2)
    QAPSULE_CHANNEL pooled_stream pooled;
    QAPSULE_FIFO(pooled, 2)

    qapsule::stream::fork<16, x_packet>(x_in, x_fifo0, x_fifo1);
    act1_process(x_fifo0, act1);
    act2_process(act1, act2);
    relu_process(act2, x_fifo1, relu);
    pooled_process(relu, pooled);
    fc_process(pooled, fc_out);
}
