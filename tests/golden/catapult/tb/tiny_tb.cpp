// Sends the vectors in tb/data through the channels of tiny and compares every output, bit for bit.
//
//     tiny_tb [FOLDER]
//
// FOLDER is that of the vectors (default: tb/data). One line is one sample; numbers are codes, worth 2^-F each in a
// format with F bits behind the binary point. The exit status is 0 if every output is equal, else 1. SCVerify runs the
// same program against the RTL.

#include <cstdio>
#include <fstream>
#include <string>

#include "../catapult/tiny_channels.h"
#include "../catapult/scverify.h"

namespace {

template <class T, int N>
bool read(std::ifstream& file, T (&array)[N]) {
    for (int i = 0; i < N; ++i) {
        long long code = 0;
        if (!(file >> code)) return false;
        array[i].set_slc(0, ac_int<T::width, false>(static_cast<unsigned long long>(code)));
    }
    return true;
}

template <class T, int N>
void copy(const T (&from)[N], T (&to)[N]) {
    for (int i = 0; i < N; ++i) to[i] = from[i];
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

}  // namespace

CCS_MAIN(int argc, char* argv[]) {
    const std::string folder = argc > 1 ? argv[1] : "tb/data";
    std::ifstream x_in_file(folder + "/x_in.dat");
    ac_channel<tiny_ports::x_in> x_in;
    std::ifstream largest_out_file(folder + "/largest_out.dat");
    ac_channel<tiny_ports::largest_out> largest_out;
    int samples = 0;
    int mismatches = 0;
    for (; samples < 3; ++samples) {
        x_t x_in_values[6];
        largest_t largest_out_values[2];
        const bool complete =
            read(x_in_file, x_in_values) &&
            read(largest_out_file, largest_out_values);
        if (!complete) {
            std::printf("FAILED: the vectors in %s end before sample %d of 3\n", folder.c_str(), samples + 1);
            CCS_RETURN(1);
        }
        tiny_ports::x_in x_in_sample;
        copy(x_in_values, x_in_sample.element);
        x_in.write(x_in_sample);
        CCS_DESIGN(tiny_channels)(x_in, largest_out);
        mismatches += differences("largest_out", samples, largest_out.read().element, largest_out_values);
    }
    std::printf("%s: %d samples, %d mismatches\n", mismatches == 0 ? "PASSED" : "FAILED", samples, mismatches);
    CCS_RETURN(mismatches == 0 ? 0 : 1);
}
