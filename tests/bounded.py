"""Streamed designs with a thread for each process and FIFOs with so many places: they stop where hardware would.

No clock decides that a design is stuck: the last thread that begins to wait while all others do says so.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from cxx import SANITIZE

from export.backend import FIRMWARE, Backend, StreamSpelling
from export.backends.emulator import EMULATOR
from export.firmware.design import Firmware
from export.ir import Graph
from export.streams.access import Io

_STREAMS = """
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace bounded {

struct stuck {};

struct crowd {
    std::mutex door;
    std::condition_variable change;
    std::vector<std::function<void()>> works;
    unsigned waiting = 0, running = 0, epoch = 0;
    bool is_stuck = false;

    void changed() {
        ++epoch;
        waiting = 0;
        change.notify_all();
    }
    void check() {
        if (running > 0 && waiting == running) {
            is_stuck = true;
            change.notify_all();
        }
    }
    template <class Ready>
    void wait(std::unique_lock<std::mutex>& lock, Ready ready) {
        while (!ready()) {
            ++waiting;
            check();
            const unsigned seen = epoch;
            change.wait(lock, [&] { return is_stuck || epoch != seen; });
            if (is_stuck) throw stuck();
        }
    }
    void join() {
        std::vector<std::thread> threads;
        running = works.size();
        for (auto& work : works)
            threads.emplace_back([&] {
                try {
                    work();
                } catch (stuck) {
                }
                std::lock_guard<std::mutex> lock(door);
                --running;
                check();
            });
        for (auto& thread : threads) thread.join();
    }
};
crowd all;

template <class Packet>
class stream {
  public:
    void limit(unsigned places) { places_ = places; }
    Packet read() {
        std::unique_lock<std::mutex> lock(all.door);
        all.wait(lock, [&] { return !held_.empty(); });
        const Packet packet = held_.front();
        held_.pop_front();
        all.changed();
        return packet;
    }
    void write(const Packet& packet) {
        std::unique_lock<std::mutex> lock(all.door);
        all.wait(lock, [&] { return held_.size() < places_; });
        held_.push_back(packet);
        all.changed();
    }

  private:
    std::deque<Packet> held_;
    unsigned places_ = ~0u;
};

}  // namespace bounded
"""

_MAIN = """
#include <cstdio>
#define QAPSULE_LANES_H  // instead of what that header says
#define QAPSULE_LANES 1
#include "firmware/types.h"
#include "firmware/qapsule/pragmas.h"
#include "firmware/qapsule/stream/transfer.h"
#undef QAPSULE_FIFO
#define QAPSULE_FIFO(stream, places) stream.limit(places);
#include "firmware/{name}.cpp"

int main() {{
    {x.type} x[{x.size}];
    for (auto& each : x) {{
        long long code;
        if (std::scanf("%lld", &code) != 1) return 2;
        each = {x.type}::from_raw(static_cast<{x.type}::raw_type>(code));
    }}
    {x.stream} in;
    {streams}
    qapsule::stream::emit<{x.packets}>(x, in);
    {name}(in, {arguments});
    if (bounded::all.is_stuck) return 3;
    {outputs}
}}
"""
_OUTPUT = """{{
        {y.type} y[{y.size}];
        qapsule::stream::collect<{y.packets}>({y.name}, y);
        for (auto& each : y) std::printf("%lld\\n", static_cast<long long>(each.raw()));
    }}"""

BOUNDED = Backend(
    name="bounded",
    files=FIRMWARE,
    headers=("fixed.h", "lanes.h"),
    spelling=replace(
        EMULATOR.spelling,
        streams=StreamSpelling(('#include "../bounded.h"',), lambda stream: f"bounded::stream<{stream.packet}>"),
    ),
    ios=(Io.STREAM,),
)


class Bounded:
    """A design of one input, compiled once; the depths of its FIFOs are read when it runs."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        firmware = Firmware(graph, Io.STREAM)
        assert firmware.network
        self.fifos = firmware.network.fifos
        self._graph = graph
        project = BOUNDED.render(graph, io="stream")
        for path, text in project.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        top = folder / "firmware" / f"{project.name}.cpp"
        call = re.compile(r"^    (\w+_process|qapsule::stream::fork<.*>)\((.*)\);$", flags=re.MULTILINE)
        text = call.sub(r"    bounded::all.works.push_back([&] { \1(\2); });", top.read_text())
        text = re.sub(r"QAPSULE_FIFO\((\w+), \d+\)", r'QAPSULE_FIFO(\1, std::atoi(std::getenv("\1")))', text)
        assert text.endswith("\n}\n")
        top.write_text("#include <cstdlib>\n" + text.removesuffix("}\n") + "    bounded::all.join();\n}\n")
        ys = [port.signal for port in firmware.outputs]
        (folder / "bounded.h").write_text(_STREAMS)
        (folder / "main.cpp").write_text(_MAIN.format(
            name=project.name, x=firmware.inputs[0].signal,
            streams="\n    ".join(f"{y.stream} {y.name};" for y in ys),
            arguments=", ".join(y.name for y in ys),
            outputs="\n    ".join(_OUTPUT.format(y=y) for y in ys),
        ))  # fmt: skip
        self._program = folder / "main"
        command = ["g++", "-std=c++14", "-pthread", "-w", *SANITIZE, "main.cpp", "-o", "main"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:3000]

    def run(self, codes: np.ndarray, room: Mapping[str, int]) -> dict[str, np.ndarray] | None:
        """The codes of every output for those of one sample; None where the design got stuck."""
        given = " ".join(map(str, codes.ravel().tolist()))
        environment = {name: str(places) for name, places in room.items()}
        done = subprocess.run([self._program], input=given, env=environment, capture_output=True, text=True, timeout=60)
        if done.returncode == 3:
            return None
        assert done.returncode == 0, done.stderr
        found, made = {}, np.array(done.stdout.split(), dtype=np.int64)
        for tensor in dict.fromkeys(self._graph.outputs):
            found[tensor.name], made = made[: tensor.size].reshape(tensor.shape), made[tensor.size :]
        return found
