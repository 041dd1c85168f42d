from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from compress.fixed import FixedPoint, Overflow, Rounding
from export.frontends.normalizing import tables
from export.frontends.precision import Precision
from export.intervals import Bounds
from export.ir import Const, Graph, GraphError, Tensor
from export.modes import Modes
from export.ops import Input, Softmax
from export.ops.softmax import exponential, mantissas

Y, ONE = FixedPoint(10, 10, False), Fraction(1)


def softmax(size, fmt, result=Y, scale=ONE, reach=None, **precision) -> Softmax:
    reach = reach or (fmt.min_code, fmt.max_code)
    x = Tensor("x", (size,), fmt)
    return tables(Tensor("y", (size,), result), x, scale, Bounds.everywhere((size,), *reach), Precision(**precision))


def real(x: np.ndarray) -> np.ndarray:
    """Far more precisely than any bound below."""
    powers = np.exp((x - x.max(axis=1, keepdims=True)).astype(np.longdouble))
    return powers / powers.sum(axis=1, keepdims=True)


def worst(op: Softmax, codes: np.ndarray) -> float:
    x = op.x.format.values(codes) * float(op.scale)
    return float(np.abs(op.output.format.values(op.eval(codes)) - real(x)).max())


def every_sample(fmt: FixedPoint, size: int) -> np.ndarray:
    return np.array(list(product(range(fmt.min_code, fmt.max_code + 1), repeat=size)))


def whole(op: Softmax) -> Bounds:
    return Bounds.everywhere(op.x.shape, op.x.format.min_code, op.x.format.max_code)


@pytest.mark.parametrize("stable", [True, False])
@pytest.mark.parametrize("result", [FixedPoint(6, 6, False), FixedPoint(12, 12, False), FixedPoint(9, 7)], ids=str)
@pytest.mark.parametrize("width", [3, 12])
def test_the_error_is_bounded_on_every_sample_of_small_domains(stable, result, width):
    for fmt, size in ((FixedPoint(4, 1), 3), (FixedPoint(6, 4), 2), (FixedPoint(3, 0, False), 4)):
        op = softmax(size, fmt, result, Fraction(5, 7), stable=stable, table_width=width)
        bound = float(op.error(whole(op)))
        found = worst(op, every_sample(fmt, size))
        assert found <= bound
        if width == 12:
            assert bound < 4 * float(result.lsb)  # a bound that says something


@pytest.mark.parametrize(("size", "fmt"), [(10, FixedPoint(8, 4)), (33, FixedPoint(10, 6)), (5, FixedPoint(20, 14))])
def test_the_error_is_bounded_on_random_samples(size, fmt):
    op = softmax(size, fmt, FixedPoint(16, 16, False))
    rng = np.random.default_rng(0)
    near = rng.integers(0, 1 << 9, size=(3000, size)) + rng.integers(fmt.min_code, fmt.max_code - 512, size=(3000, 1)) \
        if fmt.width > 10 else rng.integers(fmt.min_code, fmt.max_code + 1, size=(3000, size))  # fmt: skip
    ends = rng.choice([fmt.min_code, fmt.max_code], size=(200, size))
    found = worst(op, np.concatenate([near, ends]))
    assert found <= float(op.error(whole(op))) < 0.004


def test_what_it_computes_one_number_at_a_time():
    op = softmax(3, FixedPoint(5, 2), table_width=4)
    e, r = op.exponentials.codes.tolist(), op.reciprocals.codes.tolist()
    for sample in np.random.default_rng(1).integers(-16, 16, size=(50, 3)):
        places = [min((max(sample) - v) * 2 ** (op.index.frac - 2) + Fraction(1, 2), len(e) - 1) // 1 for v in sample]
        terms = [e[int(place)] for place in places]
        total = Fraction(sum(terms)) * op.exponentials.format.lsb
        octave = max(k for k in op.octaves if total >= Fraction(2) ** k)
        mantissa = int((total / Fraction(2) ** octave - 1) * 2**op.mantissa.width)
        inverse = r[octave - op.octaves[0]][mantissa]
        exact = [term * inverse * op.exponentials.format.lsb * op.reciprocals.format.lsb for term in terms]
        expected = [min(round(v / op.output.format.lsb), op.output.format.max_code) for v in exact]
        assert op.eval(sample[None, :])[0].tolist() == expected


def test_bounds_hold_and_begin_at_zero():
    op = softmax(3, FixedPoint(5, 2))
    reach = op.bounds(whole(op))
    y = op.eval(every_sample(op.x.format, 3))
    assert (reach.low == 0).all() and (y <= reach.high).all() and y.max() == reach.high.max()


def test_the_largest_input_has_the_largest_output():
    op = softmax(3, FixedPoint(5, 2), FixedPoint(12, 12, False))
    x = every_sample(op.x.format, 3)
    y = op.eval(x)
    assert (np.take_along_axis(y, x.argmax(axis=1)[:, None], axis=1) == y.max(axis=1, keepdims=True)).all()


def test_mantissas_divide_an_octave():
    sums = FixedPoint(8, 4, signed=False)
    parts = list(mantissas(1, 2, sums))
    assert parts == [(2 + Fraction(n, 2), 2 + Fraction(n, 2) + Fraction(7, 16)) for n in range(4)]
    assert [first == last for first, last in mantissas(0, 4, sums)] == [True] * 16
    assert abs(exponential(Fraction(1)) - Fraction("2.718281828459045235360287471352662497757")) < Fraction(1, 10**38)


def test_the_fast_way_knows_the_largest_input_beforehand():
    fmt = FixedPoint(4, 1)
    op = softmax(2, fmt, stable=False, reach=(-8, 3))
    entry = Input(Tensor("x", (2,), fmt), Modes(Rounding.TRN, Overflow.SAT))
    with pytest.raises(GraphError) as error:
        Graph("g", (entry, op), (op.output,)).verify()
    assert str(error.value) == "y: x reaches 7, beyond the 3 that no x should exceed; raise it"
    low = softmax(2, fmt, stable=False, reach=(-4, 7))
    with pytest.raises(GraphError, match=r"^y: sums may be as small as .*, the reciprocals begin at 2\*\*-8$"):
        Graph("g", (entry, low), (low.output,)).verify()


def change(**fields):
    return replace(softmax(2, FixedPoint(4, 1)), **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"x": Tensor("x", (1, 2), FixedPoint(4, 1)), "output": Tensor("y", (1, 2), FixedPoint(4, 4))},
         "y: takes samples of one axis, got x: fixed<4,3>[1, 2]; flatten it"),
        ({"index": FixedPoint(2, 1, False)},
         "y: (16,) exponentials for places of ufixed<2,1>; give one for each place"),
        ({"reciprocals": Const([[1, 2, 3]], FixedPoint(4, 1))},
         "y: reciprocals have shape (1, 3); give (octaves, a power of two above 1)"),
        ({"reciprocals": Const([[1]], FixedPoint(4, 1))},
         "y: reciprocals have shape (1, 1); give (octaves, a power of two above 1)"),
        ({"modes": Modes()}, "y: a probability of 1 must saturate, got WRAP; use SAT"),
        ({"powers": Const([4, 1], FixedPoint(4, 1))}, "y: powers are [4, 1]; give 2**k for each octave, down to 1"),
        ({"high": Const([1, 2], FixedPoint(4, 1))}, "y: high is Const(fixed<4,3>[2]); give one code of x"),
    ],
)  # fmt: skip
def test_messages(fields, message):
    with pytest.raises(GraphError) as error:
        change(**fields)
    assert str(error.value) == message
