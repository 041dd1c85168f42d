// Runs the kernel of tiny in plain C++ on the vectors in data, batch by batch, and compares every output.
//
//     tiny_kernel_tb [FOLDER]
//
// FOLDER is that of the vectors (default: data). The exit status is 0 if every bit is equal, else 1.

#include <algorithm>

#include "../host/vectors.h"
#include "../kernel/tiny_kernel.h"

namespace qapsule {
namespace bench {

typedef std::vector<wide<512> > memory;

// As many words as a whole batch takes: co-simulation reads them all.
memory room(const lane& of) { return memory(of.bytes(batch) / (512 / 8), 0); }

void to_words(const codes& from, memory& to) {
    for (std::size_t i = 0; i < from.size(); ++i) {
        const int low = i % (512 / 64) * 64;
        to[i / (512 / 64)].range(low + 63, low) = static_cast<unsigned long long>(from[i]);
    }
}

codes from_words(const memory& from, std::size_t bytes) {
    codes to(bytes / sizeof(std::uint64_t));
    for (std::size_t i = 0; i < to.size(); ++i) {
        const int low = i % (512 / 64) * 64;
        to[i] = from[i / (512 / 64)].range(low + 63, low).to_uint64();
    }
    return to;
}

}  // namespace bench
}  // namespace qapsule

int main(int argc, char** argv) {
    namespace bench = qapsule::bench;
    const std::string folder = argc > 1 ? argv[1] : "data";
    bench::codes x_in_codes;
    bench::codes largest_out_codes;
    if (!bench::read(folder, bench::entering[0], x_in_codes)) return 1;
    if (!bench::read(folder, bench::leaving[0], largest_out_codes)) return 1;
    int mismatches = 0;
    for (int first = 0; first < bench::samples; first += bench::batch) {
        const int count = std::min(bench::batch, bench::samples - first);
        bench::memory x_in = bench::room(bench::entering[0]);
        bench::to_words(bench::pack(bench::entering[0], x_in_codes, first, count), x_in);
        bench::memory largest_out = bench::room(bench::leaving[0]);
        ::tiny_kernel(x_in.data(), largest_out.data(), count);
        mismatches += bench::differences(bench::leaving[0],
                                         bench::from_words(largest_out, bench::leaving[0].bytes(count)),
                                         largest_out_codes, first, count);
    }
    return bench::verdict(mismatches);
}
