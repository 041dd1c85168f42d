#ifndef DESIGN_TINY_STREAMS_H
#define DESIGN_TINY_STREAMS_H

#include "types.h"

// x_in: "x", fixed<6,3>, shape 2 x 4 x 4, in packets: 16
// fc_out: "fc", fixed<12,7>, shape 3, in packets: 1
void tiny_streams(x_stream& x_in, fc_stream& fc_out);

#endif  // DESIGN_TINY_STREAMS_H
