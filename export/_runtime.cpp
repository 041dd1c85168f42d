// Loads compiled designs and runs them over numpy arrays. Built once, when the package is installed: a design itself
// knows no Python, so that it compiles in a second.

#include <dlfcn.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
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
        const std::int64_t share = (even + share_granule - 1) / share_granule * share_granule;
        std::atomic<bool> refused{false};
        const auto work = [&](std::int64_t first) {
            const qapsule_batch batch{from, to, first, std::min(first + share, samples)};
            if (run_(&batch)) refused = true;
        };
        std::vector<std::thread> crew;
        for (std::int64_t first = share; first < samples; first += share) crew.emplace_back(work, first);
        work(0);
        for (std::thread& thread : crew) thread.join();
        return !refused;
    }

    qapsule_run_function run_;
};

}  // namespace

PYBIND11_MODULE(_runtime, module) {
    module.doc() = "Compiled designs over numpy arrays.";
    py::class_<Design>(module, "Design", "A compiled design.")
        .def(py::init<const std::string&>(), py::arg("path"), "Load the shared object of a design.")
        .def("run", &Design::run, py::arg("inputs"), py::arg("tensors"), py::arg("samples"), py::arg("threads"),
             "Run the samples of `inputs`; write each tensor that is not None, one unit of its codes being worth the\n"
             "number beside it. False if a value has no code: what was written means nothing then.");
}
