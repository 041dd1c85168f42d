"""A training step of a network with learned widths, without autograd: what costs time is the arithmetic alone.

All parameters move into one vector, of which the layers keep views, so that the optimiser is a handful of operations
whatever the number of layers. Activations travel as integer codes; their scales, powers of two, are moved into the
weights, where they are exact. The gradients are those that autograd finds with :mod:`compress.learned.surrogate` and
:mod:`compress.learned.cost`, which the tests hold this against.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compress.learned.cost import chain_of
from compress.learned.layers import LearnedActivation, LearnedLinear
from compress.learned.surrogate import LN2, bits, code_range, width

_EPSILON = 1e-8  # Adam's, as torch has it


class Chain:
    """The parameters of ``model`` as one vector, and steps of Adam on it. The model's layers see every change.

    Copying into a parameter is seen here in turn; replacing its tensor (``model.double()``) cuts the tie.
    """

    def __init__(
        self, model: nn.Sequential, *, width_rate: float = 1.0, beta1: float = 0.9, beta2: float = 0.999
    ) -> None:
        """``width_rate``: the learning rate of widths in units of that of weights; the betas are Adam's."""
        modules = chain_of(model)
        self._activations = [module for module in modules if isinstance(module, LearnedActivation)]
        self._linears = [module for module in modules if isinstance(module, LearnedLinear)]
        self._betas = (beta1, beta2)
        groups: list[list[nn.Parameter]] = [
            [*(layer.weight for layer in self._linears), *(layer.bias for layer in self._linears)],
            [*(layer.weight_frac for layer in self._linears), *(layer.bias_frac for layer in self._linears)],
            [layer.frac for layer in self._activations],
            [layer.integer for layer in self._activations],
        ]
        sizes = [sum(parameter.numel() for parameter in group) for group in groups]
        self.vector = torch.cat([parameter.detach().flatten() for group in groups for parameter in group])
        self.gradient = torch.zeros_like(self.vector)
        self.mean, self.square = torch.zeros_like(self.vector), torch.zeros_like(self.vector)
        self.steps = 0
        self._rates = torch.ones_like(self.vector)
        self._rates[sizes[0] :] = width_rate
        self._values, self._fracs, self._act_fracs, self._act_integers = self.vector.split(sizes)
        self._of_values, self._of_fracs, self._of_act_fracs, self._of_act_integers = self.gradient.split(sizes)
        at = 0
        for parameter in (parameter for group in groups for parameter in group):
            parameter.data = self.vector[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()
        self._shapes = [layer.weight.shape for layer in self._linears]
        self._channels = [layer.channels for layer in self._activations]
        # Where in the parameters of widths the width of each number, or each channel, is found; None: in its own place.
        self._frac_of = _places(groups[1], [*self._shapes, *((shape[0],) for shape in self._shapes)])
        self._width_of = _places(groups[2], [(channels,) for channels in self._channels])
        self.quantized = torch.zeros_like(self._values)
        self._codes = torch.zeros_like(self._values)
        self._price = torch.zeros_like(self._values)
        self._weights, self._biases = self._views(self.quantized)
        self._of_weights, self._of_biases = self._views(self._of_values)
        self._zero = torch.zeros((), dtype=self.vector.dtype)

    def quantize(self) -> None:
        """Round all parameters to their widths; to be called after every change of the vector."""
        scale = torch.exp2(_spread(self._fracs, self._frac_of).round())
        torch.mul(self._values, scale, out=self._codes).round_()
        torch.div(self._codes, scale, out=self.quantized)
        frac, integer = _spread(self._act_fracs, self._width_of), _spread(self._act_integers, self._width_of)
        self._widths = width(frac, integer)
        frac = frac.round()
        self._scales = torch.exp2(frac).split(self._channels)
        self._steps = torch.exp2(-frac).split(self._channels)
        _, high = code_range(frac, integer, signed=False)
        self._highs = high.split(self._channels)
        self._low = code_range(frac, integer, signed=True)[0][: self._channels[0]]

    def scores(self, x: Tensor) -> Tensor:
        """What the network makes of ``x`` (batch, features), as the parameters were when last quantized."""
        return self._forward(x, None)

    def step(self, x: Tensor, y: Tensor, price: float, rate: float, with_activations: bool = True) -> Tensor:
        """One step of Adam on cross entropy (nats) + ``price`` x EBOPs; returns the scores of ``x`` before it.

        Without ``with_activations`` the gradients of their widths are taken to be those of the last step that had them.
        """
        scores = self.find_gradient(x, y, price, with_activations)
        beta1, beta2 = self._betas
        self.steps += 1
        self.mean.lerp_(self.gradient, 1 - beta1)
        self.square.mul_(beta2).addcmul_(self.gradient, self.gradient, value=1 - beta2)
        root = self.square.sqrt().mul_(1 / math.sqrt(1 - beta2**self.steps)).add_(_EPSILON)
        move = torch.div(self.mean, root).mul_(self._rates)
        self.vector.add_(move, alpha=-rate / (1 - beta1**self.steps))
        return scores

    def find_gradient(self, x: Tensor, y: Tensor, price: float, with_activations: bool = True) -> Tensor:
        """Put the gradient of cross entropy + ``price`` x EBOPs into ``gradient``; returns the scores of ``x``."""
        self.quantize()
        kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        scores = self._forward(x, kept)
        of_scores = scores.softmax(1)
        of_scores[torch.arange(len(y)), y] -= 1.0
        self._backward(kept, of_scores.div_(len(y)), with_activations)
        by_frac = torch.sub(self._values, self.quantized).mul_(self._of_values).mul_(LN2)
        if price:
            self._add_cost(by_frac, price, with_activations)
        _gather(by_frac, self._frac_of, self._of_fracs)
        return scores

    def _forward(self, x: Tensor, kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] | None) -> Tensor:
        scaled = x * self._scales[0]
        limited = scaled.clamp(self._low, self._highs[0])
        for number, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            codes = limited.round()
            weight = weight * self._steps[number]
            following = number + 1
            if following < len(self._weights):
                scale = self._scales[following]
                weight.mul_(scale[:, None])
                bias = bias * scale
            if kept is not None:
                kept.append((scaled, limited, codes, weight))
            scaled = torch.addmm(bias, codes, weight.t())
            if following < len(self._weights):
                limited = scaled.clamp(self._zero, self._highs[following])
        return scaled

    def _backward(
        self, kept: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], gradient: Tensor, with_activations: bool
    ) -> None:
        if with_activations:
            of_act_fracs, of_act_integers = torch.empty_like(self._widths), torch.empty_like(self._widths)
            by_frac, by_integer = of_act_fracs.split(self._channels), of_act_integers.split(self._channels)
        last = len(kept) - 1
        for number in range(last, -1, -1):
            scaled, limited, codes, weight = kept[number]
            of_weight, of_bias = self._of_weights[number], self._of_biases[number]
            torch.mm(gradient.t(), codes, out=of_weight).mul_(self._steps[number])
            torch.sum(gradient, 0, out=of_bias)
            if number < last:
                of_weight.mul_(self._scales[number + 1][:, None])
                of_bias.mul_(self._scales[number + 1])
            if not number and not with_activations:
                return
            gradient = gradient.mm(weight)
            passed = gradient * limited.eq(scaled)
            if with_activations:
                # In units of codes: the scale of a code and the step between values cancel.
                high = self._highs[number]
                above = (gradient * (scaled > high)).sum(0)
                below = (gradient * (scaled < -high - 1)).sum(0) if not number else 0.0
                torch.mul(torch.sub(limited, codes).mul_(passed).sum(0).add_(above), LN2, out=by_frac[number])
                torch.mul((above - below) * (high + 1), LN2, out=by_integer[number])
            gradient = passed
        _gather(of_act_fracs, self._width_of, self._of_act_fracs)
        _gather(of_act_integers, self._width_of, self._of_act_integers)

    def _add_cost(self, by_frac: Tensor, price: float, with_activations: bool) -> None:
        weights, biases = self._views(self._price)
        for weight, bias, widths in zip(weights, biases, self._widths.split(self._channels), strict=True):
            weight.copy_(widths.expand_as(weight))
            bias.fill_(1.0)
        by_frac.addcmul_(self._price, (self._codes != 0).to(by_frac.dtype), value=price)
        if with_activations:
            columns = torch.cat([weight.sum(0) for weight in self._views(bits(self._codes))[0]])
            columns.mul_(self._widths > 0).mul_(price)
            own = torch.zeros_like(self._of_act_fracs)
            _gather(columns, self._width_of, own)
            self._of_act_fracs.add_(own)
            self._of_act_integers.add_(own)

    def _views(self, flat: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The weights and the biases, layer by layer, in a vector of both."""
        layers = len(self._shapes)
        parts = flat.split([shape.numel() for shape in self._shapes] + [shape[0] for shape in self._shapes])
        weights = [part.view(shape) for part, shape in zip(parts[:layers], self._shapes, strict=True)]
        return weights, list(parts[layers:])


def _places(widths: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> Tensor | None:
    if all(tensor.numel() == math.prod(shape) for tensor, shape in zip(widths, shapes, strict=True)):
        return None
    found, start = [], 0
    for tensor, shape in zip(widths, shapes, strict=True):
        own = torch.arange(start, start + tensor.numel()).view(tensor.shape)
        found.append(own.expand(tuple(shape)).flatten())
        start += tensor.numel()
    return torch.cat(found)


def _spread(widths: Tensor, places: Tensor | None) -> Tensor:
    return widths if places is None else widths[places]


def _gather(each: Tensor, places: Tensor | None, out: Tensor) -> None:
    """What each number contributes to the gradient of its width."""
    if places is None:
        out.copy_(each)
    else:
        out.zero_().index_add_(0, places, each)
