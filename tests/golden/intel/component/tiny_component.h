#ifndef DESIGN_TINY_COMPONENT_H
#define DESIGN_TINY_COMPONENT_H

#include "HLS/hls.h"

#include "../firmware/tiny.h"

// A sample as it enters, and as it leaves.
struct tiny_inputs {
    x_t x_in[6];
};
struct tiny_outputs {
    largest_t largest_out[2];
};

component tiny_outputs tiny_component(tiny_inputs sample);

#endif  // DESIGN_TINY_COMPONENT_H
