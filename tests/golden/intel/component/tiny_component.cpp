// tiny as a component: one call computes one sample.

#include "tiny_component.h"

component tiny_outputs tiny_component(tiny_inputs sample) {
    tiny_outputs result;
    ::tiny(sample.x_in, result.largest_out);
    return result;
}
