"""An affine map by one power of two behind a sum of products is a shift of its binary point and a bias."""

from __future__ import annotations

from dataclasses import replace

from compress.fixed import MAX_WIDTH, FixedPoint, magnitude
from export.arithmetic import shifted
from export.ir import Const, Graph, Op, Tensor
from export.ops import Affine, Cast, SumOfProducts


def fold_affine(graph: Graph) -> Graph:
    """``cast((Wx + b) * 2**e + c)`` becomes ``cast(2**e W x + (2**e b + c))``: one op and no multiplier less exact."""
    replacement: dict[Tensor, Tensor] = {}
    rewritten: dict[Op, Op] = {}
    for op in graph:
        if not isinstance(op, Affine) or not isinstance(linear := graph.producer(op.x), SumOfProducts):
            continue
        exponent = power_of_two(op.scale)
        if exponent is None or linear.modes is not None or graph.sole_consumer(linear.output) is not op:
            continue
        folded = _folded(linear, exponent, op.offset)
        if folded is None:
            continue
        rewritten[linear] = folded
        rewritten[op] = Cast(op.output, op.x, op.modes)
        replacement[linear.output] = folded.output
    return graph.rebuilt((rewritten.get(op, op) for op in graph), replacement)


def power_of_two(scale: Const) -> int | None:
    """The exponent e if every channel's scale is 2**e."""
    codes = {int(c) for c in scale.codes}
    if len(codes) != 1 or (code := codes.pop()) <= 0 or code & (code - 1):
        return None
    return code.bit_length() - 1 - scale.format.frac


def _folded(linear: SumOfProducts, exponent: int, offset: Const) -> SumOfProducts | None:
    """The layer with its binary point moved by ``exponent`` and ``offset`` added; None beyond 64 bits."""
    bias_frac = linear.bias.format.frac - exponent
    frac = max(bias_frac, offset.format.frac)
    codes = shifted(linear.bias.codes, frac - bias_frac).astype(object) + shifted(
        offset.codes, frac - offset.format.frac
    )
    weight = replace(linear.weight.format, frac=linear.weight.format.frac - exponent)
    moved_frac = linear.output.format.frac - exponent
    acc_frac = max(moved_frac, frac)
    # A roomy bound is enough here: fit_accumulators follows.
    old = linear.output.format
    reach = (max(-old.min_code, old.max_code) << (acc_frac - moved_frac)) + (magnitude(codes) << (acc_frac - frac))
    if reach.bit_length() + 2 > MAX_WIDTH:
        return None
    output = replace(linear.output, format=FixedPoint.covering(-reach, reach, acc_frac))
    return replace(linear, weight=Const(linear.weight.codes, weight), bias=Const.fitting(codes, frac), output=output)
