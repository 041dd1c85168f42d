// tiny on an accelerator card: batches of samples come from memory and go to memory, in long bursts.

#include "tiny_kernel.h"

// Every sample through the design.
static void tiny_samples(hls::stream<qapsule::wide<512> >& x_in, hls::stream<qapsule::wide<512> >& largest_out, int samples) {
    for (int n = 0; n < samples; ++n) {
        x_t x_in_now[6];
        largest_t largest_out_now[2];
        qapsule::take(x_in, x_in_now);
        ::tiny(x_in_now, largest_out_now);
        qapsule::give(largest_out_now, largest_out);
    }
}

extern "C" void tiny_kernel(const qapsule::wide<512>* x_in, qapsule::wide<512>* largest_out, int samples) {
#if defined(__VITIS_HLS__)
// 64 words of 512 bits are 4 KiB, the longest burst that AXI allows.
#pragma HLS INTERFACE m_axi port=x_in offset=slave bundle=gmem0 depth=1 max_read_burst_length=64 num_read_outstanding=16
#pragma HLS INTERFACE m_axi port=largest_out offset=slave bundle=gmem1 depth=1 max_write_burst_length=64 num_write_outstanding=16
#pragma HLS INTERFACE s_axilite port=x_in
#pragma HLS INTERFACE s_axilite port=largest_out
#pragma HLS INTERFACE s_axilite port=samples
#pragma HLS INTERFACE s_axilite port=return
#endif
    QAPSULE_DATAFLOW
    hls::stream<qapsule::wide<512> > x_in_words("x_in_words");
    QAPSULE_FIFO(x_in_words, 64)
    hls::stream<qapsule::wide<512> > x_in_parts("x_in_parts");
    hls::stream<qapsule::wide<512> > largest_out_words("largest_out_words");
    QAPSULE_FIFO(largest_out_words, 64)
    hls::stream<qapsule::wide<512> > largest_out_parts("largest_out_parts");

    qapsule::load<x_t, 6, 1>(x_in, x_in_words, samples);
    qapsule::deal<x_t, 6, 1>(x_in_words, x_in_parts, samples);
    ::tiny_samples(x_in_parts, largest_out_parts, samples);
    qapsule::gather<largest_t, 2, 1>(largest_out_parts, largest_out_words, samples);
    qapsule::store<largest_t, 2, 1>(largest_out_words, largest_out, samples);
}
