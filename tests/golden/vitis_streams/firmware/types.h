// The number types of tiny_streams. Only this file differs between tools.

#ifndef DESIGN_TINY_STREAMS_TYPES_H
#define DESIGN_TINY_STREAMS_TYPES_H

#include "ap_fixed.h"
#include "ap_int.h"
#include "qapsule/packet.h"
#include "hls_stream.h"

typedef ap_fixed<6, 3, AP_RND_CONV, AP_SAT> x_t;
typedef ap_fixed<12, 7> conv1_t;
typedef ap_fixed<3, 1> conv1_weight_t;
typedef ap_uint<5> conv1_input_t;
typedef ap_uint<4> conv1_used_t;
typedef ap_fixed<4, 1> conv1_bias_t;
typedef ap_ufixed<5, 2, AP_RND_CONV, AP_SAT> act1_t;
typedef ap_fixed<11, 6> conv2_t;
typedef ap_fixed<3, 1> conv2_weight_t;
typedef ap_uint<5> conv2_input_t;
typedef ap_uint<5> conv2_used_t;
typedef ap_fixed<4, 1> conv2_bias_t;
typedef ap_fixed<5, 2, AP_RND_CONV, AP_SAT> act2_t;
typedef ap_fixed<7, 4> sum_t;
typedef ap_ufixed<6, 3> relu_t;
typedef ap_ufixed<6, 3> pooled_t;
typedef ap_ufixed<6, 3> flat_t;
typedef ap_fixed<12, 7> fc_t;
typedef ap_fixed<4, 2> fc_weight_t;
typedef ap_fixed<4, 3> fc_bias_t;
typedef qapsule::packet<x_t, 2> x_packet;
typedef hls::stream<x_packet> x_stream;
typedef qapsule::packet<fc_t, 3> fc_packet;
typedef hls::stream<fc_packet> fc_stream;
typedef qapsule::packet<act1_t, 2> act1_packet;
typedef hls::stream<act1_packet> act1_stream;
typedef qapsule::packet<act2_t, 2> act2_packet;
typedef hls::stream<act2_packet> act2_stream;
typedef qapsule::packet<relu_t, 2> relu_packet;
typedef hls::stream<relu_packet> relu_stream;
typedef qapsule::packet<pooled_t, 2> pooled_packet;
typedef hls::stream<pooled_packet> pooled_stream;

#endif  // DESIGN_TINY_STREAMS_TYPES_H
