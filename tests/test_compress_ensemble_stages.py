"""The arithmetic for many replicas, stage by stage, against what one network computes: equal where it is hardest."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.ensemble.arena import Arena
from compress.ensemble.grids import MAX_EXPONENT, ActivationGrids, ParameterGrids, _range_table
from compress.ensemble.stages import Activation, CrossEntropy, Memory
from compress.fakequant import SMALLEST_RANGE, Grid, fake_quantize_activation, fake_quantized_linear, range_exponent

CPU = torch.device("cpu")


def bits(tensor: Tensor) -> Tensor:
    """To compare by; -0.0 and +0.0 are the same number."""
    return (tensor + 0.0).contiguous().view(torch.int32)


def test_range_exponents_around_every_power_of_two() -> None:
    bounds, powers, inverses = _range_table()
    least = range_exponent(SMALLEST_RANGE, torch.float32)
    near = [1 + k * 2.0**-23 for k in (-4, -2, -1, 0, 1, 2, 3, 5, 9, 17, 64, 1000)]
    found = torch.tensor([2.0**e * factor for e in range(least, MAX_EXPONENT) for factor in near])
    expected = torch.tensor([2.0 ** range_exponent(value, torch.float32) for value in found.tolist()])
    index = torch.bucketize(found, bounds)
    assert torch.equal(powers[index], expected) and torch.equal(inverses[index], 1 / expected)
    assert (expected != 2.0 ** found.double().log2().ceil()).any(), "no case in which the logarithm is rounded down"
    assert powers[torch.bucketize(torch.tensor([math.nan, math.inf, 2.0**100]), bounds)].isnan().all()


GRIDS = [
    *(Grid(width, signed=False) for width in (1, 2, 3, 6, 12, 21, 22, 23, 24, 32)),
    *(Grid(width, signed=True) for width in (3, 6, 16, 22, 23, 25, 32)),
    Grid(6, signed=True, frac=3),
    Grid(8, signed=False, frac=-2),
]


def ties(grid: Grid, exponent: int) -> Tensor:
    """Numbers at and next to where the rounding, the clip and the gradient change, and some others."""
    scale = 2.0 ** (exponent - grid.magnitude_bits)
    ends = [c + h for c in (grid.low, 0, 1, 2, grid.high - 1, grid.high, grid.high + 1) for h in (-1.0, -0.5, 0.0, 0.5)]
    at = torch.tensor(ends, dtype=torch.float64).mul(scale).to(torch.float32)
    beside = [torch.nextafter(at, torch.tensor(end)) for end in (-math.inf, math.inf)]
    others = torch.randn(64, generator=torch.Generator().manual_seed(grid.width)) * 2.0**exponent
    return torch.cat([at, *beside, others, torch.tensor([0.0, -0.0, 2.0**-149, -(2.0**-149), 1e30, -1e30])])


@pytest.mark.parametrize(("grid", "rectify"), [(g, r) for g in GRIDS for r in (False, True) if not (r and g.signed)])
@pytest.mark.parametrize("log2_range", [-3.5, 0.0, 0.25, 7.0])
def test_activations_and_their_gradients(grid: Grid, log2_range: float, rectify: bool) -> None:
    exponent = math.ceil(log2_range) if grid.frac is None else grid.magnitude_bits - grid.frac
    x = ties(grid, exponent).view(1, -1, 1)
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    learned = None if grid.frac is not None else nn.Parameter(torch.tensor(log2_range))
    alone = x[0].clone().requires_grad_()
    expected = fake_quantize_activation(alone, learned, grid, rectify)
    expected.backward(gradient[0])

    # Beside another replica of another range, which must not matter.
    other = torch.tensor([[log2_range], [log2_range + 1]]) if learned is not None else None
    grids = ActivationGrids([[grid, grid]], [rectify], [other], CPU)
    grids.update()
    both = torch.cat([x, x])
    stage = Activation(Memory(CPU), 0, both, grids, 0, slice(0, 2), grid.magnitude_bits, [])
    stage.forward()
    assert torch.equal(bits(stage.leaving[0]), bits(expected.detach()))
    of_x = stage.backward(torch.cat([gradient, gradient]), True)
    assert of_x is not None and alone.grad is not None
    assert torch.equal(bits(of_x[0]), bits(alone.grad))
    if learned is not None:
        of_range = torch.zeros(2, 1)
        grids.backward([of_range])
        assert learned.grad is not None and torch.equal(bits(of_range[0, 0]), bits(learned.grad))


@pytest.mark.parametrize("absmax", [0.0, 0.7, 1.0, 1.0 + 2.0**-23, 3e-11, 1000.0])
@pytest.mark.parametrize("frac", [None, 4])
@pytest.mark.parametrize("shape", [(5, 3), (16, 8), (1, 1)])
def test_weights_and_their_gradients(shape: tuple[int, int], frac: int | None, absmax: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [(torch.rand(shape, generator=generator) * 2 - 1) * absmax for _ in range(3)]
    for weight in weights:
        weight.view(-1)[0], weight.view(-1)[-1] = absmax, -absmax  # a tie
    row = [Grid(width, signed=True, narrow=frac is None, frac=frac) for width in (4, 8, 32)]
    x = torch.randn(9, shape[1], generator=generator)
    of_y = torch.randn(9, shape[0], generator=generator)
    arena = Arena([{"weight": nn.Parameter(weight.clone())} for weight in weights], ["weight"])
    grids = ParameterGrids(arena, {"weight": row})
    grids.quantize()
    arena.all_of(arena.gradients, "weight").copy_(of_y.t().mm(x))
    grids.backward()
    for i, (weight, grid) in enumerate(zip(weights, row, strict=True)):
        alone = weight.clone().requires_grad_()
        fake_quantized_linear(x, alone, None, grid, None).backward(of_y)
        quantized = fake_quantized_linear(torch.eye(shape[1]), weight, None, grid, None).t()
        assert torch.equal(bits(arena.blocks["weight"].of(grids.quantized, i, i + 1)[0]), bits(quantized))
        assert alone.grad is not None
        assert torch.equal(bits(arena.all_of(arena.gradients, "weight")[i]), bits(alone.grad))


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (7, 3), (128, 5), (33, 17)])
def test_cross_entropy_and_its_gradient(rows: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, rows, classes, generator=generator) * 5
    labels = torch.randint(0, classes, (3, rows), generator=generator)
    loss, losses = CrossEntropy(Memory(CPU), 0, scores, labels), torch.empty(3)
    loss.forward(losses)
    gradient = loss.backward()
    for i in range(3):
        alone = scores[i].clone().requires_grad_()
        expected = F.cross_entropy(alone, labels[i])
        expected.backward()
        assert alone.grad is not None
        assert torch.equal(bits(losses[i]), bits(expected.detach())) and torch.equal(
            bits(gradient[i]), bits(alone.grad)
        )
