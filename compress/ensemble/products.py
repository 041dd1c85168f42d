"""Matrix products of many replicas, batched where that gives the very bits of each product alone."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

#: Sizes and strides of a tensor.
_Layout = tuple[tuple[int, ...], tuple[int, ...]]


class Product:
    """``out[i] = left[i] @ right[i] (+ bias[i])`` for tensors that stay where they are; a bias is a row, (i, 1, n)."""

    def __init__(self, left: Tensor, right: Tensor, out: Tensor, bias: Tensor | None = None) -> None:
        self.left, self.right, self.out, self.bias = left, right, out, bias
        layouts = tuple(_layout(tensor) for tensor in (left, right, out))
        # A graphics card's libraries choose for themselves how to sum; there, speed decides.
        self.batched = out.is_cuda or (len(out) > 1 and _batches_exactly(layouts, bias is not None))
        rows = bias.unbind() if bias is not None else [None] * len(out)
        self.each = list(zip(left.unbind(), right.unbind(), out.unbind(), rows, strict=True))

    def __call__(self) -> None:
        if not self.batched:
            for left, right, out, bias in self.each:
                _multiply(left, right, out, bias)
        elif self.bias is None:
            torch.bmm(self.left, self.right, out=self.out)
        else:
            torch.baddbmm(self.bias, self.left, self.right, out=self.out)


def _multiply(left: Tensor, right: Tensor, out: Tensor, bias: Tensor | None) -> None:
    if bias is None:
        torch.mm(left, right, out=out)
    else:
        torch.addmm(bias[0], left, right, out=out)


def _layout(tensor: Tensor) -> _Layout:
    return tuple(tensor.shape), tensor.stride()


@lru_cache(maxsize=256)
def _batches_exactly(layouts: tuple[_Layout, ...], with_bias: bool) -> bool:
    """Whether a batched product of tensors laid out like this equals the single ones, bit for bit.

    How the library sums, and so how it rounds, depends on shapes and strides but not on the numbers, so that one random
    example tells.
    """
    generator = torch.Generator().manual_seed(0)
    left, right, out = (
        torch.empty_strided(*layout).copy_(torch.randn(layout[0], generator=generator)) for layout in layouts
    )
    bias = torch.randn(len(out), 1, out.shape[2], generator=generator) if with_bias else None
    if bias is None:
        torch.bmm(left, right, out=out)
    else:
        torch.baddbmm(bias, left, right, out=out)
    for i in range(len(out)):
        # Copies, as the tensors of a lone network: they begin where torch's allocator begins.
        alone = [
            torch.empty_strided(tensor.shape[1:], tensor.stride()[1:]).copy_(tensor[i]) for tensor in (left, right)
        ]
        single = torch.empty(out.shape[1:])
        _multiply(*alone, single, None if bias is None else bias[i].clone())  # type: ignore[call-arg]
        if not torch.equal(out[i].view(torch.int32), single.view(torch.int32)):
            return False
    return True
