"""The emulator: the compiled C++ equals the graph in every bit of every tensor, whatever comes in."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from designs import QUANTIZER, assert_equal_traces, chain, every_op, exact_dense, mlp, samples, skip_net

from compress.fixed import FixedPoint, FixedPointError, Overflow, Rounding
from export._runtime import empty
from export.emulation.emulator import Emulator, MissingHeadersError, Numbers, value_dtype
from export.emulation.vendor_headers import ac_include, ap_include
from export.firmware.identifiers import _RESERVED
from export.ir import Const, Graph, GraphError, Op, Tensor
from export.ops import Affine, Cast, Dense, Input, Modes, SparseDense, Threshold

VENDORS = {Numbers.OWN: True, Numbers.AP: ap_include() is not None, Numbers.AC: ac_include() is not None}
EVERY_NUMBER = [
    pytest.param(n, id=n.name, marks=pytest.mark.skipif(not here, reason=f"the headers of {n.value} are not here"))
    for n, here in VENDORS.items()
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def jet(cache: Path) -> Emulator:
    return Emulator(mlp("jet", (16, 64, 32, 32, 5)), cache_dir=cache)


@pytest.mark.parametrize("numbers", EVERY_NUMBER)
@pytest.mark.parametrize("design", [every_op, skip_net])
def test_every_op_computes_what_the_graph_says(design: Callable[[], Graph], numbers: Numbers, cache: Path) -> None:
    graph = design()
    values = samples(graph, 1000)
    assert len(np.unique(graph.eval(graph.inputs[0].encode(values[0])))) > 10
    assert_equal_traces(graph, Emulator(graph, numbers=numbers, cache_dir=cache), values)


def test_values_are_codes_times_their_unit(jet: Emulator) -> None:
    (x,) = samples(jet.graph, 100)
    codes, values = jet.trace_codes(x), jet.trace(x)
    for op in jet.graph:
        assert values[op.name].dtype == np.float32
        assert np.array_equal(values[op.name], op.output.format.values(codes[op.name]))
    output = jet.graph.outputs[0].name
    assert np.array_equal(jet.predict(x), values[output])
    assert np.array_equal(jet.predict_codes(x), codes[output])


@pytest.mark.parametrize("batch", [0, 1, 2, 15, 16, 17, 255, 256, 257, 1000])
def test_any_batch_gives_the_first_samples_of_a_larger_one(jet: Emulator, batch: int) -> None:
    (x,) = samples(jet.graph, 1000)
    whole = jet.predict_codes(x)
    assert len(np.unique(whole)) > 500
    assert np.array_equal(jet.predict_codes(x[:batch]), whole[:batch])


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_give_the_same_bits(jet: Emulator, cache: Path, threads: int) -> None:
    (x,) = samples(jet.graph, 5001)
    emulator = Emulator(jet.graph, threads=threads, cache_dir=cache)
    assert all(np.array_equal(a, b) for a, b in zip(
        emulator.trace_codes(x).values(), jet.trace_codes(x).values(), strict=True
    ))  # fmt: skip


def test_any_layout_and_type_of_numbers_will_do(jet: Emulator) -> None:
    (x,) = samples(jet.graph, 64)
    x = np.rint(x)
    expected = jet.predict_codes(x)
    for same in (x.astype(np.float32), x.astype(np.float16), x.astype(np.int8), np.asfortranarray(x), x.tolist()):
        assert np.array_equal(jet.predict_codes(same), expected)
    assert np.array_equal(jet.predict_codes(x[::-2]), expected[::-2])


MODES = [Modes(q, o) for q, o in product(Rounding, Overflow)]
INPUTS = [FixedPoint(5, 2), FixedPoint(6, 6, False), FixedPoint(1, 0), FixedPoint(24, 10), FixedPoint(25, 3),
          FixedPoint(4, -3), FixedPoint(32, 16), FixedPoint(31, 20, False), FixedPoint(53, 20), FixedPoint(64, 40),
          FixedPoint(64, 0, False), FixedPoint(63, 70)]  # fmt: skip


def awkward(fmt: FixedPoint, dtype: type) -> np.ndarray:
    """Every tie and its neighbours around zero and both ends, and numbers near the ends of the float type."""
    halves = np.arange(-12, 13) / 2
    around = [c + halves for c in (0.0, float(fmt.min_code), float(fmt.max_code), 2.0 * fmt.max_code + 2)]
    scaled = np.ldexp(np.concatenate(around), -fmt.frac).astype(dtype)
    info = np.finfo(dtype)
    extreme = np.array([0.0, -0.0, info.max, -info.max, info.tiny, -info.tiny], dtype=dtype)
    random = np.random.default_rng(0).normal(size=200) * float(fmt.max_code) * float(fmt.lsb)
    found = [scaled, np.nextafter(scaled, dtype(np.inf)), np.nextafter(scaled, dtype(-np.inf)), extreme, random]
    return np.concatenate([v.astype(dtype) for v in found])


@pytest.mark.parametrize("fmt", INPUTS, ids=str)
def test_real_numbers_become_the_codes_that_the_input_says(fmt: FixedPoint, cache: Path) -> None:
    """All modes at once: one input each. Wide enough for whole registers of features and for some left over."""
    tensors = [Tensor(f"x_{m.rounding.name}_{m.overflow.name}", (19,), fmt) for m in MODES]
    inputs = tuple(Input(t, m) for t, m in zip(tensors, MODES, strict=True))
    graph = Graph("inputs", inputs, tuple(tensors))
    emulator = Emulator(graph, cache_dir=cache)
    for dtype in (np.float32, np.float64):
        numbers = awkward(fmt, dtype)
        with np.errstate(over="ignore", under="ignore"):
            scaled = np.ldexp(numbers.astype(np.float64), fmt.frac)
        x = np.resize(numbers[np.isfinite(scaled) & ((scaled != 0) | (numbers == 0))], (64, 19))
        got = emulator.trace_codes(*[x] * len(inputs))
        for op in inputs:
            assert np.array_equal(got[op.name], op.encode(x)), f"{op.name} from {dtype.__name__}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_with_a_count(jet: Emulator, dtype: type, bad: float) -> None:
    x = np.zeros((700, 16), dtype=dtype)
    x[[3, 640], 5] = bad
    for ask in (jet.predict, jet.predict_codes, jet.trace):
        with pytest.raises(FixedPointError, match="2 of 11200 values are NaN or infinite"):
            ask(x)


def test_what_a_double_cannot_scale_is_refused(cache: Path) -> None:
    x = Tensor("x", (16,), FixedPoint(8, 30))
    emulator = Emulator(Graph("g", (Input(x),), (x,)), cache_dir=cache)
    with pytest.raises(FixedPointError, match=r"cannot scale these values by 2\*\*30"):
        emulator.predict(np.full((1, 16), 1e305))


def test_the_shape_and_the_number_of_inputs_are_checked(jet: Emulator, cache: Path) -> None:
    with pytest.raises(GraphError, match=r"x: expects samples of shape \(16,\), got an array of shape \(3, 17\)"):
        jet.predict(np.zeros((3, 17)))
    with pytest.raises(GraphError, match=r"x: expects samples of shape \(16,\)"):
        jet.predict(np.zeros(16))
    with pytest.raises(GraphError, match="jet: takes 1 inputs, got 2"):
        jet.predict(np.zeros((3, 16)), np.zeros((3, 16)))
    with pytest.raises(ValueError, match="jet: threads must be 1 or more, got 0"):
        Emulator(jet.graph, threads=0)
    tensors = [Tensor(n, (2,), FixedPoint(4, 1)) for n in "ab"]
    pair = Emulator(Graph("pair", tuple(map(Input, tensors)), tuple(tensors)), cache_dir=cache)
    with pytest.raises(GraphError, match="pair: batches of 3, 4 samples differ"):
        pair.predict(np.zeros((3, 2)), np.zeros((4, 2)))


def single(op_of: object, fmt: FixedPoint, size: int = 3) -> Graph:
    x = Tensor("x", (size,), fmt)
    op: Op = op_of(x)  # type: ignore[operator]
    return Graph("single", (Input(x), op), (op.output,)).verify()


WIDE = {
    "cast up to 64 bits": single(lambda x: Cast(Tensor("y", (3,), FixedPoint(64, 40)), x, Modes()), FixedPoint(20, 3)),
    "cast from 64 bits": single(
        lambda x: Cast(Tensor("y", (3,), FixedPoint(9, -20)), x, QUANTIZER), FixedPoint(64, 9)
    ),
    "cast of unsigned 64 bits": single(
        lambda x: Cast(Tensor("y", (3,), FixedPoint(64, 1, False)), x, Modes(Rounding.RND)), FixedPoint(64, 2, False)
    ),
    "accumulator of 60 bits": single(
        lambda x: exact_dense("y", x, Const([[2**25, -3, 7]], FixedPoint(27, 3)), Const([9], FixedPoint(8, 3)),
                              (Input(x),)),
        FixedPoint(32, 20),
    ),
    "narrow accumulator of a wide product": single(
        lambda x: Dense(Tensor("y", (2,), FixedPoint(12, 5)), x, Const([[-8, 3, 7], [1, 0, 2**20]], FixedPoint(22, 20)),
                        Const([9, -1], FixedPoint(8, 3)), Modes(Rounding.RND_ZERO, Overflow.WRAP)),
        FixedPoint(42, 20),
    ),
    "affine of 60 bits": single(
        lambda x: Affine(Tensor("y", (3,), FixedPoint(40, 4)), x, Const([2**20, -(2**20), 5], FixedPoint(22, 20)),
                         Const([1, 2, 3], FixedPoint(20, 19)), Modes(Rounding.RND_INF, Overflow.SAT)),
        FixedPoint(34, 5),
    ),
    "threshold at 62 bits": single(
        lambda x: Threshold(Tensor("y", (3,), FixedPoint(3, 0)), x, Const([[-(2**60), 2**60]] * 3, FixedPoint(62, 4)),
                            Const([-1] * 3, FixedPoint(3, 0)), Const([1] * 3, FixedPoint(2, 0))),
        FixedPoint(62, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WIDE)
def test_wide_numbers_are_exact(case: str, cache: Path) -> None:
    graph = WIDE[case]
    assert_equal_traces(graph, Emulator(graph, cache_dir=cache), samples(graph, 300))


def test_layers_without_weights_or_levels_are_constants(cache: Path) -> None:
    x = Tensor("x", (2,), FixedPoint(4, 1))
    entry = Input(x)
    zeros = Const(np.zeros((3, 2), dtype=int), FixedPoint(3, 0))
    fc = SparseDense.of(exact_dense("fc", x, zeros, Const([1, 0, -2], FixedPoint(3, 1)), (entry,)))
    level = Const(np.zeros((3, 0), dtype=int), fc.output.format)
    y = Tensor("y", (3,), FixedPoint(3, 0))
    last = Threshold(y, fc.output, level, Const([1, -3, 2], y.format), Const([1, 1, -1], FixedPoint(2, 0)))
    graph = Graph("constant", (entry, fc, last), (y,))
    emulator = Emulator(graph, cache_dir=cache)
    assert_equal_traces(graph, emulator, samples(graph, 20))
    assert emulator.predict_codes(np.ones((2, 2))).tolist() == [[1, -3, 2]] * 2


@pytest.mark.parametrize("numbers", EVERY_NUMBER)
@pytest.mark.parametrize("modes", [None, Modes(Rounding.RND, Overflow.SAT), Modes(Rounding.TRN, Overflow.WRAP)])
def test_sparse_layers_of_any_size_equal_the_graph(modes: Modes | None, numbers: Numbers, cache: Path) -> None:
    """The first has more weights than software unrolls, the second fewer; some outputs have none, some have many."""
    rng = np.random.default_rng(0)
    x = Tensor("x", (200,), FixedPoint(6, 3))
    entry = Input(x)
    weight = rng.integers(-16, 16, size=(37, 200)) * (rng.random((37, 200)) < np.linspace(0, 0.5, 37)[:, None])
    assert np.count_nonzero(weight) > 1024
    bias = Const(rng.integers(-99, 99, size=37), FixedPoint(8, 7))
    first = exact_dense("first", x, Const(weight, FixedPoint(5, 4)), bias, (entry,))
    if modes is not None:  # every product and every sum is cast
        first = replace(first, output=Tensor("first", (37,), FixedPoint(9, 3)), modes=modes)
    layer = SparseDense.of(first)
    narrow = Cast(Tensor("narrow", (37,), FixedPoint(6, 0)), layer.output, QUANTIZER)
    few = rng.integers(-16, 16, size=(5, 37)) * (rng.random((5, 37)) < 0.3)
    second = SparseDense.of(
        exact_dense("second", narrow.output, Const(few, FixedPoint(5, 4)), Const([1, 0, -2, 3, 4], FixedPoint(4, 4)),
                    (entry, layer, narrow))
    )  # fmt: skip
    graph = Graph("sparse", (entry, layer, narrow, second), (second.output,)).verify()
    assert_equal_traces(graph, Emulator(graph, numbers=numbers, cache_dir=cache), samples(graph, 70))


@pytest.mark.parametrize("size", [1, 3, 15, 16, 17, 31, 33])
@pytest.mark.parametrize("width", [6, 30, 40])
def test_tensors_of_any_size_come_out_whole(size: int, width: int, cache: Path) -> None:
    """Narrower than a register, a register and some more; codes that float32, float64 and both of them hold."""
    x = Tensor("x", (size,), FixedPoint(width, 2))
    graph = Graph("whole", (Input(x),), (x,))
    emulator = Emulator(graph, threads=1, cache_dir=cache)
    for count in (1, 16, 50, 64):
        assert_equal_traces(graph, emulator, samples(graph, count))
        codes = emulator.predict_codes(*samples(graph, count))
        assert np.array_equal(emulator.predict(*samples(graph, count)), x.format.values(codes))


def test_results_that_are_kept_never_change(jet: Emulator) -> None:
    """Memory goes round, but only what nobody refers to any more, a part of it included."""
    batches = [samples(jet.graph, 9000, seed)[0] for seed in range(6)]
    expected = [jet.predict_codes(x).copy() for x in batches]
    kept = [jet.predict(x) for x in batches[:3]]
    parts = [jet.trace(x)[jet.graph.outputs[0].name][10:7000:7].T for x in batches[3:]]
    for x in batches * 3:
        jet.trace(x)
    unit = 2.0 ** -jet.graph.outputs[0].format.frac
    assert all(np.array_equal(a, e * unit) for a, e in zip(kept, expected[:3], strict=True))
    assert all(np.array_equal(a, (e * unit)[10:7000:7].T) for a, e in zip(parts, expected[3:], strict=True))


def test_the_memory_of_the_latest_results_is_kept() -> None:
    """Not that of earlier ones of other sizes, which may never be asked for again."""
    earlier = [empty((1 << 20,), np.dtype(np.float32)) for _ in range(64)]  # as much as is kept
    del earlier
    latest = empty((5 << 20,), np.dtype(np.float32))
    latest[:] = 1
    del latest
    again = empty((5 << 20,), np.dtype(np.float32))
    assert again[0] == again[-1] == 1  # what the system hands out is zero


def test_an_input_that_is_also_the_output_and_several_outputs(cache: Path) -> None:
    graph = mlp("net", (4, 3, 2))
    graph = replace(graph, outputs=(graph.ops[0].output, *graph.outputs, graph.ops[2].output))
    emulator = Emulator(graph, cache_dir=cache)
    values = samples(graph, 50)
    assert_equal_traces(graph, emulator, values)
    assert np.array_equal(emulator.predict_codes(*values), graph.ops[0].encode(values[0]))


def test_names_from_any_model_compile_and_come_back(cache: Path) -> None:
    hostile = ['"); abort(); ("', "a\n#error", "*/", "\\", "??/", "层", "\udc80", "buffer", "lanes", "batch", "code"]
    names = sorted(_RESERVED | {"x", "X", "x_t", "qapsule_slots", "walk", "EOF", "main", "fc.1"}) + hostile
    graph = chain("int", names, size=1)
    assert_equal_traces(graph, Emulator(graph, cache_dir=cache), samples(graph, 30))


def test_values_come_in_the_smallest_float_that_holds_them() -> None:
    def of(width: int, frac: int, signed: bool = True) -> object:
        return value_dtype(Tensor("x", (1,), FixedPoint(width, frac, signed)))

    assert [of(24, 3), of(25, 3), of(24, 3, False)] == [np.float32] * 3
    assert [of(26, 3), of(25, 3, False), of(54, 0), of(53, 9, False), of(8, 200), of(8, -200)] == [np.float64] * 6
    with pytest.raises(GraphError, match=r"x: fixed<55,55>\[1\]: no float type holds every code exactly; ask for"):
        of(55, 0)


def test_codes_that_no_float_holds_can_still_be_had(cache: Path) -> None:
    graph = WIDE["cast of unsigned 64 bits"]
    emulator = Emulator(graph, cache_dir=cache)
    with pytest.raises(GraphError, match="ask for codes"):
        emulator.predict(np.ones((1, 3)))
    assert emulator.predict_codes(np.full((1, 3), 2.0**62)).tolist() == [[2**63] * 3]


def test_the_interpreter_goes_on_while_a_design_runs(cache: Path) -> None:
    emulator = Emulator(mlp("jet", (16, 64, 32, 32, 5)), threads=1, cache_dir=cache)
    x = np.zeros((1_500_000, 16), dtype=np.float32)
    span: list[float] = []

    def run() -> None:
        begin = time.perf_counter()
        emulator.predict(x)
        span.extend([begin, time.perf_counter()])

    worker = threading.Thread(target=run)
    ticks = [time.perf_counter()]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        worker.start()
        while worker.is_alive():
            time.sleep(1e-4)
            ticks.append(time.perf_counter())
    finally:
        sys.setswitchinterval(interval)
    during = [t for t in ticks if span[0] + 0.1 * (span[1] - span[0]) < t < span[1] - 0.1 * (span[1] - span[0])]
    assert len(during) >= 5  # holding the GIL, the design would leave none


def test_a_trace_of_many_samples_takes_little_memory(cache: Path) -> None:
    """In a process of its own, whose peak is the trace's: 100,000 jets, every tensor, below 300 MB."""
    code = """
import sys, numpy as np
from pathlib import Path
from designs import mlp
from export.emulation.emulator import Emulator
emulator = Emulator(mlp("jet", (16, 64, 32, 32, 5)), cache_dir=sys.argv[1])
x = np.random.default_rng(0).normal(size=(100_000, 16)).astype(np.float32)
emulator.trace(x[:1000])
def megabytes(what):
    (line,) = (l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(what))
    return int(line.split()[1]) / 1024
before = megabytes("VmRSS")
trace = emulator.trace(x)
print(megabytes("VmHWM") - before, len(trace))  # an earlier peak would only make it more
"""
    here = Path(__file__).parent
    search = os.pathsep.join([str(here), str(here.parent)])
    environment = {**os.environ, "PYTHONPATH": search}
    command = [sys.executable, "-c", code, str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    megabytes, tensors = done.stdout.split()
    assert int(tensors) == 11 and 50 < float(megabytes) < 300


def test_missing_headers_of_a_vendor_are_named(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    for numbers, function in ((Numbers.AP, "ap_include"), (Numbers.AC, "ac_include")):
        monkeypatch.setattr(f"export.emulation.emulator.{function}", lambda: None)
        message = f"headers of {numbers.value} are not here; install hls4ml, or name their folder in QAPSULE_"
        with pytest.raises(MissingHeadersError, match=message):
            Emulator(mlp("net", (2, 2)), numbers=numbers, cache_dir=cache)
