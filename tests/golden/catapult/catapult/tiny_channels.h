// The top level of tiny as a block: one channel per port, one whole sample per transfer.

#ifndef DESIGN_TINY_CHANNELS_H
#define DESIGN_TINY_CHANNELS_H

#include <ac_channel.h>

#include "../firmware/types.h"

namespace tiny_ports {

/// fixed<7,3>, shape 2 x 3, row-major.
struct x_in {
    x_t element[6];
};
/// fixed<8,6>, shape 2, row-major.
struct largest_out {
    largest_t element[2];
};

}  // namespace tiny_ports

void tiny_channels(ac_channel<tiny_ports::x_in>& x_in, ac_channel<tiny_ports::largest_out>& largest_out);

#endif  // DESIGN_TINY_CHANNELS_H
