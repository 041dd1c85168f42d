#ifndef DESIGN_TINY_H
#define DESIGN_TINY_H

#include "types.h"

// x_in: "x", fixed<8,3>, shape 4, in packets: 1
// fc2_out: "fc2", fixed<12,4>, shape 2, in packets: 1
// With `load` every layer first takes its constants from its words, as codes in two's complement cut off at their widths.
void tiny(x_stream& x_in, fc2_stream& fc2_out, const unsigned int fc1_words[15], const unsigned int fc2_words[24], bool load);

#endif  // DESIGN_TINY_H
