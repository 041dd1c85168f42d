// Loads compiled designs and runs them over numpy arrays. Built once, when the package is installed: a design itself
// knows no Python, so that it compiles in a second.

#include <dlfcn.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../hls_lib/qapsule/emulation_abi.h"

namespace py = pybind11;

namespace {

// Fewer samples than this are done before another thread has started.
constexpr std::int64_t smallest_share = 256;
// What a design does before its first sample, among it making a stack for its tensors, is nothing beside as many.
constexpr std::int64_t ample_share = 2048;
// Shares end between blocks, whatever the number of lanes of the design.
constexpr std::int64_t share_granule = 64;

std::int32_t kind_of(const py::array& array) {
    if (py::isinstance<py::array_t<float>>(array)) return QAPSULE_FLOAT32;
    if (py::isinstance<py::array_t<double>>(array)) return QAPSULE_FLOAT64;
    if (py::isinstance<py::array_t<std::int64_t>>(array)) return QAPSULE_CODES;
    throw std::invalid_argument("arrays must be float32, float64 or int64, got " +
                                py::cast<std::string>(py::str(array.dtype())));
}

void check(const py::array& array, std::int64_t samples) {
    if (!(array.flags() & py::array::c_style))
        throw std::invalid_argument("arrays must be C-contiguous; use numpy.ascontiguousarray");
    if (array.ndim() < 1 || array.shape(0) != samples)
        throw std::invalid_argument("every array must hold " + std::to_string(samples) + " samples");
}

/// Memory for results. What the system hands out it hands out page by page and filled with zeros, which takes several
/// times as long as writing the results; so blocks that nobody refers to any more are kept for the next ones, the
/// latest of them.
class Blocks {
  public:
    static Blocks& all() {
        static Blocks* const blocks = new Blocks;  // outlives every array
        return *blocks;
    }

    void* take(std::size_t bytes) {
        bytes = rounded(bytes);
        {
            const std::lock_guard<std::mutex> alone(mutex_);
            const auto found = idle_.lower_bound(bytes);
            if (found != idle_.end() && found->first <= bytes + bytes / 4) {
                void* const block = found->second.block;
                const std::size_t size = found->first;
                idle_.erase(found);
                idle_bytes_ -= size;
                taken_[block] = size;
                return block;
            }
        }
        void* const block = map(bytes);
        const std::lock_guard<std::mutex> alone(mutex_);
        taken_[block] = bytes;
        return block;
    }

    void give_back(void* block) {
        const std::lock_guard<std::mutex> alone(mutex_);
        const auto found = taken_.find(block);
        const std::size_t bytes = found->second;
        taken_.erase(found);
        idle_.emplace(bytes, idle{block, given_back_++});
        idle_bytes_ += bytes;
        while (idle_bytes_ > most_idle) {
            const auto oldest = std::min_element(idle_.begin(), idle_.end(), [](const auto& a, const auto& b) {
                return a.second.since < b.second.since;
            });
            idle_bytes_ -= oldest->first;
            munmap(oldest->second.block, oldest->first);
            idle_.erase(oldest);
        }
    }

  private:
    struct idle {
        void* block;
        std::uint64_t since;  ///< how many were given back before
    };

    static constexpr std::size_t most_idle = std::size_t(256) << 20;
    static constexpr std::size_t huge_page = std::size_t(2) << 20;
    static constexpr std::size_t small_step = std::size_t(64) << 10;

    static std::size_t rounded(std::size_t bytes) {
        const std::size_t step = bytes < huge_page ? small_step : huge_page;
        return (bytes + step - 1) / step * step;
    }
    static void* map(std::size_t bytes) {
        const bool huge = bytes >= huge_page;
        const std::size_t room = huge ? bytes + huge_page : bytes;
        void* const found = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (found == MAP_FAILED) throw std::bad_alloc();
        if (!huge) return found;
        char* const begin = static_cast<char*>(found);
        const std::size_t before = (huge_page - reinterpret_cast<std::uintptr_t>(begin) % huge_page) % huge_page;
        if (before) munmap(begin, before);
        if (before != huge_page) munmap(begin + before + bytes, huge_page - before);
        madvise(begin + before, bytes, MADV_HUGEPAGE);
        return begin + before;
    }

    std::mutex mutex_;
    std::multimap<std::size_t, idle> idle_;
    std::map<void*, std::size_t> taken_;
    std::size_t idle_bytes_ = 0;
    std::uint64_t given_back_ = 0;
};

py::array empty(const std::vector<py::ssize_t>& shape, const py::dtype& type) {
    py::ssize_t bytes = type.itemsize();
    for (const py::ssize_t extent : shape) bytes *= extent;
    void* const block = Blocks::all().take(static_cast<std::size_t>(std::max<py::ssize_t>(bytes, 1)));
    const py::capsule owner(block, [](void* it) { Blocks::all().give_back(it); });
    return py::array(type, shape, block, owner);
}

class Design {
  public:
    explicit Design(const std::string& path) {
        // Never closed: a design has thread-local state, and its code may be on the stack of a running thread.
        void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!library) throw std::runtime_error(std::string("the compiled design does not load: ") + dlerror());
        const auto abi = reinterpret_cast<qapsule_abi_function>(dlsym(library, "qapsule_abi"));
        run_ = reinterpret_cast<qapsule_run_function>(dlsym(library, "qapsule_run"));
        if (!abi || !run_ || abi() != QAPSULE_EMULATION_ABI)
            throw std::runtime_error(path + " is not a design of this version; delete it");
    }

    bool run(const std::vector<py::array>& inputs, const std::vector<std::pair<py::object, double>>& tensors,
             std::int64_t samples, int threads) const {
        std::vector<qapsule_array> from, to;
        for (const py::array& array : inputs) {
            check(array, samples);
            const std::int32_t kind = kind_of(array);
            if (kind == QAPSULE_CODES) throw std::invalid_argument("inputs must be float32 or float64");
            from.push_back({const_cast<void*>(array.data()), kind, 1});
        }
        for (const auto& [object, lsb] : tensors) {
            if (object.is_none()) {
                to.push_back({nullptr, QAPSULE_ABSENT, 1});
                continue;
            }
            auto array = py::cast<py::array>(object);
            check(array, samples);
            to.push_back({array.mutable_data(), kind_of(array), lsb});
        }
        const py::gil_scoped_release others_may_run;
        return split(from.data(), to.data(), samples, threads);
    }

  private:
    bool split(const qapsule_array* from, const qapsule_array* to, std::int64_t samples, int threads) const {
        const std::int64_t workers = std::clamp<std::int64_t>(samples / smallest_share, 1, std::max(threads, 1));
        const std::int64_t even = (samples + workers - 1) / workers;
        // Several each, so that a thread that is held up leaves its later ones to the others.
        const std::int64_t wanted = workers == 1 ? even : std::max(even / 4, std::min(even, ample_share));
        const std::int64_t share = (wanted + share_granule - 1) / share_granule * share_granule;
        std::atomic<bool> refused{false};
        std::atomic<std::int64_t> next{0};
        const auto work = [&] {
            for (std::int64_t first; (first = next.fetch_add(share)) < samples;) {
                const qapsule_batch batch{from, to, first, std::min(first + share, samples)};
                if (run_(&batch)) refused = true;
            }
        };
        std::vector<std::thread> crew;
        for (std::int64_t other = 1; other < workers; ++other) crew.emplace_back(work);
        work();
        for (std::thread& thread : crew) thread.join();
        return !refused;
    }

    qapsule_run_function run_;
};

}  // namespace

PYBIND11_MODULE(_runtime, module) {
    module.doc() = "Compiled designs over numpy arrays.";
    module.def("empty", &empty, py::arg("shape"), py::arg("dtype"),
               "As numpy.empty, in memory that is kept for the next one when nobody refers to it any more.");
    py::class_<Design>(module, "Design", "A compiled design.")
        .def(py::init<const std::string&>(), py::arg("path"), "Load the shared object of a design.")
        .def("run", &Design::run, py::arg("inputs"), py::arg("tensors"), py::arg("samples"), py::arg("threads"),
             "Run the samples of `inputs`; write each tensor that is not None, one unit of its codes being worth the\n"
             "number beside it. False if a value has no code: what was written means nothing then.");
}
