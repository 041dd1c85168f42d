#include "tiny_channels.h"

#include "../firmware/tiny.h"
#include "scverify.h"

#if defined(__SYNTHESIS__)
#pragma hls_design top
#endif
void CCS_BLOCK(tiny_channels)(ac_channel<tiny_ports::x_in>& x_in, ac_channel<tiny_ports::largest_out>& largest_out) {
    const tiny_ports::x_in x_in_sample = x_in.read();
    tiny_ports::largest_out largest_out_sample;
    tiny(x_in_sample.element, largest_out_sample.element);
    largest_out.write(largest_out_sample);
}
