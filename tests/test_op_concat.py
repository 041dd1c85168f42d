from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compress.fixed import FixedPoint
from export.intervals import Bounds
from export.ir import GraphError, Tensor
from export.ops import Concat
from export.ops.casts import covering

FORMATS = FixedPoint(4, 1), FixedPoint(4, 3, False), FixedPoint(3, -1)


def concat(*shapes, axis=0, output=None, fmt=None):
    parts = tuple(Tensor(f"x{k}", shape, FORMATS[k]) for k, shape in enumerate(shapes))
    made = np.concatenate([np.zeros(shape) for shape in shapes], axis).shape if output is None else output
    return Concat(Tensor("y", made, fmt or covering([part.format for part in parts])), parts, axis)


CASES = [
    (((3,), (1,), (2,)), 0), (((3, 2), (1, 2)), 0), (((2, 3), (2, 1), (2, 2)), 1),
    (((2, 1, 3), (2, 4, 3)), 1), (((2, 2, 1), (2, 2, 3), (2, 2, 2)), 2), (((4,),), 0),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "axis"), CASES)
def test_numbers_stand_side_by_side(shapes, axis):
    op, rng = concat(*shapes, axis=axis), np.random.default_rng(0)
    codes = [rng.integers(part.format.min_code, part.format.max_code + 1, size=(20, *part.shape)) for part in op.parts]
    values = [part.format.values(x) for part, x in zip(op.parts, codes, strict=True)]
    assert np.array_equal(op.output.format.values(op.eval(*codes)), np.concatenate(values, axis + 1))
    assert op.inputs == op.parts


@pytest.mark.parametrize(("shapes", "axis"), CASES)
def test_blocks_and_places_are_those_of_the_row_major_array(shapes, axis):
    op = concat(*shapes, axis=axis)
    rows = np.arange(op.output.size).reshape(op.blocks, -1)
    for part, place in zip(op.parts, op.places, strict=True):
        wanted = np.take(np.arange(op.output.size).reshape(op.output.shape), range(place.start, place.stop), axis)
        width = part.size // op.blocks
        at = place.start * (rows.shape[1] // op.output.shape[axis])
        assert rows[:, at : at + width].ravel().tolist() == wanted.ravel().tolist()


def test_bounds_move_along():
    op = concat((2,), (1,))
    reach = Bounds(np.array([-8, 0]), np.array([3, 1])), Bounds(np.array([2]), np.array([9]))
    bounds = op.bounds(*reach)
    assert bounds.low.tolist() == [-32, 0, 2] and bounds.high.tolist() == [12, 4, 9]


def test_parts_are_rewired_one_by_one():
    op = concat((2,), (1,))
    other = replace(op.parts[1], name="other")
    assert op.rewired({op.parts[1]: other}).parts == (op.parts[0], other)
    assert op.rewired({other: op.parts[0]}) is op


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Concat(Tensor("y", (1,), FORMATS[0]), ()), "y: needs a part at least"),
        (
            lambda: concat((2, 3), (2, 2), axis=2, output=(2, 5)),
            "y: axis 2 of parts with 2 axes; count from 0, without the batch",
        ),
        (
            lambda: concat((2, 3), (3, 2), axis=1, output=(2, 5)),
            "y: parts of shapes (2, 3), (3, 2) differ along other axes than 1",
        ),
        (lambda: concat((2, 3), (2, 2), axis=1, output=(2, 6)), "y: the parts make (2, 5), the output is (2, 6)"),
        (
            lambda: concat((2,), (1,), fmt=FixedPoint(6, 2)),
            "y: fixed<6,4> does not hold x1: ufixed<4,1>[1]; widen it, or cast before",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(GraphError) as error:
        make()
    assert str(error.value) == message
