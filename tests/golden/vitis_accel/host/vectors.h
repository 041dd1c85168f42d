// The vectors in data/, and how samples lie in memory words. Plain C++: neither the host nor its compiler knows the
// number types of the design; a number is its code, worth 2^-F in a format with F bits behind the binary point.

#ifndef DESIGN_TINY_VECTORS_H
#define DESIGN_TINY_VECTORS_H

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

// Within a namespace of which no name in a user's model can be.
namespace qapsule {
namespace bench {

typedef std::vector<std::uint64_t> codes;

// A port of the kernel. A sample is one packet, or one for each position of the tensor, with its channels as elements;
// the codes of a sample are in the order of the tensor, row by row. A word has 512 bits; element i of a packet lies in
// word i / per_word of that packet, from bit i % per_word * width on. Small packets share a word: each begins where the
// one before it ends.
struct lane {
    const char* name;
    int width;  // bits of an element
    bool is_signed;
    int elements;  // of a packet
    int packets;   // of a sample
    int per_word;  // elements in a word
    int sharing;   // packets in a word
    int words;     // of a packet, or of those that share one

    int size() const { return elements * packets; }
    std::size_t bytes(int samples) const {
        return (static_cast<std::size_t>(samples) * packets + sharing - 1) / sharing * words * (512 / 8);
    }
    // Where the lowest bit of a sample's code lies, counted from the first word.
    std::size_t bit(int sample, int code) const {
        const std::size_t packet = static_cast<std::size_t>(sample) * packets + code % packets;
        const int element = code / packets;
        const std::size_t word = packet / sharing * words + element / per_word;
        return word * 512 + (packet % sharing * elements + element % per_word) * width;
    }
    std::uint64_t mask() const { return ~std::uint64_t(0) >> (64 - width); }
    long long value(std::uint64_t code) const {
        const bool negative = is_signed && code >> (width - 1) & 1;
        return static_cast<long long>(negative ? code | ~mask() : code);
    }
};

static const std::vector<lane> entering = {
    {"x_in", 7, true, 6, 1, 73, 12, 1},
};
static const std::vector<lane> leaving = {
    {"largest_out", 8, true, 2, 1, 64, 32, 1},
};
// Samples in data/, and those that one call of the kernel takes at most.
static const int samples = 3;
static const int batch = 2;

// The codes of every sample; false where the file ends early.
inline bool read(const std::string& folder, const lane& of, codes& all) {
    std::ifstream file((folder + "/" + of.name + ".dat").c_str());
    all.resize(static_cast<std::size_t>(samples) * of.size());
    for (std::uint64_t& code : all) {
        long long number;
        if (!(file >> number)) {
            std::printf("FAILED: %s/%s.dat does not hold %d samples\n", folder.c_str(), of.name, samples);
            return false;
        }
        code = static_cast<std::uint64_t>(number) & of.mask();
    }
    return true;
}

// Samples `first` to `first + count` - 1 as memory words.
inline codes pack(const lane& of, const codes& all, int first, int count) {
    codes memory(of.bytes(count) / sizeof(std::uint64_t), 0);
    for (int n = 0; n < count; ++n) {
        for (int i = 0; i < of.size(); ++i) {
            const std::uint64_t code = all[static_cast<std::size_t>(first + n) * of.size() + i];
            const std::size_t low = of.bit(n, i), above = low % 64;
            memory[low / 64] |= code << above;
            if (above + of.width > 64) memory[low / 64 + 1] |= code >> (64 - above);
        }
    }
    return memory;
}

// How many elements of those samples differ from the memory words that the kernel wrote; each is printed.
inline int differences(const lane& of, const codes& memory, const codes& expected, int first, int count) {
    int differ = 0;
    for (int n = 0; n < count; ++n) {
        for (int i = 0; i < of.size(); ++i) {
            const std::size_t low = of.bit(n, i), above = low % 64;
            std::uint64_t got = memory[low / 64] >> above;
            if (above + of.width > 64) got |= memory[low / 64 + 1] << (64 - above);
            got &= of.mask();
            const std::uint64_t want = expected[static_cast<std::size_t>(first + n) * of.size() + i];
            if (got == want) continue;
            ++differ;
            std::printf("sample %d, %s[%d]: got code %lld, expected %lld\n", first + n, of.name, i, of.value(got),
                        of.value(want));
        }
    }
    return differ;
}

// The last line of a run, and its exit status.
inline int verdict(int mismatches) {
    std::printf("%s: %d samples, %d mismatches\n", mismatches ? "FAILED" : "PASSED", samples, mismatches);
    return mismatches ? 1 : 0;
}

}  // namespace bench
}  // namespace qapsule

#endif  // DESIGN_TINY_VECTORS_H
