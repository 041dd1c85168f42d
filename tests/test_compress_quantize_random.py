"""Random networks of layers, calls, sums and concatenations: whatever is drawn converts, by laws that hold for all."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from compress.bops import bops
from compress.layers import Kind, QuantSpec, UncalibratedQuantizer, calibrate, is_quantized, kind, width_of
from compress.layers.readers import ACTIVATIONS, WEIGHTED
from compress.quantize import LayerTracer, Plan, Specs, UnsupportedLayer, explain

ROWS = 6
_ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    *(nn.ReLU, nn.ReLU6, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardsigmoid),
    *(lambda: nn.LeakyReLU(0.25), lambda: nn.ReLU(inplace=True), lambda: nn.Hardtanh(-0.5, 2.0)),
)
_CALLS: tuple[Callable[[Tensor], Tensor], ...] = (
    *(F.relu, torch.relu, F.relu6, torch.tanh, torch.sigmoid, F.hardtanh, F.hardsigmoid),
    *(lambda x: x.relu(), lambda x: F.leaky_relu(x, 0.125), lambda x: x.clamp(-1, 1)),
)


class Chain(nn.Module):
    """Layers and functions one after the other."""

    def __init__(self, steps: list[Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.steps: list[str | Callable[[Tensor], Tensor]] = []
        for index, step in enumerate(steps):
            if isinstance(step, nn.Module):
                self.add_module(f"step{index}", step)
            self.steps.append(f"step{index}" if isinstance(step, nn.Module) else step)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = getattr(self, step)(x) if isinstance(step, str) else step(x)
        return x


class Branches(nn.Module):
    """Two branches that read the same, joined by a sum or a concatenation."""

    def __init__(self, left: nn.Module, right: nn.Module, join: str) -> None:
        super().__init__()
        self.left, self.right, self.join = left, right, join

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.left(x), self.right(x)
        if self.join == "cat":
            return torch.cat([left, right], 1)
        if self.join == "in place":
            left += right
            return left
        return left + right if self.join == "add" else torch.add(left, right)


class Drawing:
    """Draws networks that read (rows, channels), with up to two axes more, and give (rows, 3)."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.axes = self.random.choice((0, 1, 2))
        self.shape = (self.random.randint(2, 4), *[self.random.randint(6, 9) for _ in range(self.axes)])

    def network(self) -> nn.Module:
        body = self.chain(self.shape[0], depth=2)
        shape = body(torch.zeros(ROWS, *self.shape)).shape
        head: list[Callable[[Tensor], Tensor]] = [body]
        if self.axes:
            pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)[self.axes - 1]
            head += self.random.choice(([nn.Flatten()], [pool(1), nn.Flatten()], [self.mean()]))
        features = Chain(head)(torch.zeros(shape[0], *self.shape)).shape[1]
        head.append(nn.Linear(features, 3))
        model = nn.Sequential(*head) if all(isinstance(step, nn.Module) for step in head) else Chain(head)
        return model.train()

    def chain(self, channels: int, depth: int) -> nn.Module:
        steps: list[Callable[[Tensor], Tensor]] = []
        for _ in range(self.random.randint(1, 4)):
            step, channels = self.step(channels, depth)
            steps.append(step)
        if all(isinstance(step, nn.Module) for step in steps) and self.random.random() < 0.7:
            return nn.Sequential(*steps)
        return Chain(steps)

    def step(self, channels: int, depth: int) -> tuple[Callable[[Tensor], Tensor], int]:
        kinds = ["weighted"] * 3 + ["activation"] * 2 + ["call"] * 2 + ["norm", "keep"] + ["branches"] * depth
        match self.random.choice(kinds + ["pool"] * (self.axes > 0 and depth == 2)):
            case "weighted":
                return self.weighted(channels, outputs := self.random.randint(2, 4)), outputs
            case "activation":
                return self.random.choice(_ACTIVATIONS)(), channels
            case "call":
                return self.random.choice(_CALLS), channels
            case "norm":
                return (nn.BatchNorm2d if self.axes == 2 else nn.BatchNorm1d)(channels), channels
            case "pool":
                return self.pool(), channels
            case "keep":
                return self.random.choice((nn.Identity, lambda: nn.Dropout(0.0)))(), channels
        join = self.random.choice(("add", "torch.add", "in place", "cat"))
        left = self.chain(channels, depth - 1)
        width = left(torch.zeros(ROWS, channels, *self.shape[1:])).shape[1]
        right: nn.Module = self.weighted(channels, width)
        if self.random.random() < 0.5:
            right = nn.Sequential(right, self.random.choice(_ACTIVATIONS)())
        return Branches(left, right, join), 2 * width if join == "cat" else width

    def weighted(self, inputs: int, outputs: int) -> nn.Module:
        bias = self.random.random() < 0.7
        if self.axes == 0:
            return nn.Linear(inputs, outputs, bias)
        convolution = nn.Conv1d if self.axes == 1 else nn.Conv2d
        groups = 2 if inputs % 2 == outputs % 2 == 0 and self.random.random() < 0.3 else 1
        dilation = self.random.choice((1, 2))
        return convolution(inputs, outputs, 3, padding=dilation, dilation=dilation, groups=groups, bias=bias)

    def mean(self) -> Callable[[Tensor], Tensor]:
        return (lambda x: x.mean(2), lambda x: torch.mean(x, dim=(2, 3)))[self.axes - 1]

    def pool(self) -> nn.Module:
        maximum, average = ((nn.MaxPool1d, nn.AvgPool1d), (nn.MaxPool2d, nn.AvgPool2d))[self.axes - 1]
        return self.random.choice((maximum, average))(3, stride=1, padding=1)


def drawn(seed: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    drawing = Drawing(seed)
    model = drawing.network()
    x = torch.randn(ROWS, *drawing.shape)
    with torch.no_grad():
        model(x)
    return model, x


def calls(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[str]]]:
    """The layers a model calls, and what stands right before each, seen through what moves numbers only."""
    graph = LayerTracer().trace(model)

    def origins(node) -> list[str]:
        if node.op == "call_module":
            layer = model.get_submodule(str(node.target))
            through = (nn.Flatten, nn.Identity, nn.Dropout, nn.MaxPool1d, nn.MaxPool2d)
            if is_quantized(layer) or not isinstance(layer, through):
                return [str(node.target)]
        return [name for source in node.all_input_nodes for name in origins(source)] or [node.name]

    for node in graph.nodes:
        if node.op == "call_module":
            before = [name for source in node.all_input_nodes for name in origins(source)]
            yield str(node.target), model.get_submodule(str(node.target)), before


def explained(model: nn.Module, specs: Specs) -> Plan:
    """The only thing drawn that is refused is a change in place that another branch relies on."""
    try:
        return explain(model, specs)
    except UnsupportedLayer as error:
        assert "changes in place a tensor that" in str(error)
        reject()


SEEDS = st.integers(0, 2**32 - 1)


@given(seed=SEEDS)
@settings(max_examples=20)
def test_whatever_is_drawn_converts_trains_and_copies(seed):
    model, x = drawn(seed)
    plan = explained(model, QuantSpec(weight_width=5, activation_width=6, input_width=7))
    quantized = plan.apply()
    optimizer = torch.optim.SGD(quantized.parameters(), 1e-3)
    quantized(x).square().mean().backward()
    optimizer.step()
    quantized(x)
    try:
        calibrate(quantized, x)
    except UncalibratedQuantizer:
        reject()  # a ReLU that nothing passes has no range
    copied = copy.deepcopy(quantized)
    assert torch.equal(copied.eval()(x), quantized.eval()(x))
    assert {plan.place_of(name) for name in model.state_dict()} <= {*quantized.state_dict()}
    for row in plan.rows:
        if row.becomes != "stays":
            assert repr(quantized.get_submodule(plan.place_of(row.name))) == row.becomes
    assert bops(quantized, input_shape=tuple(x.shape[1:])).total > 0


@given(seed=SEEDS)
@settings(max_examples=20)
def test_widths_are_those_of_the_specs_and_every_layer_reads_a_grid(seed):
    """The law of the walk, read off the result: nothing but quantizers stands in front of a layer with weights."""
    model, _ = drawn(seed)
    activations = QuantSpec(activation_width=7, input_width=7)
    quantized = explained(model, {nn.Linear: replace(activations, weight_width=3), "*": activations}).apply()
    for name, layer, before in calls(quantized):
        what = kind(layer)
        if what in ACTIVATIONS:
            assert width_of(layer, name) == 7
        if what in WEIGHTED:
            assert layer.spec.weight_width == (3 if what is Kind.LINEAR else 8)
            assert all(kind(quantized.get_submodule(origin)) in ACTIVATIONS for origin in before), (name, before)


@given(seed=SEEDS)
@settings(max_examples=20)
def test_wide_enough_everything_is_almost_the_float_model(seed):
    """Constant binary points, 12 bits before them; the error falls with the step."""
    model, x = drawn(seed)
    model, x = model.double().eval(), x.double()
    expected = model(x)
    errors = []
    for width in (18, 30):
        fixed = {"activation_frac": width - 12, "input_frac": width - 12}
        spec = QuantSpec(weight_width=width, bias_width=width, activation_width=width, input_width=width, **fixed)
        errors.append((explained(model, spec).apply()(x) - expected).abs().max().item())
    assert errors[1] < 1e-4 and errors[1] <= errors[0] / 2**6 + 1e-9
