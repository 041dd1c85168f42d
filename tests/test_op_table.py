from __future__ import annotations

import numpy as np
import pytest
import reference

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import Const, Graph, GraphError, Tensor
from export.ops import Input, Table

X, Y = FixedPoint(5, 1), FixedPoint(4, 2)
ENTRIES = np.random.default_rng(0).integers(Y.min_code, Y.max_code + 1, size=(3, 32))


def table(entries, low=X.min_code, shape=(3,), x=X, y=Y):
    return Table(Tensor("y", shape, y), Tensor("x", shape, x), low, Const(np.array(entries), Y))


def test_every_code_reads_its_entry():
    codes = reference.every_code(X)
    x = np.stack([codes] * 3, axis=1)
    assert (table(ENTRIES).eval(x).T == ENTRIES).all()
    assert (table(ENTRIES[:1]).eval(x) == ENTRIES[0][:, None]).all()


def test_channels_are_the_first_axis():
    x = np.random.default_rng(1).integers(-16, 16, size=(20, 3, 2))
    for entries in (ENTRIES, ENTRIES[:1]):
        op, flat = table(entries, shape=(3, 2)), table(entries)
        for column in range(2):
            assert (op.eval(x)[:, :, column] == flat.eval(x[:, :, column])).all()


def test_a_table_begins_at_any_code():
    op = table([[1, 2, 3]], low=-7, shape=(1,))
    assert op.high == -5 and op.eval(np.array([[-7], [-5]])).tolist() == [[1], [3]]
    for outside in (-8, -4):
        with pytest.raises(GraphError) as error:
            op.eval(np.array([[outside]]))
        assert str(error.value) == "y: codes outside -7 to -5, which have entries"


def test_bounds_are_tight():
    for entries in (ENTRIES, ENTRIES[1:2]):
        op = table(entries)
        for low in range(-16, 16, 3):
            for high in range(low, 16, 2):
                made = op.eval(np.stack([np.arange(low, high + 1)] * 3, axis=1))
                bounds = op.bounds(Bounds.everywhere((3,), low, high))
                assert (bounds.low == made.min(axis=0)).all() and (bounds.high == made.max(axis=0)).all()


def test_the_law_is_that_the_table_covers_the_reach():
    entry = Input(Tensor("x", (1,), X))
    for entries, low in ((ENTRIES[:1, :31], -16), (ENTRIES[:1, :31], -15)):
        op = table(entries, low=low, shape=(1,))
        with pytest.raises(GraphError) as error:
            Graph("g", (entry, op), (op.output,)).verify()
        assert str(error.value) == (
            f"y: x reaches codes from -16 to 15, the table has entries from {low} to {low + 30}; extend it"
        )
    op = table(ENTRIES[:1], shape=(1,))
    Graph("g", (entry, op), (op.output,)).verify()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: table(ENTRIES[0]),
            "y: entries have shape (32,); give (1, codes), or (3, codes) for tables by channel",
        ),
        (
            lambda: table(ENTRIES[:2]),
            "y: entries have shape (2, 32); give (1, codes), or (3, codes) for tables by channel",
        ),
        (
            lambda: table(ENTRIES, y=FixedPoint(4, 1)),
            "y: entries are fixed<4,2>, the output is fixed<4,3>; make them alike",
        ),
        (
            lambda: table(np.zeros((1, (1 << 14) + 1), dtype=int)),
            "y: 16385 entries, the limit is 16384; use a narrower format before it",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
