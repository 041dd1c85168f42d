// Runs the component of tiny on the vectors in tb/data and compares every output, bit for bit.
//
//     tiny_tb [FOLDER]
//
// FOLDER is that of the vectors (default: tb/data). One line is one sample; numbers are codes, worth 2^-F each in a
// format with F bits behind the binary point. The exit status is 0 if every output is equal, else 1.

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "../component/tiny_component.h"

// Within a namespace of which no name in a user's model can be.
namespace qapsule {
namespace bench {

template <class T, int N>
bool read(std::ifstream& file, T (&array)[N]) {
    for (int i = 0; i < N; ++i) {
        long long code;
        if (!(file >> code)) return false;
        array[i].set_slc(0, ac_int<T::width, false>(static_cast<unsigned long long>(code)));
    }
    return true;
}

template <class T, int N>
int differences(const char* name, int sample, const T (&got)[N], const T (&expected)[N]) {
    int count = 0;
    for (int i = 0; i < N; ++i) {
        if (got[i] == expected[i]) continue;
        ++count;
        std::printf("sample %d, %s[%d]: got %.17g, expected %.17g\n", sample, name, i, got[i].to_double(),
                    expected[i].to_double());
    }
    return count;
}

}  // namespace bench
}  // namespace qapsule

int main(int argc, char** argv) {
    const std::string folder = argc > 1 ? argv[1] : "tb/data";
    const int samples = 3;
    std::ifstream x_in_file((folder + "/x_in.dat").c_str());
    std::ifstream largest_out_file((folder + "/largest_out.dat").c_str());
    std::vector<tiny_inputs> given(samples);
    std::vector<tiny_outputs> expected(samples), made(samples);
    for (int n = 0; n < samples; ++n) {
        bool complete = true;
        complete = qapsule::bench::read(x_in_file, given[n].x_in) && complete;
        complete = qapsule::bench::read(largest_out_file, expected[n].largest_out) && complete;
        if (!complete) {
            std::printf("FAILED: the vectors in %s end before sample %d of %d\n", folder.c_str(), n + 1, samples);
            return 1;
        }
    }

    // In simulation the queued calls enter one behind the other, as fast as the component takes them.
    for (int n = 0; n < samples; ++n) {
        ihc_hls_enqueue(&made[n], &tiny_component, given[n]);
    }
    ihc_hls_component_run_all(&tiny_component);

    int mismatches = 0;
    for (int n = 0; n < samples; ++n) {
        mismatches += qapsule::bench::differences("largest_out", n, made[n].largest_out, expected[n].largest_out);
    }
    std::printf("%s: %d samples, %d mismatches\n", mismatches ? "FAILED" : "PASSED", samples, mismatches);
    return mismatches ? 1 : 0;
}
