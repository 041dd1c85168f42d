"""What moves numbers and computes none."""

from __future__ import annotations

import torch
from torch import nn

from export.frontends.torch.lowering import Operand, Site, of_call, of_layer


@of_layer(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
def identity(site: Site, module: nn.Module, x: Operand) -> Operand:
    """Dropout drops nothing in eval mode."""
    return x


@of_layer(nn.Flatten)
def flatten_layer(site: Site, module: nn.Flatten, x: Operand) -> Operand:
    return flatten(site, x, module.start_dim, module.end_dim)


@of_call(torch.flatten, "flatten")
def flatten(site: Site, x: Operand, start_dim: int = 0, end_dim: int = -1) -> Operand:
    if (start_dim, end_dim) != (1, -1):
        raise site.refusal(
            f"flattens axes {start_dim} to {end_dim}; only all axes of a sample, flatten(1), are lowered"
        )
    return site.build.flatten(site.label, x)
