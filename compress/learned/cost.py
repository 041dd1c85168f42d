"""The hardware cost that widths are trained under: EBOPs, with a gradient for every width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.learned.layers import LearnedActivation, LearnedLinear
from compress.learned.surrogate import bits, width


def surrogate_ebops(model: nn.Sequential) -> Tensor:
    """The effective bit operations of a forward pass as the widths stand, to be added to a loss times a price.

    Its value is the sum over multiplications of (bits of the weight's code) x (bits of the activation), plus the bits
    of the biases, signs not counted. Trailing zeros of a code are counted, which the exact count of
    :func:`compress.ebops.ebops` leaves out, so this is an upper bound of it. A bit more of a fraction is a bit more of
    a weight that is not zero, and an activation that has bits: that is the gradient. To weights there is none.
    """
    total = torch.zeros(())
    for activation, linear in zip(*[iter(chain_of(model))] * 2, strict=True):
        assert isinstance(activation, LearnedActivation) and isinstance(linear, LearnedLinear)
        weight = _priced_bits(linear.weight, linear.weight_frac)
        total = total.to(weight) + (weight * _priced_width(activation)).sum()
        total = total + _priced_bits(linear.bias, linear.bias_frac).sum()
    return total


def chain_of(model: nn.Sequential) -> list[LearnedActivation | LearnedLinear]:
    """The layers of a model that ``learn_precision`` made. Raises ``ValueError`` naming the first that is not one."""
    modules = list(model.named_children())
    for number, (name, module) in enumerate(modules):
        expected = LearnedLinear if number % 2 else LearnedActivation
        if not isinstance(module, expected):
            raise ValueError(
                f"{name}: a {expected.__name__} is needed here, got a {type(module).__name__}; use learn_precision"
            )
    if not modules or len(modules) % 2:
        raise ValueError("a network with learned widths ends in a LearnedLinear; make it with learn_precision")
    return [module for _, module in modules if isinstance(module, (LearnedActivation, LearnedLinear))]


def _priced_bits(parameter: Tensor, frac: Tensor) -> Tensor:
    """The bits of every code, and the gradient 1 by ``frac`` where there are any."""
    with torch.no_grad():
        known = bits((parameter * torch.exp2(frac.round())).round())
    return known + (known > 0) * (frac - frac.detach())


def _priced_width(activation: LearnedActivation) -> Tensor:
    frac, integer = activation.frac, activation.integer
    known = width(frac.detach(), integer.detach())
    return known + (known > 0) * (frac + integer - (frac + integer).detach())
