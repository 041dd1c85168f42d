#ifndef DESIGN_TINY_H
#define DESIGN_TINY_H

#include "types.h"

// x_in: "x", fixed<7,3>, shape 2 x 3, row-major
// narrow_out: "narrow", fixed<6,5>, shape 2, row-major
void tiny(const x_t x_in[6], narrow_t narrow_out[2]);

#endif  // DESIGN_TINY_H
