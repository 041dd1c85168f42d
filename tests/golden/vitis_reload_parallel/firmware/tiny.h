#ifndef DESIGN_TINY_H
#define DESIGN_TINY_H

#include "types.h"

// x_in: "x", fixed<8,3>, shape 4, row-major
// fc2_out: "fc2", fixed<12,4>, shape 2, row-major
// With `load` every layer first takes its constants from its words, as codes in two's complement cut off at their widths.
void tiny(const x_t x_in[4], fc2_t fc2_out[2], const unsigned int fc1_words[15], const unsigned int fc2_words[24], bool load);

#endif  // DESIGN_TINY_H
