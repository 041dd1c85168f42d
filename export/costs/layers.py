"""Layers with weights: one position at a time, all channels of the output at once."""

from __future__ import annotations

from dataclasses import dataclass
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
from export.ops import Convolution, Full, SparseConv, SparseDense, SumOfProducts
from export.ops.binary import BinaryDense
from export.ops.reuse import multipliers_used
from export.passes.choose_sparse import entry_bits


@estimate_op.register
def _(op: SumOfProducts, target: Target) -> OpEstimate:
    """One position at a time, for all channels of the output."""
    return _by_constants(op, target) if op.reuse_factor == 1 else from_memory(op, target, Step.of(op))


def multipliers_of(op: SumOfProducts, reuse_factor: int) -> Multipliers:
    """At R = 1 those of all weights as constants, else those that so many products share."""
    if reuse_factor == 1:
        groups = np.split(op.matrix, op.groups if isinstance(op, Convolution) else 1)
        return sum((by_constants(rows, op.x.format) for rows in groups), Multipliers())
    if isinstance(op, Full):
        count = len(multipliers_used(op.matrix, reuse_factor))
    else:
        count = -(-op.weight.codes.size // reuse_factor)  # the weights of a sparse layer are those that are not zero
    return shared(op, count)


def shared(op: SumOfProducts, count: int) -> Multipliers:
    """So many products at a time of weights that come from a memory: none multiplies by weights of one digit."""
    if op.digit:
        return Multipliers()
    return by_variable(op.weight.format.width, op.x.format.width).times(count)


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


@dataclass(frozen=True)
class Step:
    """What a step of shared multipliers takes."""

    multipliers: int
    entry: int  # bits that each of them takes from the memory
    reads: int  # elements of x
    sources: int  # among so many each of them is chosen
    sinks: int  # accumulators that a multiplier adds to
    depth: int  # adders in a row
    accumulators: int

    @classmethod
    def of(cls, op: SumOfProducts) -> Step:
        """Where all inputs are at hand."""
        (outputs, inputs), reuse, bits = op.matrix.shape, op.reuse_factor, op.weight_bits
        groups = op.groups if isinstance(op, Convolution) else 1
        if isinstance(op, SparseConv | SparseDense):  # any multiplier may read and add to any
            multipliers = -(-op.weight.codes.size // reuse)
            depth = -(-multipliers // op.side_by_side)
            return cls(multipliers, entry_bits(op), multipliers, groups * inputs, outputs, depth, outputs)
        # Of the inputs of a step those that a multiplier reads; the accumulators are those of the outputs of a step.
        whole = max(1, inputs // reuse)
        at_once = op.matrix.size // reuse // whole
        read, added = np.divmod(multipliers_used(op.matrix, reuse), at_once)
        reads = len(np.unique(read * groups + added * groups // outputs))
        depth = levels(int(np.bincount(added).max()) + 1)
        return cls(len(added), bits, reads, inputs // whole, 1, depth, at_once)


def from_memory(op: SumOfProducts, target: Target, step: Step) -> OpEstimate:
    """R steps, each of which reads its weights, and in a sparse layer their places, as one word of a memory."""
    acc, reuse, outputs = op.output.format.width, op.reuse_factor, len(op.matrix)
    x, count = op.x.format.width, step.multipliers
    multipliers = shared(op, count)
    muxes = step.reads * x * (step.sources - 1) + count * acc * (step.sinks - 1)
    return OpEstimate(
        name=op.name,
        kind=type(op).__name__,
        reuse_factor=reuse,
        products=int(np.count_nonzero(op.matrix)) * prod(op.output.shape[1:]),
        multipliers=multipliers.count,
        in_dsp=multipliers.in_dsp,
        adders=count,
        memory_bits=step.entry * count * reuse,
        interval=op.interval,
        latency=op.interval + 1 + target.cycles(1, step.depth),
        lut=round(multipliers.lut + ADDER_LUT * acc * count + MUX_LUT * muxes + OUTPUT_LUT * outputs),
        ff=count * (step.entry + x) + step.accumulators * acc,
        dsp=multipliers.dsp,
        bram18=block_rams(step.entry * count, reuse),
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
