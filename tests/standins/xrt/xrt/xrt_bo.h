// A stand-in of our own for <xrt/xrt_bo.h>. The host's memory and the card's are two, and the card's begins as garbage,
// so that a program that forgets to copy is found out.

#ifndef STANDIN_XRT_BO_H
#define STANDIN_XRT_BO_H

#include <cstddef>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "xrt_device.h"

enum xclBOSyncDirection { XCL_BO_SYNC_BO_TO_DEVICE, XCL_BO_SYNC_BO_FROM_DEVICE };

namespace xrt {

class bo {
  public:
    bo(const device&, std::size_t bytes, unsigned int group) : memory_(std::make_shared<both>(bytes)), group_(group) {}

    template <class POINTER>
    POINTER map() {
        return reinterpret_cast<POINTER>(memory_->host.data());
    }
    void sync(xclBOSyncDirection direction, std::size_t bytes, std::size_t offset) {
        if (offset + bytes > memory_->host.size()) throw std::runtime_error("stand-in: sync beyond the buffer");
        unsigned char* host = memory_->host.data() + offset;
        unsigned char* card = memory_->card.data() + offset;
        if (direction == XCL_BO_SYNC_BO_TO_DEVICE) {
            std::memcpy(card, host, bytes);
        } else {
            std::memcpy(host, card, bytes);
        }
    }

    unsigned int group() const { return group_; }           // for the stand-in alone
    void* card() const { return memory_->card.data(); }     // for the stand-in alone

  private:
    struct both {
        explicit both(std::size_t bytes) : host(bytes, 0x5A), card(bytes, 0xA5) {}
        std::vector<unsigned char> host;
        std::vector<unsigned char> card;
    };
    std::shared_ptr<both> memory_;
    unsigned int group_;
};

}  // namespace xrt

#endif  // STANDIN_XRT_BO_H
