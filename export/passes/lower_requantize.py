"""Put proven integer ops in the place of every rational requantization.

For each Requantize, in order of preference:

1. *threshold*: a comparison per step, which always is exact, where the steps are as few as those of a sign or of a
   ternary number and a multiplier would be needed;
2. *affine*: one multiplier and one offset per channel, the smallest common shift that is exact on every reachable code
   (:mod:`export.staircase`);
3. *dyadic*: the constants themselves, where they are finite binary fractions and fit;
4. *threshold* again, with any number of steps within the limits;
5. *affine* again, with multipliers that no one would choose.

Where each channel has a format of its own, an affine map keeps all its bits, and a cast by channel follows it.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from compress.fixed import FixedPoint, Overflow, Rounding
from export.arithmetic import binary_places, codes_of
from export.ir import Const, Graph, Op, Tensor
from export.ops import Affine, ChannelCast, Modes, Requantize, Threshold
from export.passes.fold_affine import power_of_two
from export.staircase import Multiplier, Staircase, smallest_multiplier, staircase

_SATURATING = (Overflow.SAT, Overflow.SAT_SYM)

#: Constants of more bits than this are not worth a multiplier where comparisons can be taken instead.
MAX_MULTIPLIER_WIDTH = 32

#: Where there are too many steps to compare, constants may be this wide.
MAX_DESPERATE_WIDTH = 48

#: So many comparisons are less than a multiplier.
FEW_THRESHOLDS = 3

#: Comparisons per channel beyond which a threshold op would not be hardware any more.
MAX_THRESHOLDS = 1 << 12


def lower_requantize(graph: Graph) -> Graph:
    """Raises GraphError, naming the op, where no exact integer op within the limits exists."""
    notes: list[str] = []
    ops: list[Op] = []
    for op in graph:
        if isinstance(op, Requantize):
            made, note = lowered(op, graph)
            ops += made
            notes.append(note)
        else:
            ops.append(op)
    return replace(graph, ops=tuple(ops), notes=(*graph.notes, *notes))


def lowered(op: Requantize, graph: Graph) -> tuple[tuple[Op, ...], str]:
    """The integer ops equal to ``op`` on everything reachable, and a sentence for the report."""
    stairs = staircases(op, graph)
    steps = [len(s.thresholds) for s in stairs or ()]
    comparable = stairs is not None and max(steps) <= MAX_THRESHOLDS and sticks_to_range(op, stairs)
    exact, searched = dyadic(op), affine(op, stairs) if stairs else None
    best = min((a for a in (exact, searched) if a), key=lambda a: a.scale.format.width, default=None)
    few = comparable and op.formats is None and 1 <= max(steps) <= FEW_THRESHOLDS
    if best and few and power_of_two(best.scale) is None:
        best = None
    if best and (best.scale.format.width <= MAX_MULTIPLIER_WIDTH or not comparable):
        width = best.scale.format.width
        made = (best,) if op.formats is None else by_channel(op, best, graph)
        if best is exact:
            return made, f"{op.name}: exact constants of {width} bits, nothing to prove"
        return made, (
            f"{op.name}: multipliers of {width} bits, proved equal to the rational map "
            f"at all {sum(steps)} steps of {len(steps)} channels"
        )
    if stairs and comparable:
        return (threshold(op, stairs),), f"{op.name}: {sum(steps)} comparisons, exact by construction"
    raise op.fail(
        f"no exact multiplier of up to {MAX_DESPERATE_WIDTH} bits exists, and comparisons need at most "
        f"{MAX_THRESHOLDS} steps that stay within {op.output.format}; use a power-of-two scale or a narrower, "
        "saturating activation"
    )


def staircases(op: Requantize, graph: Graph) -> list[Staircase] | None:
    """One per channel, in codes of its own format; None where there are too many steps to look at."""
    reach, overflow = graph.bounds[op.x], op.modes.overflow
    found = []
    for channel in range(len(op.scale)):
        ends = int(np.min(reach.low[channel])), int(np.max(reach.high[channel]))
        target = op.target(channel)
        clip = (0, 0) if target is None else target.ends(overflow) if overflow in _SATURATING else None
        stairs = staircase(*op.ratio(channel), op.modes.rounding, ends, clip)
        if stairs is None:
            return None
        found.append(stairs)
    return found


def affine(op: Requantize, stairs: list[Staircase]) -> Affine | None:
    """The searched constants at their smallest common shift, or None beyond the limits."""
    found: list[Multiplier] = []
    for channel in stairs:
        multiplier = smallest_multiplier(channel, MAX_DESPERATE_WIDTH + op.x.format.width)
        if multiplier is None:
            return None
        found.append(multiplier)
    fracs = [_frac(op, channel) for channel in range(len(found))]
    frac = max(m.shift + f for m, f in zip(found, fracs, strict=True))
    found = [m.at_shift(frac - f) for m, f in zip(found, fracs, strict=True)]
    scale = np.array([m.factor for m in found], dtype=object)
    offset = np.array([m.offset for m in found], dtype=object)
    return _affine(op, scale, frac - op.x.format.frac, offset, frac, replace(op.modes, rounding=Rounding.TRN))


def dyadic(op: Requantize) -> Affine | None:
    """The constants as they are, if they are binary fractions of few enough bits."""
    scale_frac, offset_frac = (_fewest_places(values) for values in (op.scale, op.offset))
    if scale_frac is None or offset_frac is None:
        return None
    scale, offset = codes_of(op.scale, scale_frac), codes_of(op.offset, offset_frac)
    return _affine(op, scale, scale_frac, offset, offset_frac, op.modes)


def by_channel(op: Requantize, rounded: Affine, graph: Graph) -> tuple[Affine, ChannelCast]:
    """``rounded`` without its rounding, and the cast of each channel that rounds instead, in the same modes."""
    assert op.formats is not None
    exact = rounded.exact_sums(graph.bounds[op.x]).format(rounded.exact_frac)
    names = {each.name for each in graph}
    name = next(n for n in (f"{op.name}.exact{'_' * k}" for k in range(len(names) + 1)) if n not in names)
    middle = Tensor(name, op.output.shape, exact)
    return replace(rounded, output=middle, modes=Modes()), ChannelCast(op.output, middle, op.formats, rounded.modes)


def threshold(op: Requantize, stairs: list[Staircase]) -> Threshold:
    """``x >= level`` counted per channel; a falling staircase counts down from its value at the lowest code."""
    count = max(len(s.thresholds) for s in stairs)
    never = max(1, *(1 + (-s.low if s.falling else s.high) for s in stairs))
    level = np.full((len(stairs), max(count, 1)), never, dtype=object)
    start, step = [], []
    for channel, s in enumerate(stairs):
        unit = 1 << (op.output.format.frac - _frac(op, channel))  # of the channel, in codes of the output
        # -code >= t  <=>  not (code >= 1 - t)
        passed = 1 - s.thresholds[::-1] if s.falling else s.thresholds
        level[channel, : len(passed)] = passed
        start.append((s.last if s.falling else s.first) * unit)
        step.append(-unit if s.falling else unit)
    x, y = op.x.format, op.output.format
    levels = FixedPoint.covering(min(int(level.min()), -1 if x.signed else 0), int(level.max()), x.frac)
    return Threshold(
        op.output, op.x, Const(level, levels), Const(np.array(start, dtype=object), y), Const.fitting(step, y.frac)
    )


def sticks_to_range(op: Requantize, stairs: list[Staircase]) -> bool:
    """Whether every step is a code of the output, so that counting needs no overflow mode."""
    targets = (op.target(channel) for channel in range(len(stairs)))
    return all(
        fmt is None or (fmt.min_code <= s.first and s.last <= fmt.max_code)
        for fmt, s in zip(targets, stairs, strict=True)
    )


def _frac(op: Requantize, channel: int) -> int:
    """Fraction bits of a channel; those of one that is always zero do not matter."""
    target = op.target(channel)
    return op.output.format.frac if target is None else target.frac


def _affine(
    op: Requantize, scale: np.ndarray, scale_frac: int, offset: np.ndarray, offset_frac: int, modes: Modes
) -> Affine | None:
    try:
        scales, offsets = Const.fitting(scale, scale_frac), Const.fitting(offset, offset_frac)
        if scales.format.width > MAX_DESPERATE_WIDTH:
            return None
        return Affine(op.output, op.x, scales, offsets, modes)
    except ValueError:  # wider than 64 bits: not a candidate
        return None


def _fewest_places(values: tuple[Fraction, ...]) -> int | None:
    """As :func:`binary_places`, and below zero for integers that all end in zero bits."""
    places = binary_places(values)
    if places != 0:
        return places
    common = 0
    for v in values:
        common |= v.numerator
    return -((common & -common).bit_length() - 1) if common else 0
