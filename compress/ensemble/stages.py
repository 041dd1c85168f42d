"""Forward and backward of each kind of layer for a group of replicas, over memory that stays where it is.

Every stage reads ``entering``, an activation of shape (replicas, rows, features), and writes ``leaving``. Its backward
takes the gradient of ``leaving``, which it may overwrite, writes those of its parameters into the arena, and returns
that of ``entering`` where one is wanted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.ensemble.arena import LINE, lines
from compress.ensemble.grids import ROUNDER_BITS, ActivationGrids
from compress.ensemble.products import Product

#: Below this many floats per replica a batch norm of all channels of a group at once saves more than the copies cost.
WIDE_BATCH_NORM = 1 << 14


class Memory:
    """Pieces of memory by name. One of an earlier group serves the next: what it held is used up by then."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pieces: dict[str, Tensor] = {}

    def floats(self, name: str, *shape: int) -> Tensor:
        """A tensor of this shape, its first dimension mostly the replicas; the share of each begins on a line."""
        share = torch.Size(shape[1:]).numel()
        piece = self.reserve(name, shape[0] * lines(share))
        return piece.view(shape[0], -1)[:, :share].unflatten(1, shape[1:])

    def reserve(self, name: str, size: int) -> Tensor:
        """The first ``size`` floats of a piece. Where two shapes are to share one, the larger is reserved first."""
        piece = self.pieces.get(name)
        if piece is None or len(piece) < size:
            piece = self.pieces[name] = torch.zeros(size, device=self.device)
        return piece[:size]


class Stage(ABC):
    """One layer of a group of replicas."""

    leaving: Tensor

    @abstractmethod
    def forward(self) -> None: ...

    @abstractmethod
    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        """``wanted``: whether anything before this stage needs a gradient."""


class Linear(Stage):
    """Weights (replicas, outputs, inputs) and biases (replicas, outputs), quantized already where they are.

    ``number`` counts the linear layers.
    """

    def __init__(
        self,
        memory: Memory,
        number: int,
        entering: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        of_weight: Tensor,
        of_bias: Tensor | None,
    ) -> None:
        replicas, rows, _ = entering.shape
        self.leaving = memory.floats(f"linear {number}", replicas, rows, weight.shape[1])
        self.of_bias = of_bias
        # Gradients take turns in two pieces of memory: a product cannot overwrite what it reads.
        self.gradient = memory.floats(f"gradient {(number + 1) % 2}", *self.leaving.shape)
        self.of_entering = memory.floats(f"gradient {number % 2}", *entering.shape)
        row = None if bias is None else bias.unsqueeze(1)
        self.product = Product(entering, weight.transpose(1, 2), self.leaving, row)
        self.product_of_weight = Product(self.gradient.transpose(1, 2), entering, of_weight)
        self.product_of_entering = Product(self.gradient, weight, self.of_entering)

    def forward(self) -> None:
        self.product()

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        assert gradient.data_ptr() == self.gradient.data_ptr(), "the gradient is not where it was to be"
        self.product_of_weight()
        if self.of_bias is not None:
            torch.sum(gradient, 1, out=self.of_bias)
        if not wanted:
            return None
        self.product_of_entering()
        return self.of_entering


class BatchNorm(Stage):
    """Affine batch norm with running statistics; ``statistics``: running mean and variance, (replicas, features)."""

    def __init__(
        self,
        memory: Memory,
        number: int,
        entering: Tensor,
        parameters: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
        statistics: tuple[Tensor, Tensor],
        momentum: float,
        eps: float,
    ) -> None:
        replicas, rows, features = entering.shape
        self.entering, self.gradients = entering, gradients
        self.leaving = memory.floats(f"batch norm {number}", *entering.shape)
        self.constants = (momentum, eps)
        # Odd channels behind whole vector registers are rounded differently, so only whole ones are put side by side.
        cheap = entering.is_cuda or rows * features < WIDE_BATCH_NORM
        self.wide = replicas > 1 and features % LINE == 0 and cheap
        shape = (1, replicas * features) if self.wide else (replicas, features)
        x, y = entering, self.leaving
        if self.wide:
            x, y, gradient = (
                memory.floats(f"batch norm {name} {number}", 1, rows, shape[1]) for name in ("in", "out", "gradient")
            )
            self.x, self.y, self.gradient = x[0], y[0], gradient[0]
        saved = [memory.floats(f"batch norm {name} {number}", *shape) for name in ("mean", "deviation")]
        vectors = [tensor.view(shape) for tensor in (*parameters, *statistics)]
        #: What goes through torch's kernel at once: all replicas side by side, or each.
        self.runs = list(zip(*(tensor.unbind() for tensor in (x, *vectors, y, *saved)), strict=True))

    def _across(self, wide: Tensor) -> Tensor:
        """(rows, replicas * features) as (replicas, rows, features)."""
        return wide.unflatten(1, (len(self.entering), -1)).transpose(0, 1)

    def forward(self) -> None:
        if self.wide:
            self._across(self.x).copy_(self.entering)
        momentum, eps = self.constants
        for x, weight, bias, mean, variance, y, batch_mean, deviation in self.runs:
            torch.native_batch_norm(
                x, weight, bias, mean, variance, True, momentum, eps, out=(y, batch_mean, deviation)
            )
        if self.wide:
            self.leaving.copy_(self._across(self.y))

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        if self.wide:
            self._across(self.gradient).copy_(gradient)
        each = (self.gradient,) if self.wide else gradient.unbind()
        _, eps = self.constants
        for i, (x, weight, _, mean, variance, _, batch_mean, deviation) in enumerate(self.runs):
            of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                each[i], x, weight, mean, variance, batch_mean, deviation, True, eps, [wanted, True, True]
            )
            for of_parameter, result in zip(self.gradients, (of_weight, of_bias), strict=True):
                (of_parameter.view(-1) if self.wide else of_parameter[i]).copy_(result)
            if wanted:
                (gradient if self.wide else each[i]).copy_(self._across(of_x) if self.wide else of_x)
        return gradient if wanted else None


class ReLU(Stage):
    """The float one."""

    def __init__(self, memory: Memory, number: int, entering: Tensor) -> None:
        self.entering = entering
        self.leaving = memory.floats(f"relu {number}", *entering.shape)

    def forward(self) -> None:
        torch.clamp_min(self.entering, 0, out=self.leaving)

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        return _where_positive(gradient, self.leaving) if wanted else None


class Activation(Stage):
    """Layer ``layer`` of ``grids`` for the replicas of ``part``: clips, rounds, and learns its range where that is one.

    ``waiting`` are the layers, by their place in the group, whose ranges still wait for their first data.
    """

    def __init__(
        self,
        memory: Memory,
        number: int,
        entering: Tensor,
        grids: ActivationGrids,
        layer: int,
        part: slice,
        bits: int,
        waiting: Sequence[tuple[int, Any]],
    ) -> None:
        self.entering, self.grids = entering, grids
        self.leaving = memory.floats(f"activation {number}", *entering.shape)
        self.inside = memory.floats(f"inside {number}", *entering.shape)
        self.product = memory.floats("product", *entering.shape)
        self.lower, self.upper, self.rounder, self.inverse, self.scale = (
            table[layer, part] for table in (grids.lower, grids.upper, grids.rounder, grids.inverse, grids.scale)
        )
        self.by_adding = bits <= ROUNDER_BITS
        self.gained, self.lost = grids.gained[layer, part], grids.lost[layer, part]
        self.learned = grids.learned[layer] is not None
        self.waiting = list(waiting)

    def forward(self) -> None:
        if self.waiting:
            self._calibrate()
        torch.maximum(self.entering, self.lower, out=self.inside)
        torch.minimum(self.inside, self.upper, out=self.inside)
        if self.by_adding:
            torch.add(self.inside, self.rounder, out=self.leaving)
            self.leaving.sub_(self.rounder)
        else:
            torch.mul(self.inside, self.inverse, out=self.leaving)
            self.leaving.round_().mul_(self.scale)
        self.inside.eq_(self.entering)  # 1 where nothing was clipped

    def _calibrate(self) -> None:
        """As the layers do themselves, before their first batch that is not all zeros."""
        self.waiting = [(i, layer) for i, layer in self.waiting if not layer.calibrate_on(self.entering[i])]
        self.grids.update()

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        if not self.learned:
            return _where_positive(gradient, self.inside) if wanted else None
        torch.mul(gradient, self.leaving, out=self.product)
        torch.sum(self.product.flatten(1), 1, out=self.gained)
        _where_positive(gradient, self.inside)
        torch.mul(gradient, self.entering, out=self.product)
        torch.sum(self.product.flatten(1), 1, out=self.lost)
        return gradient if wanted else None


class CrossEntropy:
    """The mean cross entropy of each replica's scores (replicas, rows, classes) behind ``linears`` linear layers."""

    def __init__(self, memory: Memory, linears: int, scores: Tensor, labels: Tensor) -> None:
        _, rows, classes = scores.shape
        self.scores, self.labels, self.labels_of_each = scores, labels, labels.unbind()
        self.gradient = memory.floats(f"gradient {linears % 2}", *scores.shape)
        #: Row k: the gradient of the mean in the logarithms of the probabilities, for a row of class k.
        self.of_logarithms = torch.eye(classes, device=scores.device).mul_(-(1.0 / rows))
        self.logarithms = scores

    def forward(self, losses: Tensor) -> None:
        """``labels`` to ``losses``, both by replica."""
        self.logarithms = torch.log_softmax(self.scores, 2)
        each = zip(self.logarithms.unbind(), self.labels_of_each, strict=True)
        torch.stack([nn.functional.nll_loss(logarithms, labels) for logarithms, labels in each], out=losses)

    def backward(self) -> Tensor:
        of_logarithms = self.of_logarithms.index_select(0, self.labels.view(-1)).view(self.scores.shape)
        self.gradient.copy_(torch._log_softmax_backward_data(of_logarithms, self.logarithms, 2, self.scores.dtype))
        return self.gradient


def _where_positive(gradient: Tensor, condition: Tensor) -> Tensor:
    """``gradient`` in place, zero where ``condition`` is not positive."""
    result: Tensor = torch.ops.aten.threshold_backward.grad_input(gradient, condition, 0, grad_input=gradient)
    return result
