"""Pooling layers, and sums, means and largest numbers along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from export.frontends.pooling import averaged, largest
from export.frontends.torch.lowering import Operand, Site, of_call, of_layer
from export.frontends.torch.movement import rearranged, sample_axis
from export.frontends.value import Value
from export.ops.windows import Sliding, Window, adaptive

_OVER_ONE_AXIS = (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d)


@of_layer(nn.MaxPool1d, nn.MaxPool2d)
def max_pool(site: Site, module: nn.MaxPool1d | nn.MaxPool2d, x: Operand) -> Value:
    _refuse_indices(site, module)
    x, sizes = _read(site, module, x)
    options = _each(len(sizes), module.kernel_size, module.stride, module.dilation, module.padding)
    geometry = zip(sizes, *options, strict=True)
    window = Window(tuple(_sliding(site, n, k, s, d, p, module.ceil_mode) for n, k, s, d, p in geometry))
    if not window.counts.all():
        raise site.refusal("has a window whose taps all stand on padding; use less padding, or no dilation")
    return largest(site.build, site.label, x, window)


@of_layer(nn.AvgPool1d, nn.AvgPool2d)
def average_pool(site: Site, module: nn.AvgPool1d | nn.AvgPool2d, x: Operand) -> Value:
    x, sizes = _read(site, module, x)
    kernels, strides, paddings = _each(len(sizes), module.kernel_size, module.stride, module.padding)
    geometry = zip(sizes, kernels, strides, paddings, strict=True)
    axes = [_sliding(site, n, k, s, 1, p, module.ceil_mode) for n, k, s, p in geometry]
    window = Window(tuple(axes))
    if (override := getattr(module, "divisor_override", None)) is not None:
        if override < 1:
            raise site.refusal(f"divides by {override}; use a positive divisor")
        divisors = [int(override)] * prod(window.positions)
    elif module.count_include_pad:
        # Elements that stand behind the padding do not count: only ceil_mode lets windows reach there.
        counted = [
            np.minimum(np.arange(axis.positions) * axis.stride + axis.kernel, axis.size + 2 * padding)
            - np.arange(axis.positions) * axis.stride
            for axis, padding in zip(axes, paddings, strict=True)
        ]
        divisors = [int(n) for n in (counted[0] if len(axes) == 1 else np.outer(*counted)).flat]
    else:
        divisors = [int(n) for n in window.counts.flat]
    return averaged(site.build, site.label, x, window, divisors, site.precision)


@of_layer(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
def adaptive_max_pool(site: Site, module: nn.Module, x: Operand) -> Value:
    _refuse_indices(site, module)
    x, window = _adaptive(site, module, x)
    return largest(site.build, site.label, x, window)


@of_layer(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
def adaptive_average_pool(site: Site, module: nn.Module, x: Operand) -> Value:
    x, window = _adaptive(site, module, x)
    return averaged(site.build, site.label, x, window, [int(n) for n in window.counts.flat], site.precision)


@of_call(torch.mean, "mean")
def mean(site: Site, x: Operand, dim: Any = None, keepdim: bool = False, axis: Any = None) -> Any:
    def pool(x: Value, window: Window) -> Value:
        return averaged(site.build, site.label, x, window, [window.taps], site.precision)

    return _along(site, x, axis if dim is None else dim, keepdim, pool)


@of_call(torch.sum, "sum")
def total(site: Site, x: Operand, dim: Any = None, keepdim: bool = False, axis: Any = None) -> Any:
    def pool(x: Value, window: Window) -> Value:
        return averaged(site.build, site.label, x, window, [1], site.precision)

    return _along(site, x, axis if dim is None else dim, keepdim, pool)


@of_call(torch.amax, "amax")
def largest_along(site: Site, x: Operand, dim: Any = None, keepdim: bool = False, axis: Any = None) -> Any:
    return _along(
        site, x, axis if dim is None else dim, keepdim, lambda x, window: largest(site.build, site.label, x, window)
    )


def _along(site: Site, x: Operand, dim: Any, keepdim: bool, pool: Callable[[Value, Window], Value]) -> Any:
    """One number for each element of the other axes."""
    if dim is None:
        raise site.refusal("takes all samples together; name the axes of a sample: x.mean((2, 3))")
    read = site.settled(x)
    shape = read.tensor.shape
    reduced = sorted({sample_axis(site, read, d) for d in (dim if isinstance(dim, Sequence) else (dim,))})
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    left = [1 if axis in reduced else n for axis, n in enumerate(shape) if keepdim or axis in kept]
    if kept != [0] or len(reduced) > 2:
        order = [0, *(axis + 1 for axis in (*kept, *reduced))]
        rows = prod(shape[axis] for axis in kept)
        read = rearranged(site, read, lambda c: c.permute(order).reshape(len(c), rows, -1))
    made = pool(read, Window(tuple(Sliding(n, n) for n in read.tensor.shape[1:])))
    return rearranged(site, made, lambda c: c.reshape(len(c), *left))


def _read(site: Site, module: nn.Module, x: Operand) -> tuple[Value, tuple[int, ...]]:
    """The value and its spatial axes, as many as the layer pools over."""
    x, axes = site.settled(x), 1 if isinstance(module, _OVER_ONE_AXIS) else 2
    if len(x.tensor.shape) != axes + 1:
        raise site.refusal(
            f"pools channels over {axes} spatial {'axis' if axes == 1 else 'axes'}, but reads {x.tensor}; reshape it"
        )
    return x, x.tensor.shape[1:]


def _adaptive(site: Site, module: Any, x: Operand) -> tuple[Value, Window]:
    x, sizes = _read(site, module, x)
    (wanted,) = _each(len(sizes), module.output_size)
    return x, Window(tuple(adaptive(n, n if to is None else to) for n, to in zip(sizes, wanted, strict=True)))


def _each(axes: int, *given: Any) -> list[tuple[Any, ...]]:
    """An option for each axis, where one may stand for all."""
    return [tuple(value) if isinstance(value, Sequence) else (value,) * axes for value in given]


def _sliding(site: Site, size: int, kernel: int, stride: int, dilation: int, padding: int, ceil: bool) -> Sliding:
    """The windows of torch: with ``ceil`` a last one may reach behind the padding, if it begins before that."""
    span = dilation * (kernel - 1) + 1
    if padding > span // 2:
        raise site.refusal(f"has {padding} elements of padding on a side of windows that span {span}; use at most half")
    last = (size + 2 * padding - span + (stride - 1 if ceil else 0)) // stride * stride  # where it begins
    if ceil and last >= size + padding:
        last -= stride
    try:
        return Sliding(size, kernel, stride, dilation, padding, max(padding, last + span - size - padding))
    except ValueError as error:
        raise site.refusal(f"does not work on {size} elements: {error}") from None


def _refuse_indices(site: Site, module: Any) -> None:
    if module.return_indices:
        raise site.refusal("returns indices too; use return_indices=False")
