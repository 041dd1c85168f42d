#ifndef DESIGN_TINY_H
#define DESIGN_TINY_H

#include "types.h"

// x_in: "x", fixed<7,3>, shape 2 x 3, row-major
// largest_out: "largest", fixed<8,6>, shape 2, row-major
void tiny(const x_t x_in[6], largest_t largest_out[2]);

#endif  // DESIGN_TINY_H
