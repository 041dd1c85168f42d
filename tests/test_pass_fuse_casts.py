from __future__ import annotations

from fractions import Fraction

import pytest
from equality import RND_SAT, TRN_WRAP, chain, entry, kinds, on_random_graphs, same_bits

from compress.fixed import FixedPoint, Overflow, Rounding
from export.ir import Tensor
from export.ops import Cast, ChannelCast, Modes, ReLU, Requantize
from export.ops.casts import covering
from export.passes.fuse_casts import fuse_casts

X = FixedPoint(6, 2)
SAT = Modes(Rounding.TRN, Overflow.SAT)


def t(name, fmt):
    return Tensor(name, (3,), fmt)


def cast(name, x, fmt, modes=TRN_WRAP):
    return Cast(t(name, fmt), x.output, modes)


def relu(x, name="r"):
    return ReLU(t(name, ReLU.positive(x.output.format)), x.output)


def requantize(x, fmt, modes=RND_SAT, scale=Fraction(1, 3), offset=Fraction(0)):
    return Requantize(t("q", fmt), x.output, (scale,) * 3, (offset,) * 3, modes)


def test_on_random_graphs():
    on_random_graphs(fuse_casts)


def test_nothing_is_left_to_fuse():
    for _, result in on_random_graphs(fuse_casts, 60):
        assert fuse_casts(result).ops == result.ops


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("overflow", Overflow)
def test_a_relu_before_an_unsigned_cast(rounding, overflow):
    x = entry(X)
    r = relu(x)
    graph = chain(x, r, cast("y", r, FixedPoint(3, 1, False), Modes(rounding, overflow)))
    result = fuse_casts(graph)
    same_bits(graph, result)
    saturates = overflow in (Overflow.SAT, Overflow.SAT_SYM)
    assert kinds(result) == (["Input", "Cast"] if saturates else ["Input", "ReLU", "Cast"])


@pytest.mark.parametrize("signed", [False, True])
def test_a_relu_before_a_cast_by_channel(signed):
    formats = (FixedPoint(3, 1, signed), None, FixedPoint(2, 2, signed))
    x = entry(X)
    r = relu(x)
    wide = cast("c", r, FixedPoint(9, 3))
    graph = chain(x, r, wide, ChannelCast(t("y", covering(formats)), wide.output, formats, SAT))
    result = fuse_casts(graph)
    same_bits(graph, result)
    assert kinds(result) == (["Input", "ReLU", "ChannelCast"] if signed else ["Input", "ChannelCast"])


def test_a_relu_before_a_signed_cast_stays():
    x = entry(X)
    r = relu(x)
    assert kinds(fuse_casts(chain(x, r, cast("y", r, FixedPoint(3, 1), SAT)))) == ["Input", "ReLU", "Cast"]


@pytest.mark.parametrize(
    ("scale", "offset", "fuses"),
    [(1, 0, True), (1, -1, True), (0, 0, True), (1, 1, False), (-1, 0, False), (0, 1, False)],
)
def test_a_relu_before_a_requantization_must_rise_from_nothing(scale, offset, fuses):
    x = entry(X)
    r = relu(x)
    graph = chain(x, r, requantize(r, FixedPoint(3, 1, False), scale=Fraction(scale, 3), offset=Fraction(offset)))
    result = fuse_casts(graph)
    same_bits(graph, result)
    assert ("ReLU" not in kinds(result)) == fuses


def test_a_relu_that_leaves_or_has_two_readers_stays():
    x = entry(X)
    r = relu(x)
    y, z = (cast(name, r, FixedPoint(3, 1, False), SAT) for name in "yz")
    for graph in (chain(x, r, y, outputs=(r.output, y.output)), chain(x, r, y, z, outputs=(y.output, z.output))):
        result = fuse_casts(graph)
        same_bits(graph, result)
        assert "ReLU" in kinds(result)


def test_a_lossless_cast_does_not_lose_the_clipping_that_a_dropped_relu_left_to_it():
    """relu -> unsigned saturating cast that is lossless after the relu -> signed cast: only one of the two may go."""
    x = entry(X)
    r = relu(x)
    a = cast("a", r, FixedPoint(7, 3, False), SAT)
    graph = chain(x, r, a, cast("b", a, FixedPoint(12, 5)))
    result = fuse_casts(graph)
    same_bits(graph, result)
    assert len(result.ops) == 3


@pytest.mark.parametrize("overflow", Overflow)
def test_a_cast_to_its_own_format_goes_unless_it_is_symmetric(overflow):
    x = entry(X)
    same = cast("a", x, X, Modes(Rounding.RND, overflow))
    graph = chain(x, same, relu(same))
    result = fuse_casts(graph)
    same_bits(graph, result)
    assert ("Cast" in kinds(result)) == (overflow is Overflow.SAT_SYM)  # -32 becomes -31


def test_a_symmetric_cast_of_symmetric_codes_goes():
    x = entry(X)
    symmetric = Modes(Rounding.RND, Overflow.SAT_SYM)
    a = cast("a", x, X, symmetric)
    b = cast("b", a, X, symmetric)
    graph = chain(x, a, b, relu(b))
    result = fuse_casts(graph)
    same_bits(graph, result)
    assert kinds(result) == ["Input", "Cast", "ReLU"]


def test_a_cast_that_is_the_output_keeps_its_name():
    x = entry(X)
    graph = chain(x, cast("y", x, X))
    assert fuse_casts(graph).ops == graph.ops


@pytest.mark.parametrize("rounding", Rounding)
def test_of_two_casts_a_lossless_first_goes_and_a_lossy_one_stays(rounding):
    x = entry(X)
    second = Modes(rounding, Overflow.SAT)
    lossless, lossy = cast("a", x, FixedPoint(9, 4)), cast("a", x, FixedPoint(6, 1), Modes(rounding, Overflow.SAT))
    for first, left in ((lossless, 2), (lossy, 3)):
        graph = chain(x, first, cast("y", first, FixedPoint(4, 0), second))
        result = fuse_casts(graph)
        same_bits(graph, result)
        assert len(result.ops) == left


def test_a_lossless_cast_before_anything_but_a_cast_stays():
    x = entry(X)
    wide = cast("a", x, FixedPoint(9, 4))
    assert kinds(fuse_casts(chain(x, wide, relu(wide)))) == ["Input", "Cast", "ReLU"]


def test_a_whole_chain_of_idle_ops():
    x = entry(X)
    a = cast("a", x, FixedPoint(9, 4))
    b = cast("b", a, FixedPoint(9, 4))
    c = cast("c", b, FixedPoint(10, 4))
    r = relu(c)
    d = cast("d", r, FixedPoint(9, 4, False), SAT)
    graph = chain(x, a, b, c, r, d, cast("y", d, FixedPoint(5, 1, False), SAT))
    result = fuse_casts(graph)
    same_bits(graph, result)
    assert len(result.ops) <= 3
