"""The arithmetic of ``compress.fakequant`` for many replicas at once, each with a grid of its own.

Where that decides in Python's numbers, this looks up and selects in tensors, so that nothing waits for the device. The
roundings are the same, one by one; ``tests/test_compress_ensemble_stages.py`` holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from compress.ensemble.arena import Arena, Block
from compress.fakequant import SMALLEST_RANGE, Grid, range_exponent

#: A range outside of ``2**-MAX_EXPONENT`` to ``2**MAX_EXPONENT`` makes the scale, hence the loss, NaN: a lone training
#: gets a little further, but not to where its numbers mean anything.
MAX_EXPONENT = 95
#: Adding and subtracting 1.5 * 2**23 scales rounds to whole scales, half to even, what is below 2**22 of them.
_ROUNDER = 1.5 * 2.0**23
#: Up to this many bits without the sign stay below, the ends of a grid and the halves beyond them included.
ROUNDER_BITS = 21

_LN2 = 0.6931471805599453
#: The smallest positive float32.
_TINY = 2.0**-149


class ParameterGrids:
    """The quantizers of weights and biases. ``grids[name]``: those of parameter ``name`` of the replicas, in turn.

    They are the first blocks of the arena, named in its order: the ones whose range comes from the largest magnitude,
    then those with a constant binary point.
    """

    def __init__(self, arena: Arena, grids: Mapping[str, Sequence[Grid]]) -> None:
        device, replicas = arena.values.device, len(arena)
        blocks = [arena.blocks[name] for name in grids]
        found = [block for block in blocks if grids[block.name][0].frac is None]
        size, size_found = (some[-1].start + replicas * some[-1].stride if some else 0 for some in (blocks, found))
        self.values, self.quantized = arena.values[:size], torch.zeros(size, device=device)
        self.low, self.high = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self.found = slice(0, size_found)
        self.gradients = arena.gradients[self.found]
        self.magnitude, self.product = (torch.zeros(size_found, device=device) for _ in range(2))
        shape = (len(found), replicas, 1)
        self.absmax, self.gained, self.lost, self.ties = (torch.zeros(shape, device=device) for _ in range(4))
        self.share = torch.zeros(shape, device=device)
        self.finer = torch.tensor(
            [[2.0**-grid.magnitude_bits for grid in grids[block.name]] for block in found], device=device
        ).reshape(shape)
        self.bounds, self.powers, self.inverses = (table.to(device) for table in _range_table())
        scale = torch.zeros(len(blocks), replicas, 1, device=device)
        inverse = torch.zeros_like(scale)
        for k, block in enumerate(blocks):
            for i, grid in enumerate(grids[block.name]):
                block.rows(self.low, replicas)[i], block.rows(self.high, replicas)[i] = grid.limits(torch.float32)
                if grid.frac is not None:
                    scale[k, i], inverse[k, i] = 2.0**-grid.frac, 2.0**grid.frac
        self.scale, self.inverse = scale[: len(found)], inverse[: len(found)]

        def rows(flat: Tensor, some: Sequence[Block]) -> list[Tensor]:
            """Block by block, (replicas, stride): everything in it, its gaps included."""
            return [block.rows(flat, replicas) for block in some]

        self.to_round = list(zip(rows(self.values, blocks), inverse, rows(self.quantized, blocks), strict=True))
        self.to_scale = list(zip(rows(self.quantized, blocks), scale, strict=True))
        magnitudes = rows(self.magnitude, found)
        self.to_measure = list(zip(magnitudes, self.absmax, strict=True))
        self.to_count = list(zip(magnitudes, self.ties, strict=True))
        self.to_share = list(zip(rows(self.gradients, found), magnitudes, self.share, strict=True))
        products = [block.of(self.product, 0, replicas).flatten(1) for block in found]
        self.to_gain, self.to_lose = (list(zip(products, sums, strict=True)) for sums in (self.gained, self.lost))

    def quantize(self) -> None:
        """Make ``quantized`` the nearest values of the grids to the parameters."""
        torch.abs(self.values[self.found], out=self.magnitude)
        for magnitude, absmax in self.to_measure:
            torch.amax(magnitude, 1, True, out=absmax)
        index = torch.bucketize(self.absmax.clamp_min(SMALLEST_RANGE), self.bounds)
        torch.mul(torch.take(self.powers, index), self.finer, out=self.scale)
        torch.div(torch.take(self.inverses, index), self.finer, out=self.inverse)
        for values, inverse, quantized in self.to_round:
            torch.mul(values, inverse, out=quantized)
        self.quantized.round_()
        torch.maximum(self.quantized, self.low, out=self.quantized)
        torch.minimum(self.quantized, self.high, out=self.quantized)
        for quantized, scale in self.to_scale:
            quantized.mul_(scale)

    def backward(self) -> None:
        """Turn the gradients of the quantized parameters, in the arena, into those of the parameters."""
        values = self.values[self.found]
        torch.mul(self.gradients, self.quantized[self.found], out=self.product)
        for product, gained in self.to_gain:
            torch.sum(product, 1, True, out=gained)
        torch.mul(self.gradients, values, out=self.product)
        for product, lost in self.to_lose:
            torch.sum(product, 1, True, out=lost)
        for magnitude, absmax in self.to_measure:
            magnitude.eq_(absmax)  # 1 for the largest
        for magnitude, ties in self.to_count:
            torch.sum(magnitude, 1, True, out=ties)
        of_log2_range = (self.gained - self.lost).mul_(_LN2)
        of_absmax = of_log2_range.div_(self.absmax.clamp_min(SMALLEST_RANGE).mul_(_LN2))
        torch.div(of_absmax, self.ties, out=self.share)
        self.magnitude.copysign_(values)
        for gradient, sign_of_largest, share in self.to_share:
            gradient.addcmul_(sign_of_largest, share)


class ActivationGrids:
    """The quantizers of activations, one layer after the other: ``grids[layer][replica]``, all of a power-of-two scale.

    ``learned`` are the layers' logarithms of their ranges, of one element per replica, or None for a constant binary
    point. The tensors below have the shape (layers, replicas, 1, 1); :meth:`update` computes them.
    """

    def __init__(
        self,
        grids: Sequence[Sequence[Grid]],
        rectify: Sequence[bool],
        learned: Sequence[Tensor | None],
        device: torch.device,
    ) -> None:
        shape = (len(grids), len(grids[0]) if grids else 0, 1, 1)

        def table(rows: Sequence[Sequence[float]]) -> Tensor:
            return torch.tensor(rows, dtype=torch.float32, device=device).reshape(shape)

        self.learned = learned
        self.finer = table([[2.0**-grid.magnitude_bits for grid in row] for row in grids])
        constant = table([[0.0 if g.frac is None else g.magnitude_bits - g.frac for g in row] for row in grids])
        self.ranges = [c.view(-1) if r is None else r.view(-1) for c, r in zip(constant, learned, strict=True)]
        ends = [[_closed_interval(grid) for grid in row] for row in grids]
        self.lowest, self.highest = (table([[end[k] for end in row] for row in ends]) for k in (0, 1))
        # Only positive numbers let a gradient through a ReLU; the smallest of them rounds to zero like all below it.
        self.above = table([[_TINY * flag for _ in row] for row, flag in zip(grids, rectify, strict=True)])
        for layer, flag in enumerate(rectify):
            self.lowest[layer] *= not flag
        self.bounds, self.powers = (part.to(device) for part in _exponent_table())
        self.scale, self.inverse, self.rounder, self.lower, self.upper = (
            torch.empty(shape, device=device) for _ in range(5)
        )
        self.gained, self.lost = torch.zeros(shape[:2], device=device), torch.zeros(shape[:2], device=device)

    def update(self) -> None:
        """Follow the learned ranges."""
        if not self.ranges:
            return
        index = torch.bucketize(torch.stack(self.ranges), self.bounds)
        torch.mul(torch.take(self.powers, index).view(self.scale.shape), self.finer, out=self.scale)
        torch.reciprocal(self.scale, out=self.inverse)
        torch.mul(self.scale, _ROUNDER, out=self.rounder)
        torch.addcmul(self.above, self.scale, self.lowest, out=self.lower)
        torch.mul(self.scale, self.highest, out=self.upper)

    def backward(self, gradients: Sequence[Tensor | None]) -> None:
        """Write the gradients of the learned ranges from what the scales gained and lost."""
        of_ranges = (self.gained - self.lost).mul_(_LN2)
        for gradient, of_range in zip(gradients, of_ranges, strict=True):
            if gradient is not None:
                gradient.view(-1).copy_(of_range)


def _closed_interval(grid: Grid) -> tuple[float, float]:
    """The smallest and the largest float32, in scales, that round to a code of ``grid``.

    A tie at the upper end goes to the even code above it, outside; one at the lower end to the even code inside.
    """
    low, high = torch.tensor([grid.low - 0.5, grid.high + 0.5], dtype=torch.float64).to(torch.float32)
    return low.item(), torch.nextafter(high, low).item()


@lru_cache(maxsize=1)
def _exponent_table() -> tuple[Tensor, Tensor]:
    """``bounds`` and ``powers``: ``powers[bucketize(x, bounds)]`` is ``2**ceil(x)``, NaN where that is out of range."""
    bounds = torch.arange(-MAX_EXPONENT - 1, MAX_EXPONENT + 1, dtype=torch.float32)
    powers = [torch.nan, *(2.0**exponent for exponent in range(-MAX_EXPONENT, MAX_EXPONENT + 1)), torch.nan]
    return bounds, torch.tensor(powers)


@lru_cache(maxsize=1)
def _range_table() -> tuple[Tensor, Tensor, Tensor]:
    """``bounds``, ``powers``, their inverses: ``powers[bucketize(absmax, bounds)]`` is ``2**range_exponent(absmax)``.

    The logarithm of a number just above a power of two may round down to a whole number, so each bound lies a little
    above its power, by as much as torch's logarithm says. Beyond the last one the power is NaN.
    """
    exponents = range(range_exponent(SMALLEST_RANGE, torch.float32), MAX_EXPONENT + 1)
    bounds = [_largest_of(exponent) for exponent in exponents]
    powers = torch.tensor([2.0**exponent for exponent in exponents] + [torch.nan], dtype=torch.float32)
    return torch.tensor(bounds, dtype=torch.float32), powers, powers.reciprocal()


def _largest_of(exponent: int) -> float:
    """The largest float32 whose range exponent this is."""
    steps, beyond = 0, 1 << 14  # in units of the last place above the power of two: 2**14 of 2**23 are 0.002
    while beyond - steps > 1:
        middle = (steps + beyond) // 2
        inside = range_exponent(2.0**exponent * (1 + middle * 2.0**-23), torch.float32) == exponent
        steps, beyond = (middle, beyond) if inside else (steps, middle)
    return 2.0**exponent * (1 + steps * 2.0**-23)
