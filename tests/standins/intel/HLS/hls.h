// A stand-in of our own for "HLS/hls.h": what our components and their test benches use of it, as ordinary C++.
// Queued calls are made when they are told to run, not before, so that a test bench that forgets it is found out.

#ifndef STANDIN_HLS_H
#define STANDIN_HLS_H

#include <deque>
#include <functional>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#define component
#define hls_component_ii(cycles)

namespace standin {

inline std::vector<std::function<void()>>& waiting() {
    static std::vector<std::function<void()>> calls;
    return calls;
}

template <class R, class... P, std::size_t... I>
R call(R (*function)(P...), std::tuple<P...>& arguments, std::index_sequence<I...>) {
    return function(static_cast<P>(std::get<I>(arguments))...);
}

template <class R, class... P, class... A>
void enqueue(R* result, R (*function)(P...), A&&... arguments) {
    std::tuple<P...> kept(std::forward<A>(arguments)...);
    waiting().push_back([=]() mutable { *result = call(function, kept, std::index_sequence_for<P...>()); });
}

template <class... P, class... A>
void enqueue_noret(void (*function)(P...), A&&... arguments) {
    std::tuple<P...> kept(std::forward<A>(arguments)...);
    waiting().push_back([=]() mutable { call(function, kept, std::index_sequence_for<P...>()); });
}

inline void run_all() {
    for (auto& one : waiting()) one();
    waiting().clear();
}

template <class T>
class fifo {
  public:
    fifo() = default;
    fifo(const fifo&) = delete;
    T read() {
        if (held_.empty()) throw std::runtime_error("stand-in: read from an empty stream");
        T first = held_.front();
        held_.pop_front();
        return first;
    }
    void write(const T& value) { held_.push_back(value); }

  private:
    std::deque<T> held_;
};

}  // namespace standin

namespace ihc {
template <class T>
using stream_in = standin::fifo<T>;
template <class T>
using stream_out = standin::fifo<T>;
}  // namespace ihc

#define ihc_hls_enqueue(result, ...) standin::enqueue(result, __VA_ARGS__)
#define ihc_hls_enqueue_noret(...) standin::enqueue_noret(__VA_ARGS__)
#define ihc_hls_component_run_all(function) ((void)(function), standin::run_all())

#endif  // STANDIN_HLS_H
