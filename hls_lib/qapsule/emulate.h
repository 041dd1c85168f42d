/// \file
/// Runs a design over batches: real numbers to codes, blocks of samples into the lanes of its number type, and whatever
/// tensors are asked for out of them. A design instantiates this once, behind the C ABI of emulation_abi.h.

#ifndef QAPSULE_EMULATE_H
#define QAPSULE_EMULATE_H

#include <pthread.h>

#include <cstddef>

#include "emulation_abi.h"
#include "encode.h"
#include "fixed.h"

/// Here a port is an array, and an input another name of it: a copy would push other things out of the cache.
#define QAPSULE_INPUT(T, x, N, port) const T(&x)[N] = *reinterpret_cast<const T(*)[N]>(port);

namespace qapsule {
namespace emulation {

/// How to look inside a number type: `lanes`, `element`, and arrays of numbers as arrays [N][lanes] of codes.
template <class T>
struct codes_of;

template <int W, int I, bool S, rounding Q, overflow O, int L>
struct codes_of<fixed<W, I, S, Q, O, L>> {
    using number = fixed<W, I, S, Q, O, L>;
    using element = typename number::word::element;
    static constexpr int lanes = L;
    static_assert(sizeof(number) == L * sizeof(element), "a number is nothing but its codes");

    /// The codes themselves; no buffer is needed.
    template <int N>
    static const element* read(const number (&array)[N], element (&)[N * L]) {
        return reinterpret_cast<const element*>(array);
    }
    static number make(const element (&codes)[L]) {
        typename number::raw_type raw;
        __builtin_memcpy(&raw, codes, sizeof raw);
        return number::from_raw(raw);
    }
    /// The single-lane code from 64 bits of it.
    static element widen(std::int64_t code) { return S || W < 64 ? element(code) : element(std::uint64_t(code)); }
};

/// Samples `first` to `first + live` - 1, and where their tensors go.
struct destination {
    const qapsule_array* tensors;
    std::int64_t first;
    int live;
};

inline const destination*& current() {
    static thread_local const destination* where = nullptr;
    return where;
}

/// A square of codes, mirrored: element k of vector v becomes element v of vector k.
template <class Element, int LANES>
struct square {
    using vector = typename detail::lanes<Element, LANES>::type;

    static void transpose(vector (&rows)[LANES]) { rounds<1>(rows, typename count<LANES>::type{}); }

  private:
    template <int...>
    struct indices {};
    template <int N, int... I>
    struct count : count<N - 1, N - 1, I...> {};
    template <int... I>
    struct count<0, I...> {
        using type = indices<I...>;
    };

    /// After the round of STEP, that bit of the row's number and of the element's have changed places.
    template <int STEP, int... I>
    static typename std::enable_if<(STEP < LANES)>::type rounds(vector (&rows)[LANES], indices<I...> all) {
        for (int v = 0; v < LANES; ++v) {
            if (v & STEP) continue;
            const vector a = rows[v], b = rows[v + STEP];
            rows[v] = __builtin_shufflevector(a, b, (I & STEP ? LANES + I - STEP : I)...);
            rows[v + STEP] = __builtin_shufflevector(a, b, (I & STEP ? LANES + I : I + STEP)...);
        }
        rounds<2 * STEP>(rows, all);
    }
    template <int STEP, int... I>
    static typename std::enable_if<(STEP >= LANES)>::type rounds(vector (&)[LANES], indices<I...>) {}
};

/// Codes [size][lanes] to the rows of `live` lanes.
template <class Out, class Element>
inline void scatter(Out* out, const Element* codes, int size, int lanes, int live, double lsb) {
    for (int lane = 0; lane < live; ++lane)
        for (int i = 0; i < size; ++i) {
            const std::int64_t code = static_cast<std::int64_t>(codes[i * lanes + lane]);
            out[lane * size + i] = std::is_integral<Out>::value ? static_cast<Out>(code)
                                                                : static_cast<Out>(static_cast<double>(code) * lsb);
        }
}

/// The rows of all lanes at once; false where the codes are none that squares are made of.
template <class Element, int LANES, bool THERE_ARE = LANES != 1 && std::is_same<Element, std::int32_t>::value>
struct squares {
    template <class Out>
    static bool scatter(Out*, const Element*, int, double) {
        return false;
    }
};
template <int LANES>
struct squares<std::int32_t, LANES, true> {
    using tile = square<std::int32_t, LANES>;

    template <class Out>
    static bool scatter(Out* out, const std::int32_t* codes, int size, double lsb) {
        const Out unit = std::is_integral<Out>::value ? Out(1) : static_cast<Out>(lsb);
        if (size < LANES) {
            one<false>(out, codes, size, size, unit);
            return true;
        }
        // The last square of a row lies over the one before it.
        for (int done = 0; done < size; done += LANES) {
            const int first = done + LANES <= size ? done : size - LANES;
            one<true>(out + first, codes + first * LANES, size, LANES, unit);
        }
        return true;
    }

  private:
    /// `width` elements of each row. A square that is wider than the rows lies over the next row, which comes later.
    template <bool WHOLE, class Out>
    static void one(Out* out, const std::int32_t* codes, int size, int width, Out unit) {
        using numbers = typename detail::lanes<Out, LANES>::type;
        typename tile::vector rows[LANES];
        for (int i = 0; i < LANES; ++i) {
            rows[i] = typename tile::vector{};
            if (WHOLE || i < width) __builtin_memcpy(&rows[i], codes + i * LANES, sizeof rows[i]);
        }
        tile::transpose(rows);
        // No machine foresees where the rows of the next samples begin; long ones would be out of the cache by then.
        const int ahead = size <= 1024 ? LANES * size : 64;
        for (int lane = 0; lane < LANES; ++lane) {
            const numbers values = __builtin_convertvector(rows[lane], numbers) * unit;
            Out* const row = out + lane * size;
            __builtin_prefetch(row + ahead, 1);
            if (WHOLE || lane * size + LANES <= LANES * size) {
                __builtin_memcpy(row, &values, sizeof values);
            } else {
                for (int i = 0; i < width; ++i) row[i] = values[i];
            }
        }
    }
};

template <int LANES, class Out, class Element>
inline void scatter_rows(Out* out, const Element* codes, int size, double lsb) {
    const int live = current()->live;
    out += current()->first * size;
    if (live == LANES && squares<Element, LANES>::scatter(out, codes, size, lsb)) return;
    scatter(out, codes, size, LANES, live, lsb);
}

/// Codes [size][LANES] to the rows of an array.
template <int LANES, class Element>
__attribute__((noinline)) void store(const qapsule_array& to, const Element* codes, int size) {
    if (to.kind == QAPSULE_FLOAT32) scatter_rows<LANES>(static_cast<float*>(to.data), codes, size, to.lsb);
    if (to.kind == QAPSULE_FLOAT64) scatter_rows<LANES>(static_cast<double*>(to.data), codes, size, to.lsb);
    if (to.kind == QAPSULE_CODES) scatter_rows<LANES>(static_cast<std::int64_t*>(to.data), codes, size, 1);
}

/// What QAPSULE_TRACE becomes: hands a tensor out if somebody asked for it.
template <class T, int N>
inline void probe(int slot, const T (&array)[N]) {
    const qapsule_array& to = current()->tensors[slot];
    if (__builtin_expect(to.kind != QAPSULE_ABSENT, 0)) {
        typename codes_of<T>::element buffer[N * codes_of<T>::lanes];
        store<codes_of<T>::lanes>(to, codes_of<T>::read(array, buffer), N);
    }
}

/// `run` on `batch`, on a stack that holds `bytes` of tensors: an ordinary one, of a few megabytes, does not hold those
/// of a large design. Small designs save themselves the thread.
template <class Run>
std::int32_t on_stack(std::size_t bytes, Run run, const qapsule_batch& batch) {
    struct work {
        Run run;
        const qapsule_batch& batch;
        std::int32_t result;
        static void* start(void* it) {
            work& self = *static_cast<work*>(it);
            self.result = self.run(self.batch);
            return nullptr;
        }
    } all = {run, batch, 0};
    constexpr std::size_t megabyte = 1 << 20;
    if (bytes <= megabyte) return run(batch);
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    // What a kernel needs beside its tensors is less than those.
    pthread_attr_setstacksize(&attributes, (2 * bytes / megabyte + 8) * megabyte);
    const bool started = pthread_create(&thread, &attributes, work::start, &all) == 0;
    pthread_attr_destroy(&attributes);
    if (!started) return run(batch);
    pthread_join(thread, nullptr);
    return all.result;
}

/// Whether a comparison held in any lane.
template <class Mask>
inline bool any(const Mask& held) {
    std::uint64_t parts[sizeof held / sizeof(std::uint64_t)];
    __builtin_memcpy(parts, &held, sizeof held);
    std::uint64_t all = 0;
    for (const std::uint64_t part : parts) all |= part;
    return all != 0;
}

/// Walks over a batch, LANES samples at a time.
template <int LANES>
class walk {
  public:
    explicit walk(const qapsule_batch& batch) : batch_(batch), here_{batch.tensors, batch.first, 0} {
        current() = &here_;
        measure();
    }
    ~walk() { current() = nullptr; }
    walk(const walk&) = delete;
    walk& operator=(const walk&) = delete;

    bool done() const { return here_.live <= 0 || refused_; }
    void next() {
        here_.first += LANES;
        measure();
    }
    bool refused() const { return refused_; }

    /// These samples of one input as numbers.
    template <class Encoder, class T, int N>
    void load(int input, T (&x)[N]) {
        const qapsule_array& from = batch_.inputs[input];
        if (from.kind == QAPSULE_FLOAT32) fill<Encoder, float>(from.data, x);
        if (from.kind == QAPSULE_FLOAT64) fill<Encoder, double>(from.data, x);
    }

    /// The same for the elements listed in `which` alone, whose codes are worth 2^SHIFT of those of T.
    template <class Encoder, int SHIFT, class T, int N, int COUNT>
    void load(int input, T (&x)[N], const int (&which)[COUNT]) {
        const qapsule_array& from = batch_.inputs[input];
        if (from.kind == QAPSULE_FLOAT32) fill_some<Encoder, SHIFT, float>(from.data, x, which);
        if (from.kind == QAPSULE_FLOAT64) fill_some<Encoder, SHIFT, double>(from.data, x, which);
    }

  private:
    void measure() {
        const std::int64_t left = batch_.last - here_.first;
        here_.live = left < LANES ? static_cast<int>(left) : LANES;
    }

    template <class Encoder, class Real, class T, int N>
    __attribute__((noinline)) void fill(const void* data, T (&x)[N]) {
        using codes = codes_of<T>;
        using fast = encoder_in_lanes<Encoder, Real, at_once<Real>()>;
        const Real* rows[LANES];
        find<N>(data, rows);
        constexpr bool in_tiles = fast::exact && sizeof(typename codes::element) == sizeof(std::int32_t);
        const int done = tiles<in_tiles && N >= LANES ? N : 0, fast>::fill(rows, x, refused_);
        for (int i = done; i < N; ++i) {
            typename codes::element column[LANES];
            for (int lane = 0; lane < LANES; ++lane)
                column[lane] = codes::widen(Encoder::code(rows[lane][i], refused_));
            x[i] = codes::make(column);
        }
    }

    template <class Encoder, int SHIFT, class Real, class T, int N, int COUNT>
    __attribute__((noinline)) void fill_some(const void* data, T (&x)[N], const int (&which)[COUNT]) {
        using codes = codes_of<T>;
        using fast = encoder_in_lanes<Encoder, Real, at_once<Real>()>;
        const Real* rows[LANES];
        find<N>(data, rows);
        for (const int i : which) {
            Real values[LANES];
            std::int64_t found[LANES];
            for (int lane = 0; lane < LANES; ++lane) values[lane] = rows[lane][i];
            column<fast, fast::exact>::template encode<Encoder>(values, found, refused_);
            typename codes::element coarse[LANES];
            for (int lane = 0; lane < LANES; ++lane)
                coarse[lane] = codes::widen(static_cast<std::int64_t>(static_cast<std::uint64_t>(found[lane]) << SHIFT));
            x[i] = codes::make(coarse);
        }
    }

    /// As many numbers as fill one register.
    template <class Real>
    static constexpr int at_once() {
        return LANES > 1 ? LANES * sizeof(float) / sizeof(Real) : 1;
    }
    /// Where each lane's sample begins. Lanes behind the end of the batch repeat its last sample.
    template <int N, class Real>
    void find(const void* data, const Real* (&rows)[LANES]) const {
        const Real* const first = static_cast<const Real*>(data) + here_.first * N;
        for (int lane = 0; lane < LANES; ++lane)
            rows[lane] = first + (lane < here_.live ? lane : here_.live - 1) * std::int64_t(N);
    }

    /// One element of each lane's sample.
    template <class Fast, bool EXACT>
    struct column {
        template <class Encoder, class Real>
        static void encode(const Real (&values)[LANES], std::int64_t (&found)[LANES], bool& refused) {
            typename Fast::reals doubt{};
            for (int lane = 0; lane < LANES; lane += Fast::lanes) {
                typename Fast::reals part;
                __builtin_memcpy(&part, values + lane, sizeof part);
                const typename Fast::codes made = Fast::apply(part, doubt);
                for (int k = 0; k < Fast::lanes; ++k) found[lane + k] = made[k];
            }
            refused |= any(doubt != 0);
        }
    };
    template <class Fast>
    struct column<Fast, false> {
        template <class Encoder, class Real>
        static void encode(const Real (&values)[LANES], std::int64_t (&found)[LANES], bool& refused) {
            for (int lane = 0; lane < LANES; ++lane) found[lane] = Encoder::code(values[lane], refused);
        }
    };

    /// N features in squares of LANES features by LANES samples. Returns how many features that are.
    template <int N, class Fast>
    struct tiles {
        template <class Real, class T>
        static int fill(const Real* const (&rows)[LANES], T* x, bool& refused) {
            typename Fast::reals doubt{};
            for (int done = 0; done < N; done += LANES) {
                // The last square lies over the one before it.
                const int i = done + LANES <= N ? done : N - LANES;
                typename square<std::int32_t, LANES>::vector tile[LANES];
                typename Fast::reals here{};  // one sum of all squares would be one long chain of additions
                for (int lane = 0; lane < LANES; ++lane) {
                    typename Fast::codes parts[sizeof(tile[0]) / sizeof(typename Fast::codes)];
                    const Real* from = rows[lane] + i;
                    // Rows are too short for a machine to foresee the next ones.
                    __builtin_prefetch(from + LANES * std::int64_t(N));
                    for (typename Fast::codes& part : parts) {
                        typename Fast::reals values;
                        __builtin_memcpy(&values, from, sizeof values);
                        part = Fast::apply(values, here);
                        from += Fast::lanes;
                    }
                    __builtin_memcpy(&tile[lane], parts, sizeof parts);
                }
                square<std::int32_t, LANES>::transpose(tile);
                for (int k = 0; k < LANES; ++k) x[i + k] = T::from_raw(tile[k]);
                doubt += here;
            }
            refused |= any(doubt != 0);
            return N;
        }
    };
    template <class Fast>
    struct tiles<0, Fast> {
        template <class Rows, class T>
        static int fill(const Rows&, T*, bool&) {
            return 0;
        }
    };

    const qapsule_batch& batch_;
    destination here_;
    bool refused_ = false;
};

}  // namespace emulation
}  // namespace qapsule

#endif  // QAPSULE_EMULATE_H
