"""Random torch modules whose tensors meet and move: residuals, concatenations, slices, paddings, constants."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec

Step = Callable[["Wiring", Tensor], Tensor]

#: Elements of a sample beyond which it is cut.
_LARGEST = 40


class Wiring(nn.Module):
    """``steps`` one after another, each with the layers that it names."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.steps: list[Step] = []

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(self, x)
        return x


def random_wiring(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    """A network in eval mode, power-of-two scales throughout, and the shape of a sample."""
    torch.manual_seed(int(rng.integers(1 << 31)))
    shape = tuple(int(n) for n in rng.integers(1, 5, size=int(rng.integers(1, 4))))
    draw = _Draw(rng, Wiring().eval(), torch.randn(2, *shape))
    draw.take(draw.of(draw.quantizer()))
    if rng.random() < 0.3:  # before the input is quantized
        draw.net.steps.insert(0, draw.movement(torch.randn(2, *shape)))
        draw.seen = draw.net(torch.randn(2, *shape))
    makers = (draw.move, draw.move, draw.meet, draw.meet, draw.join, draw.shift, draw.leak)
    for _ in range(rng.integers(2, 6)):
        makers[rng.integers(len(makers))]()
        if draw.seen[0].numel() > _LARGEST:
            draw.take(lambda _, x: x.flatten(1)[:, :_LARGEST:2])
    draw.take(lambda _, x: x.flatten(1))
    if rng.random() < 0.8:
        outputs = int(rng.integers(1, 6))
        spec = QuantSpec(weight_width=int(rng.integers(2, 6)), weight_frac=int(rng.integers(0, 4)), bias_frac=3)
        draw.settle()
        draw.take(draw.of(QuantLinear(draw.seen.shape[1], outputs, spec=spec)))
        if rng.random() < 0.2:
            draw.take(lambda _, x: x.argmax(1, keepdim=True))
    return draw.net, shape


class _Draw:
    """A module that grows; ``seen`` is what it makes so far of two samples."""

    def __init__(self, rng: np.random.Generator, net: Wiring, seen: Tensor) -> None:
        self.rng = rng
        self.net = net
        self.seen = seen

    def take(self, step: Step) -> None:
        self.net.steps.append(step)
        with torch.no_grad():
            self.seen = step(self.net, self.seen)

    def of(self, layer: nn.Module) -> Step:
        self.net.layers.append(layer.eval())
        place = len(self.net.layers) - 1
        return lambda net, x: net.layers[place](x)

    def one_of(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def quantizer(self, rectify: float = 0.0, narrowest: int = 1) -> nn.Module:
        widths = [width for width in (1, 3, 5, 6, 7, 8, 9) if width >= narrowest]
        width, signed = int(self.rng.choice(widths)), bool(self.rng.random() < 0.8)
        frac = int(self.rng.integers(-1, min(width, 4)))
        if self.rng.random() < rectify:
            return QuantReLU(spec=QuantSpec(activation_width=width, activation_frac=frac))
        return QuantIdentity(spec=QuantSpec(input_width=width, input_frac=frac, input_signed=signed))

    def settle(self) -> None:
        """Few bits again, so that what follows has room."""
        self.take(self.of(self.quantizer(0.3)))

    def move(self) -> None:
        self.take(self.movement(self.seen))

    def movement(self, x: Tensor) -> Step:
        axes, axis = x.ndim, int(self.rng.integers(1, x.ndim))
        shift, size = int(self.rng.integers(-3, 4)), x.shape[axis]
        order = [0, *(1 + self.rng.permutation(axes - 1)).tolist()]
        start = int(self.rng.integers(0, size))
        pads = [int(n) for n in self.rng.integers(0, 3, size=2)]
        steps: list[Step] = [
            lambda _, x: x.permute(order),
            lambda _, x: x.flip(axis),
            lambda _, x: torch.roll(x, shift, axis),
            lambda _, x: x.narrow(axis, start, size - start),
            lambda _, x: x.repeat_interleave(2, dim=axis),
            lambda _, x: F.pad(x, pads),
            lambda _, x: x.reshape(x.shape[0], -1, 1).transpose(1, 2),
            lambda _, x: x.contiguous().view(x.size(0), -1),
            lambda _, x: torch.cat(x.chunk(2, dim=axis)[::-1], dim=axis),
        ]
        if axes > 2:
            steps.append(lambda _, x: F.interpolate(x, scale_factor=1.5))
            all_around = pads * (axes - 2)
            steps.append(lambda _, x: F.pad(x, all_around, mode="replicate"))
        return steps[self.rng.integers(len(steps))]

    def meet(self) -> None:
        """A residual, now and then with one element for many."""
        kind = self.one_of(torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum)
        branch, cut = self.of(self.quantizer(0.3)), self.rng.random() < 0.3
        if self.seen.ndim == 2 and self.rng.random() < 0.5:
            n = self.seen.shape[1]
            self.settle()
            branch = self.of(QuantLinear(n, n, spec=QuantSpec(weight_width=4, weight_frac=2, bias_frac=2)))
        self.take(lambda net, x: kind(x, branch(net, x)[:, :1] if cut else branch(net, x)))
        if kind is torch.mul or self.rng.random() < 0.5:
            self.settle()

    def join(self) -> None:
        branch, axis = self.of(self.quantizer(0.3)), int(self.rng.integers(1, self.seen.ndim))
        self.take(lambda net, x: torch.cat([branch(net, x), x], axis))

    def shift(self) -> None:
        """By constants, of which some have no code until a quantizer follows."""
        factor, offset = float(self.one_of(2, -1, 0.5, 3, 0.75)), float(self.rng.integers(-8, 9)) / 4
        self.take(lambda _, x: offset - x * factor)
        if self.rng.random() < 0.7:
            self.settle()

    def leak(self) -> None:
        slope = float(self.one_of(0.25, 0.5, 1.5, -0.5, 0))
        layer = nn.PReLU(self.seen.shape[1] if self.rng.random() < 0.5 else 1)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(self.rng.choice([0.5, 2.0, -1.0, 0.125], size=layer.weight.shape)))
        function = self.one_of(partial(F.leaky_relu, negative_slope=slope), torch.abs, None)
        self.take(self.of(layer) if function is None else lambda _, x: function(x))
        self.take(self.of(self.quantizer(narrowest=3)))  # the sign of what is never negative has no lowering
