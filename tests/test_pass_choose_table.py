from __future__ import annotations

import numpy as np
import pytest

from compress.fixed import FixedPoint, Overflow, Rounding
from export.intervals import Bounds
from export.ir import Const, Graph, Op, Tensor
from export.modes import Modes
from export.ops import Input, Table, Threshold
from export.passes.choose_table import choose_table, comparison_luts, table_luts

QUANTIZER = Modes(Rounding.RND_CONV, Overflow.SAT)


def graph(x: FixedPoint, levels: np.ndarray, y: FixedPoint, shape: tuple[int, ...] = (3,)) -> Graph:
    entry = Input(Tensor("x", shape, x), QUANTIZER)
    start, step = Const([y.min_code] * len(levels), y), Const([1] * len(levels), FixedPoint(2, y.frac))
    op: Op = Threshold(Tensor("y", shape, y), entry.output, Const(levels, x), start, step)
    return Graph("g", (entry, op), (op.output,)).verify()


def steps(count: int, fmt: FixedPoint, channels: int = 3) -> np.ndarray:
    return np.sort(np.random.default_rng(0).integers(fmt.min_code + 1, fmt.max_code, (channels, count)), axis=1)


def test_the_cost_of_each():
    assert table_luts(64, 8) == 8 and table_luts(65, 8) == 16 and table_luts(4096, 1) == 64
    assert comparison_luts(10, 6) == 20 and comparison_luts(10, 7) == 30 and comparison_luts(1, 1) == 1


@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_many_steps_of_a_narrow_number_become_a_table(shape):
    x, y = FixedPoint(8, 4), FixedPoint(6, 3)
    before = graph(x, steps(60, x), y, shape)
    after = choose_table(before).verify()
    op = after.ops[1]
    assert isinstance(op, Table) and op.entries.shape == (3, 256)
    codes = np.random.default_rng(1).integers(-128, 128, size=(300, *shape))
    assert np.array_equal(before.eval(codes), after.eval(codes))
    assert after.notes == ("stored as tables: y, 256 entries",)
    assert choose_table(after) is after


def test_alike_channels_share_a_table():
    x = FixedPoint(8, 4)
    after = choose_table(graph(x, np.repeat(steps(60, x, 1), 3, axis=0), FixedPoint(6, 3)))
    assert after.ops[1].entries.shape == (1, 256)


@pytest.mark.parametrize(("width", "count"), [(12, 15), (16, 15), (16, 400), (8, 1)])
def test_few_steps_of_a_wide_number_stay_comparisons(width, count):
    x = FixedPoint(width, 4)
    before = graph(x, steps(count, x), FixedPoint(9, 3))
    assert choose_table(before) is before


def test_steps_that_nothing_passes_do_not_count():
    x, y = FixedPoint(8, 4), FixedPoint(6, 3)
    before = graph(x, np.full((3, 60), 127), y)
    met = graph(x, np.full((3, 60), -128), y)
    assert isinstance(choose_table(before).ops[1], Table)  # 127 is reached
    assert isinstance(choose_table(met).ops[1], Threshold)
    assert (met.bounds[met.outputs[0]].low == -32 + 60).all()
    assert isinstance(before.bounds[before.outputs[0]], Bounds)
