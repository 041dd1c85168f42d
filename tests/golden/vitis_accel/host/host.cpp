// Feeds the vectors in data to the kernel of tiny on an accelerator card and compares every result.
//
//     host XCLBIN [FOLDER [REPEATS [DEVICE]]]
//
// FOLDER is that of the vectors (default: data), REPEATS how often they go through the card (1), DEVICE its number (0).
// The exit status is 0 if every bit is equal, else 1.

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <stdexcept>

#include <xrt/xrt_bo.h>
#include <xrt/xrt_device.h>
#include <xrt/xrt_kernel.h>

#include "vectors.h"

namespace bench = qapsule::bench;

namespace {

const char* const kernel_name = "tiny_kernel";
const int compute_units = 2;

// While one batch is computed the next one travels.
const int turns_per_unit = 2;

// Samples that go through the card together, as words on the host's side.
struct batch {
    int first;
    int count;
    std::vector<bench::codes> entering;
    std::vector<bench::codes> leaving;
};

// A set of buffers at a compute unit, and what is under way in it.
class turn {
  public:
    turn(const xrt::device& device, const xrt::kernel& kernel) : run_(kernel) {
        int argument = 0;
        for (const auto* lanes : {&bench::entering, &bench::leaving}) {
            for (const bench::lane& lane : *lanes) {
                buffers_.emplace_back(device, lane.bytes(bench::batch), kernel.group_id(argument));
                run_.set_arg(argument, buffers_.back());
                ++argument;
            }
        }
    }

    void start(batch& next) {
        finish();
        current_ = &next;
        for (std::size_t i = 0; i < next.entering.size(); ++i) {
            const std::size_t bytes = next.entering[i].size() * sizeof(std::uint64_t);
            std::memcpy(buffers_[i].map<std::uint64_t*>(), next.entering[i].data(), bytes);
            buffers_[i].sync(XCL_BO_SYNC_BO_TO_DEVICE, bytes, 0);
        }
        run_.set_arg(static_cast<int>(buffers_.size()), next.count);
        run_.start();
    }

    void finish() {
        if (!current_) return;
        if (run_.wait() != ERT_CMD_STATE_COMPLETED) throw std::runtime_error("the kernel did not complete");
        for (std::size_t i = 0; i < current_->leaving.size(); ++i) {
            const std::size_t bytes = current_->leaving[i].size() * sizeof(std::uint64_t);
            xrt::bo& buffer = buffers_[current_->entering.size() + i];
            buffer.sync(XCL_BO_SYNC_BO_FROM_DEVICE, bytes, 0);
            std::memcpy(current_->leaving[i].data(), buffer.map<std::uint64_t*>(), bytes);
        }
        current_ = nullptr;
    }

  private:
    xrt::run run_;
    std::vector<xrt::bo> buffers_;
    batch* current_ = nullptr;
};

// Every batch through the card once; the seconds that it took, transfers included.
double pass(std::vector<turn>& turns, std::vector<batch>& batches) {
    const auto begin = std::chrono::steady_clock::now();
    for (std::size_t b = 0; b < batches.size(); ++b) turns[b % turns.size()].start(batches[b]);
    for (turn& each : turns) each.finish();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

int run(const std::string& xclbin, const std::string& folder, int repeats, unsigned int number) {
    std::vector<bench::codes> given(bench::entering.size()), expected(bench::leaving.size());
    for (std::size_t i = 0; i < given.size(); ++i) {
        if (!bench::read(folder, bench::entering[i], given[i])) return 1;
    }
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (!bench::read(folder, bench::leaving[i], expected[i])) return 1;
    }
    std::vector<batch> batches;
    for (int first = 0; first < bench::samples; first += bench::batch) {
        batch next = {first, std::min(bench::batch, bench::samples - first), {}, {}};
        for (std::size_t i = 0; i < given.size(); ++i) {
            next.entering.push_back(bench::pack(bench::entering[i], given[i], first, next.count));
        }
        for (const bench::lane& lane : bench::leaving) {
            next.leaving.emplace_back(lane.bytes(next.count) / sizeof(std::uint64_t));
        }
        batches.push_back(next);
    }

    xrt::device device(number);
    const xrt::uuid uuid = device.load_xclbin(xclbin);
    std::vector<turn> turns;
    for (int again = 0; again < turns_per_unit; ++again) {
        for (int unit = 1; unit <= compute_units; ++unit) {
            const std::string name = std::string(kernel_name) + ":{" + kernel_name + "_" + std::to_string(unit) + "}";
            turns.emplace_back(device, xrt::kernel(device, uuid, name));
        }
    }

    double seconds = 0;
    int mismatches = 0;
    for (int repeat = 0; repeat < repeats; ++repeat) {
        seconds += pass(turns, batches);
        for (const batch& done : batches) {
            for (std::size_t i = 0; i < expected.size(); ++i) {
                mismatches += bench::differences(bench::leaving[i], done.leaving[i], expected[i], done.first, done.count);
            }
        }
    }
    const double all = static_cast<double>(repeats) * bench::samples;
    std::printf("%.0f samples in %.6f s, transfers included: %.0f samples/s; compute units: %d, samples in a batch: %d\n",
                all, seconds, all / seconds, compute_units, bench::batch);
    return bench::verdict(mismatches);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s XCLBIN [FOLDER [REPEATS [DEVICE]]]\n", argv[0]);
        return 2;
    }
    try {
        return run(argv[1], argc > 2 ? argv[2] : "data", argc > 3 ? std::stoi(argv[3]) : 1,
                   argc > 4 ? static_cast<unsigned int>(std::stoul(argv[4])) : 0);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "FAILED: %s\n", error.what());
        return 1;
    }
}
