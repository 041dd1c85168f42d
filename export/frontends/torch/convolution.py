"""Convolutions over one or two spatial axes, quantized or float."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional as F

from compress.layers import Kind
from export.frontends.torch.linear import in_formats, quantized
from export.frontends.torch.lowering import Operand, Site, of_layer
from export.frontends.torch.movement import rearranged
from export.frontends.value import Value
from export.ops.windows import Sliding, Window


@of_layer(Kind.CONV1D, Kind.CONV2D)
def quantized_convolution(site: Site, module: nn.Module, x: Operand) -> Value:
    return quantized(site, module, *_read(site, module, x))


@of_layer(nn.Conv1d, nn.Conv2d)
def convolution(site: Site, module: nn.Conv1d | nn.Conv2d, x: Operand) -> Value:
    return in_formats(site, module, *_read(site, module, x))


def _read(site: Site, module: Any, x: Operand) -> tuple[Value, Window]:
    """What the windows slide over, and the windows. Padding that is not zero is part of what they slide over."""
    read, axes = site.settled(x), len(module.kernel_size)
    if len(read.tensor.shape) != axes + 1 or read.tensor.shape[0] != module.in_channels:
        raise site.refusal(
            f"convolves {module.in_channels} channels over {axes} spatial {'axis' if axes == 1 else 'axes'}, but reads "
            f"{read.tensor}; reshape it"
        )
    paddings = _paddings(module, read.tensor.shape[1:])
    if module.padding_mode != "zeros":
        backwards = [side for padding in reversed(paddings) for side in padding]
        read = rearranged(site, read, lambda counted: F.pad(counted, backwards, mode=module.padding_mode))
        paddings = [(0, 0)] * axes
    sizes = zip(read.tensor.shape[1:], module.kernel_size, module.stride, module.dilation, paddings, strict=True)
    try:
        return read, Window(tuple(Sliding(n, k, s, d, before, after) for n, k, s, d, (before, after) in sizes))
    except ValueError as error:
        raise site.refusal(f"does not work on {read.tensor}: {error}") from None


def _paddings(module: Any, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Elements before and after each axis."""
    spans = [dilation * (kernel - 1) + 1 for kernel, dilation in zip(module.kernel_size, module.dilation, strict=True)]
    if getattr(module, "is_same_padded_strided", False):  # Brevitas's: as many positions as strides begin in the axis
        starts = [(size - 1) // stride * stride for size, stride in zip(sizes, module.stride, strict=True)]
        totals = [max(start + span - size, 0) for start, span, size in zip(starts, spans, sizes, strict=True)]
    elif module.padding == "same":
        totals = [span - 1 for span in spans]
    elif module.padding == "valid":
        totals = [0] * len(sizes)
    else:
        return [(padding, padding) for padding in module.padding]
    return [(total // 2, total - total // 2) for total in totals]
