// A stand-in of our own for <xrt/xrt_kernel.h>. A run computes when it is waited for, not before, so that a program that
// forgets to wait is found out; what it computes is the kernel itself, compiled as C++ and called by standin::execute.

#ifndef STANDIN_XRT_KERNEL_H
#define STANDIN_XRT_KERNEL_H

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "xrt_bo.h"
#include "xrt_device.h"

enum ert_cmd_state { ERT_CMD_STATE_COMPLETED = 4, ERT_CMD_STATE_ERROR = 5 };

namespace standin {
/// The test's: calls the kernel on the card's memory.
void execute(const std::string& kernel, const std::vector<void*>& memories, int samples);
}  // namespace standin

namespace xrt {

class kernel {
  public:
    /// `name` is that of a kernel with one of its compute units, "k:{k_2}".
    kernel(const device&, const uuid& loaded, const std::string& name) : name_(loaded.kernel) {
        for (int unit = 1; unit <= loaded.compute_units; ++unit) {
            if (name == name_ + ":{" + name_ + "_" + std::to_string(unit) + "}") return;
        }
        throw std::runtime_error("stand-in: no compute unit " + name);
    }
    int group_id(int argument) const { return 7 + argument; }
    const std::string& name() const { return name_; }

  private:
    std::string name_;
};

class run {
  public:
    explicit run(const kernel& of) : kernel_(of) {}

    void set_arg(int index, const bo& buffer) {
        if (buffer.group() != static_cast<unsigned int>(kernel_.group_id(index))) {
            throw std::runtime_error("stand-in: a buffer in a memory that the argument does not see");
        }
        memories_[index] = buffer.card();
    }
    void set_arg(int index, int value) {
        if (index != static_cast<int>(memories_.size())) throw std::runtime_error("stand-in: buffers come first");
        samples_ = value;
    }
    void start() {
        if (started_) throw std::runtime_error("stand-in: started again before it was waited for");
        started_ = true;
    }
    ert_cmd_state wait() {
        if (!started_) return ERT_CMD_STATE_ERROR;
        started_ = false;
        std::vector<void*> memories;
        for (const auto& argument : memories_) memories.push_back(argument.second);
        standin::execute(kernel_.name(), memories, samples_);
        return ERT_CMD_STATE_COMPLETED;
    }

  private:
    kernel kernel_;
    std::map<int, void*> memories_;
    int samples_ = 0;
    bool started_ = false;
};

}  // namespace xrt

#endif  // STANDIN_XRT_KERNEL_H
