#ifndef DESIGN_TINY_KERNEL_H
#define DESIGN_TINY_KERNEL_H

#include "../firmware/tiny.h"
#include "../firmware/qapsule/wide.h"

// Reads so many samples, computes them, and writes the results. How samples lie in memory: firmware/qapsule/wide.h.
extern "C" void tiny_kernel(const qapsule::wide<512>* x_in, qapsule::wide<512>* largest_out, int samples);

#endif  // DESIGN_TINY_KERNEL_H
