"""Brevitas's quantizers as the layers want them: injectors made from a QuantSpec, whose state loads in place."""

from __future__ import annotations

from typing import Any

from brevitas.core.function_wrapper import CeilSte, TensorClamp, TensorClampSte
from brevitas.inject.enum import QuantType, RestrictValueType, ScalingImplType, ScalingPerOutputType, StatsOp
from brevitas.proxy import ActQuantProxyFromInjector, BiasQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.quant.fixed_point import (
    Int8ActPerTensorFixedPointMinMaxInit,
    Int8BiasPerTensorFixedPointInternalScaling,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPointMaxInit,
)
from torch import Tensor, nn

from compress.fakequant import FLOAT32_BITS, SMALLEST_RANGE, Grid
from compress.spec import QuantSpec, Range, Scale


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


def weight_quantizer(spec: QuantSpec) -> Any:
    """A Brevitas injector for the weights of ``spec``. A learned range starts at 1."""
    grid, found = spec.weight_grid, spec.range_of_weights
    changes = _common(grid, WeightProxy, TensorClamp if found is Range.LEARNED else TensorClampSte)
    changes |= _scale(spec.weight_scale)
    if spec.weight_per_channel:
        changes["scaling_per_output_type"] = ScalingPerOutputType.CHANNEL
    match found:
        case None:
            changes |= _constant(grid)
        case Range.LEARNED:
            changes |= {"scaling_impl_type": ScalingImplType.PARAMETER, "scaling_const": 1.0}
        case Range.AVERAGE:
            changes["scaling_stats_op"] = StatsOp.AVE
    return Int8WeightPerTensorFixedPoint.let(**changes)


def bias_quantizer(grid: Grid) -> Any:
    """A Brevitas injector for biases on ``grid``, with a power-of-two scale of their own."""
    changes = _common(grid, BiasProxy, TensorClampSte)
    return Int8BiasPerTensorFixedPointInternalScaling.let(**changes, **({} if grid.frac is None else _constant(grid)))


def activation_quantizer(grid: Grid, scale: Scale) -> Any:
    """A Brevitas injector for activations on ``grid``: a learned range that starts at 1, or a constant one."""
    limit = 1.0 if grid.frac is None else _limit(grid)
    changes = _common(grid, ActivationProxy, TensorClamp) | _scale(scale) | {"max_val": limit}
    if grid.signed:
        changes["min_val"] = -limit
    if grid.frac is not None:
        changes["scaling_impl_type"] = ScalingImplType.CONST
    base = Int8ActPerTensorFixedPointMinMaxInit if grid.signed else Uint8ActPerTensorFixedPointMaxInit
    return base.let(**changes)


def _common(grid: Grid, proxy: type, clamp: type) -> dict[str, Any]:
    changes: dict[str, Any] = {"proxy_class": proxy, "bit_width": grid.width, "narrow_range": grid.narrow}
    if grid.binary:
        changes["quant_type"] = QuantType.BINARY
    if grid.width > FLOAT32_BITS:
        changes |= {"tensor_clamp_impl": _InwardClamp, "clamp_impl": clamp}
    return changes


def _scale(scale: Scale) -> dict[str, Any]:
    if scale is Scale.POWER_OF_TWO:
        return {
            "restrict_scaling_type": RestrictValueType.POWER_OF_TWO,
            "restrict_value_float_to_int_impl": CeilSte,
        }
    return {"restrict_scaling_type": RestrictValueType.FP, "scaling_min_val": SMALLEST_RANGE}


def _constant(grid: Grid) -> dict[str, Any]:
    return {"scaling_impl_type": ScalingImplType.CONST, "scaling_const": _limit(grid)}


def _limit(grid: Grid) -> float:
    """The end of a constant range."""
    assert grid.frac is not None, "only a constant binary point has one"
    return 2.0 ** (grid.magnitude_bits - grid.frac)
