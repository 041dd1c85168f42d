"""Brevitas's quantizers as the layers want them: fixed-point injectors whose state loads in place."""

from __future__ import annotations

from typing import Any

from brevitas.core.function_wrapper import TensorClamp, TensorClampSte
from brevitas.inject.enum import ScalingImplType
from brevitas.proxy import ActQuantProxyFromInjector, BiasQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.quant.fixed_point import (
    Int8ActPerTensorFixedPointMinMaxInit,
    Uint8ActPerTensorFixedPointMaxInit,
)
from torch import Tensor, nn

from compress.fakequant import FLOAT32_BITS, Grid


class _LoadsInPlace:
    """Brevitas rebuilds a quantizer on load_state_dict: with new parameters, in float32, unknown to the optimiser."""

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)  # type: ignore[arg-type]


class WeightProxy(_LoadsInPlace, WeightQuantProxyFromInjector):
    pass


class BiasProxy(_LoadsInPlace, BiasQuantProxyFromInjector):
    pass


class ActivationProxy(_LoadsInPlace, ActQuantProxyFromInjector):
    pass


class _InwardClamp(nn.Module):
    """Clips to the outermost codes that the float type holds; Brevitas's own bounds round up to a code too many."""

    def __init__(self, bit_width: int, signed: bool, narrow_range: bool, clamp_impl: nn.Module) -> None:
        super().__init__()
        self.grid = Grid(bit_width, signed, narrow_range)
        self.clamp = clamp_impl

    def forward(self, x: Tensor, min_val: Tensor, max_val: Tensor) -> Tensor:
        low, high = self.grid.limits(x.dtype)
        clamped: Tensor = self.clamp(x, x.new_tensor(low), x.new_tensor(high))
        return clamped


def parameter_quantizer(base: Any, proxy: type, grid: Grid) -> Any:
    """A Brevitas injector for weights or biases on ``grid``."""
    changes: dict[str, Any] = {"proxy_class": proxy, "bit_width": grid.width, "narrow_range": grid.narrow}
    if grid.frac is not None:
        changes["scaling_impl_type"] = ScalingImplType.CONST
        changes["scaling_const"] = 2.0 ** (grid.magnitude_bits - grid.frac)
    if grid.width > FLOAT32_BITS:
        changes |= {"tensor_clamp_impl": _InwardClamp, "clamp_impl": TensorClampSte}
    return base.let(**changes)


def activation_quantizer(grid: Grid) -> Any:
    """A Brevitas injector for activations on ``grid``: a learned range that starts at 1, or a constant one."""
    limit = 1.0 if grid.frac is None else 2.0 ** (grid.magnitude_bits - grid.frac)
    changes: dict[str, Any] = {"proxy_class": ActivationProxy, "bit_width": grid.width, "max_val": limit}
    if grid.signed:
        changes["min_val"] = -limit
    if grid.frac is not None:
        changes["scaling_impl_type"] = ScalingImplType.CONST
    if grid.width > FLOAT32_BITS:
        changes |= {"tensor_clamp_impl": _InwardClamp, "clamp_impl": TensorClamp}
    base = Int8ActPerTensorFixedPointMinMaxInit if grid.signed else Uint8ActPerTensorFixedPointMaxInit
    return base.let(**changes)
