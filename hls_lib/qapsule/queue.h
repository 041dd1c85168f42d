/// \file
/// A stream in software, for numbers of several lanes.

#ifndef QAPSULE_QUEUE_H
#define QAPSULE_QUEUE_H

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace qapsule {

/// N objects on the heap, aligned as T asks (which `new` does from C++17 on). They end without destructors.
template <class T, int N>
class block {
  public:
    block() : bytes_(static_cast<unsigned char*>(std::malloc(N * sizeof(T) + alignof(T)))) {
        if (bytes_ == nullptr) std::abort();
        const std::size_t over = reinterpret_cast<std::uintptr_t>(bytes_) % alignof(T);
        first_ = reinterpret_cast<T*>(bytes_ + (over != 0 ? alignof(T) - over : 0));
        for (int i = 0; i < N; ++i) new (first_ + i) T;
    }
    ~block() { std::free(bytes_); }
    block(const block&) = delete;
    block& operator=(const block&) = delete;

    T (&array())[N] { return *reinterpret_cast<T(*)[N]>(first_); }
    T& operator[](int i) { return first_[i]; }

  private:
    unsigned char* bytes_;
    T* first_;
};

/// First in, first out. In software one process runs after the other, so that a queue holds a whole tensor: at most N
/// packets.
template <class Packet, int N>
class queue {
  public:
    Packet read() {
        check(count_ > 0, "read while empty");
        const int place = first_;
        first_ = first_ + 1 == N ? 0 : first_ + 1;
        --count_;
        return places_[place];
    }
    void write(const Packet& packet) {
        check(count_ < N, "written while full");
        places_[first_ + count_ < N ? first_ + count_ : first_ + count_ - N] = packet;
        ++count_;
    }
    bool empty() const { return count_ == 0; }

  private:
    static void check(bool legal, const char* wrong) {
        if (!legal) {
            std::fprintf(stderr, "qapsule::queue: %s\n", wrong);
            std::abort();
        }
    }

    block<Packet, N> places_;
    int first_ = 0;
    int count_ = 0;
};

}  // namespace qapsule

#endif  // QAPSULE_QUEUE_H
