from __future__ import annotations

import numpy as np
import pytest
import reference
from reference import MODES

from compress.fixed import FixedPoint, Overflow, Rounding
from export.ir import GraphError, Tensor
from export.ops import Input, Modes

FMT = FixedPoint(4, 2)


def entry(fmt=FMT, shape=(3,), **kw):
    return Input(Tensor("x", shape, fmt), **kw)


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_encode_is_the_stated_cast(rounding, overflow):
    op = entry(shape=(1,), modes=Modes(rounding, overflow))
    reals = np.linspace(-5, 5, 161)[:, None]  # ties included: 1/16 steps, codes of 1/4
    exact = np.array([reference.Fraction(float(r)) for r in reals.flat], dtype=object)
    assert op.encode(reals)[:, 0].tolist() == reference.casts(exact, FMT, rounding, overflow).tolist()


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("fmt", [FMT, FixedPoint(4, 0, False), FixedPoint(1, 0), FixedPoint(1, 0, False)], ids=str)
def test_bounds_are_exactly_what_encode_can_make(fmt, overflow):
    op = entry(fmt, (1,), modes=Modes(Rounding.RND_CONV, overflow))
    made = op.encode(np.linspace(-40, 40, 2001)[:, None])
    assert op.bounds().range == (made.min(), made.max())


def test_eval_is_the_identity_on_its_bounds():
    op = entry(shape=(2, 2))
    x = np.arange(-8, 8).reshape(4, 2, 2)
    assert (op.eval(x) == x).all()
    assert op.eval(np.zeros((0, 2, 2), dtype=np.int64)).shape == (0, 2, 2)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: entry().eval(np.zeros((2, 4))), "x: expects samples of shape (3,), got codes of shape (2, 4)"),
        (lambda: entry().encode(np.zeros((2, 4))), "x: expects samples of shape (3,), got an array of shape (2, 4)"),
        (
            lambda: entry().eval(np.array([[0, 8, -9]])),
            "x: codes from -9 to 8 do not fit fixed<4,2> (-8 to 7); encode() the values",
        ),
        (  # a symmetric input never is -8, and everything downstream relies on it
            lambda: entry(modes=Modes(Rounding.RND, Overflow.SAT_SYM)).eval(np.array([[0, 7, -8]])),
            "x: codes from -8 to 7 do not fit fixed<4,2> (-7 to 7); encode() the values",
        ),
    ],
)
def test_messages(act, message):
    with pytest.raises(GraphError) as error:
        act()
    assert str(error.value) == message
