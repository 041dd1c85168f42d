"""Layers with weights: one position at a time, all channels of the output at once."""

from __future__ import annotations

from math import prod

import numpy as np

from export.costs.basis import (
    ADDER_LUT,
    MUX_LUT,
    OUTPUT_LUT,
    OpEstimate,
    Target,
    adder_lut,
    block_rams,
    estimate_op,
    levels,
    pipeline_ff,
)
from export.costs.multipliers import Multipliers, by_constants, by_variable
from export.ops import Conv, SparseDense, SumOfProducts
from export.ops.binary import BinaryDense
from export.passes.choose_sparse import index_bits


@estimate_op.register
def _(op: SumOfProducts, target: Target) -> OpEstimate:
    """One position at a time, for all channels of the output."""
    return _by_constants(op, target) if op.reuse_factor == 1 else _from_memory(op, target)


def multipliers_of(op: SumOfProducts, reuse_factor: int) -> Multipliers:
    """At R = 1 those of all weights as constants, else those that so many products share."""
    if reuse_factor == 1:
        groups = np.split(op.matrix, op.groups if isinstance(op, Conv) else 1)
        return sum((by_constants(rows, op.x.format) for rows in groups), Multipliers())
    stored = op.weight.codes.size  # a sparse layer's are those that are not zero
    return by_variable(op.weight.format.width, op.x.format.width).times(-(-stored // reuse_factor))


def _by_constants(op: SumOfProducts, target: Target) -> OpEstimate:
    """Every weight is a constant of its own product, and all are computed at once."""
    matrix, acc = op.matrix, op.output.format.width
    multipliers = multipliers_of(op, 1)
    nonzero = int(np.count_nonzero(matrix))
    terms = np.count_nonzero(matrix, axis=1) + (op.bias.codes != 0)
    sums, shifts = int(np.maximum(terms - 1, 0).sum()), multipliers.shift_adds + multipliers.negations
    if op.product_frac > op.output.format.frac:  # what is cut off of a product must be cut off after its sign is known
        shifts += int(np.any((matrix < 0) & (-matrix & (-matrix - 1) == 0), axis=0).sum())
    depth = target.cycles(int(multipliers.count > 0), levels(int(terms.max())))
    return OpEstimate(
        name=op.name,
        kind=type(op).__name__,
        products=nonzero * prod(op.output.shape[1:]),
        multipliers=multipliers.count,
        in_dsp=multipliers.in_dsp,
        shift_adds=multipliers.shift_adds,
        adders=sums + shifts,
        interval=op.interval,
        latency=op.interval + depth,
        lut=round(
            adder_lut(sums, acc, shifts, op.x.format.width + op.weight.format.width, int((terms > 0).sum()))
            + multipliers.lut
        ),
        ff=round(pipeline_ff(nonzero, acc, depth)),
        dsp=multipliers.dsp,
    )


def _from_memory(op: SumOfProducts, target: Target) -> OpEstimate:
    """R steps, each of which reads its weights, and in a sparse layer their places, as one word of a memory."""
    matrix, acc, reuse, entry = op.matrix, op.output.format.width, op.reuse_factor, op.weight.format.width
    outputs, inputs = matrix.shape
    multipliers, stored = multipliers_of(op, reuse), op.weight.codes.size
    reads = at_once = max(1, inputs // reuse)  # inputs of a step
    sources, sinks = inputs // at_once, max(1, reuse // inputs)  # of which a multiplier reads, and adds to, one each
    if isinstance(op, SparseDense):  # where any multiplier may read and add to any
        reads, at_once, sources, sinks = multipliers.count, multipliers.count, inputs, outputs
        entry += index_bits(inputs) + index_bits(outputs)
    muxes = reads * op.x.format.width * (sources - 1) + multipliers.count * acc * (sinks - 1)
    return OpEstimate(
        name=op.name,
        kind=type(op).__name__,
        reuse_factor=reuse,
        products=int(np.count_nonzero(matrix)) * prod(op.output.shape[1:]),
        multipliers=multipliers.count,
        in_dsp=multipliers.in_dsp,
        adders=multipliers.count,
        memory_bits=entry * stored,
        interval=op.interval,
        latency=op.interval + 1 + target.cycles(1, levels(at_once + 1)),
        lut=round(multipliers.lut + ADDER_LUT * acc * multipliers.count + MUX_LUT * muxes + OUTPUT_LUT * outputs),
        ff=multipliers.count * (entry + op.x.format.width) + outputs * acc,
        dsp=multipliers.dsp,
        bram18=block_rams(entry * multipliers.count, reuse),
    )


@estimate_op.register
def _(op: BinaryDense, target: Target) -> OpEstimate:
    """A product of signs is a wire or an inverter; what is left is counting, and an offset."""
    outputs, inputs = op.weight.shape
    depth = target.cycles(0, levels(inputs + 1))
    return OpEstimate(
        name=op.name,
        kind=type(op).__name__,
        products=inputs * outputs,
        adders=inputs * outputs,
        interval=op.interval,
        latency=op.interval + depth,
        lut=round(adder_lut(inputs * outputs, op.count.width, 0, 0, outputs)),
        ff=outputs * op.output.format.width * (1 + depth),
    )
