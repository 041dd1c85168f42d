// Runs tiny on the vectors in tb/data and compares every output, bit for bit.
//
//     tiny_tb [FOLDER]
//
// FOLDER is that of the vectors (default: tb/data). One line is one sample; numbers are codes, worth 2^-F each in a
// format with F bits behind the binary point. The exit status is 0 if every output is equal, else 1.

#include <cstdio>
#include <fstream>
#include <string>

#include "../firmware/tiny.h"

namespace {

template <class T, int N>
bool read(std::ifstream& file, T (&array)[N]) {
    for (int i = 0; i < N; ++i) {
        long long code;
        if (!(file >> code)) return false;
        array[i].range() = static_cast<unsigned long long>(code);
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

}  // namespace

int main(int argc, char** argv) {
    const std::string folder = argc > 1 ? argv[1] : "tb/data";
    std::ifstream x_in_file((folder + "/x_in.dat").c_str());
    std::ifstream largest_out_file((folder + "/largest_out.dat").c_str());
    int samples = 0;
    int mismatches = 0;
    for (; samples < 3; ++samples) {
        x_t x_in[6];
        largest_t largest_out[2];
        largest_t largest_out_expected[2];
        bool complete = true;
        complete = read(x_in_file, x_in) && complete;
        complete = read(largest_out_file, largest_out_expected) && complete;
        if (!complete) {
            std::printf("FAILED: the vectors in %s end before sample %d of 3\n", folder.c_str(), samples + 1);
            return 1;
        }
        ::tiny(x_in, largest_out);
        mismatches += differences("largest_out", samples, largest_out, largest_out_expected);
    }
    std::printf("%s: %d samples, %d mismatches\n", mismatches ? "FAILED" : "PASSED", samples, mismatches);
    return mismatches ? 1 : 0;
}
