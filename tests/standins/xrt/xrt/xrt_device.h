// A stand-in of our own for <xrt/xrt_device.h>: the few calls that our host programs make, on
// a card that is an ordinary program. Its "xclbin" is a text file with the kernel's name and number of compute units.

#ifndef STANDIN_XRT_DEVICE_H
#define STANDIN_XRT_DEVICE_H

#include <fstream>
#include <stdexcept>
#include <string>

namespace xrt {

struct uuid {
    std::string kernel;
    int compute_units = 0;
};

class device {
  public:
    explicit device(unsigned int number) {
        if (number != 0) throw std::runtime_error("stand-in: there is one device, 0");
    }
    uuid load_xclbin(const std::string& path) {
        uuid loaded;
        if (!(std::ifstream(path) >> loaded.kernel >> loaded.compute_units)) {
            throw std::runtime_error("stand-in: no xclbin at " + path);
        }
        return loaded;
    }
};

}  // namespace xrt

#endif  // STANDIN_XRT_DEVICE_H
