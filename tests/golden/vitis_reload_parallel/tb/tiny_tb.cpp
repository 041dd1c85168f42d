// Runs tiny on the vectors in tb/data and compares every output, bit for bit.
//
//     tiny_tb [FOLDER]
//
// FOLDER is that of the vectors (default: tb/data). One line is one sample; numbers are codes, worth 2^-F each in a
// format with F bits behind the binary point. The exit status is 0 if every output is equal, else 1.
//
// The first 3 samples meet the constants that the design begins with. The next one brings those in weights.dat, which
// have been on the bus all along; then they are gone from it, and the design goes on with what it has loaded.

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

template <int N>
bool read(std::ifstream& file, unsigned int (&words)[N]) {
    for (int i = 0; i < N; ++i) {
        if (!(file >> words[i])) return false;
    }
    return true;
}

template <int N>
void clear(unsigned int (&words)[N]) {
    for (int i = 0; i < N; ++i) words[i] = 0;
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
    std::ifstream fc2_out_file((folder + "/fc2_out.dat").c_str());
    std::ifstream weights_file((folder + "/weights.dat").c_str());
    static unsigned int fc1_words[15];
    static unsigned int fc2_words[24];
    bool loadable = true;
    loadable = read(weights_file, fc1_words) && loadable;
    loadable = read(weights_file, fc2_words) && loadable;
    if (!loadable) {
        std::printf("FAILED: %s/weights.dat ends before the last word\n", folder.c_str());
        return 1;
    }
    int samples = 0;
    int mismatches = 0;
    for (; samples < 6; ++samples) {
        x_t x_in[4];
        fc2_t fc2_out[2];
        fc2_t fc2_out_expected[2];
        bool complete = true;
        complete = read(x_in_file, x_in) && complete;
        complete = read(fc2_out_file, fc2_out_expected) && complete;
        if (!complete) {
            std::printf("FAILED: the vectors in %s end before sample %d of 6\n", folder.c_str(), samples + 1);
            return 1;
        }
        const bool load = samples == 3;
        ::tiny(x_in, fc2_out, fc1_words, fc2_words, load);
        if (load) {
            clear(fc1_words);
            clear(fc2_words);
        }
        mismatches += differences("fc2_out", samples, fc2_out, fc2_out_expected);
    }
    std::printf("%s: %d samples, %d mismatches\n", mismatches ? "FAILED" : "PASSED", samples, mismatches);
    return mismatches ? 1 : 0;
}
