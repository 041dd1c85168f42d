"""Sums, products and choices of tensors: exact with the scales carried along, or refused naming both operands."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from exported import assert_exact, lowered, module
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compress.fixed import FixedPoint
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec, Scale
from compress.quantize import quantize
from export import emulate
from export.ir import GraphError
from export.ops import Add, Affine, ArgMax, BySign, Input, Maximum, Minimum, Multiply, Rearrange


def identity(width, frac, signed=True):
    return QuantIdentity(spec=QuantSpec(input_width=width, input_frac=frac, input_signed=signed))


def linear(n_in=4, n_out=4):
    torch.manual_seed(0)
    return QuantLinear(n_in, n_out, spec=QuantSpec(weight_frac=3, weight_width=5, bias_frac=4))


#: Two tensors of the model's four numbers, in formats of their own.
PAIR = {"a": identity(5, 1), "b": identity(4, 4, signed=False)}
#: What a float network could do between its layers; ``x`` and ``y`` are quantized.
CALLS = {
    "sum": lambda s, x, y: x + y,
    "sum by function": lambda s, x, y: torch.add(x, other=y),
    "sum with alpha": lambda s, x, y: torch.add(x, y, alpha=-2.5),
    "sum by method": lambda s, x, y: x.add(y).add_(x),
    "sum with itself": lambda s, x, y: x + x,
    "difference": lambda s, x, y: x - y,
    "difference by function": lambda s, x, y: torch.sub(x, y, alpha=2),
    "reversed difference": lambda s, x, y: torch.rsub(x, y),
    "product": lambda s, x, y: x * y,
    "product by function": lambda s, x, y: torch.mul(x, y),
    "square": lambda s, x, y: x**2 + torch.square(y) + x.pow(2),
    "larger": lambda s, x, y: torch.maximum(x, y),
    "smaller": lambda s, x, y: x.minimum(y),
    "larger and smaller of two": lambda s, x, y: torch.max(x, y) - x.min(y),
    "in place": lambda s, x, y: s.fc(x).add_(y).sub_(x).mul_(y),
    "in place by operator": lambda s, x, y: _in_place(s.fc(x), y),
    "constants": lambda s, x, y: (1 - x) * 2 + 0.75 - y / 4,
    "constants on the left": lambda s, x, y: 0.5 * x + (3 + y),
    "opposite": lambda s, x, y: -x + torch.neg(y),
    "magnitude": lambda s, x, y: x.abs() + torch.abs(y - 1),
    "one element for all": lambda s, x, y: x * y[:, 1:2] + x[:, :1],
    "clamp": lambda s, x, y: torch.clamp(x, -0.5, 1.5) + x.clamp(max=0) + x.clip(min=0.5) + y.clamp_min(0.25),
    "a constant tensor": lambda s, x, y: x * torch.tensor([1.0, 0.5, -2, 0]) + torch.tensor(0.25),
    "a parameter": lambda s, x, y: (x + s.shift) / s.shift + s.one * y,
    "a residual": lambda s, x, y: F.relu(s.fc(x) + x),
    "a residual of residuals": lambda s, x, y: s.fc(s.fc(x) + y) + (s.fc(x) - y),
    "a shared layer": lambda s, x, y: s.fc(s.fc(x)),
    "gated": lambda s, x, y: s.fc(x) * s.gate(s.fc(y)),
    "a layer of what is shifted": lambda s, x, y: s.fc(1 - x) + s.fc(y + 0.125),
    "of a concatenation": lambda s, x, y: torch.cat([x, y], 1) - torch.cat([y, x], 1),
}  # fmt: skip


def _in_place(x, y):
    x += y
    x -= y
    x *= y
    return x


@pytest.mark.parametrize("what", CALLS)
def test_calls(what):
    layers = {
        **PAIR, "fc": linear(), "gate": identity(3, 2, signed=False),
        "shift": nn.Parameter(torch.tensor([0.5, -1, 2, 4])), "one": nn.Parameter(torch.tensor(3.0)),
    }  # fmt: skip
    assert_exact(module(lambda s, x: CALLS[what](s, s.a(s.quant(x)), s.b(s.quant(x.flip(1)))), **layers), (4,))


@given(data=st.data())
def test_any_two_formats(data):
    spec = st.tuples(st.integers(1, 12), st.integers(-3, 12), st.booleans())
    a, b = (identity(*data.draw(spec)) for _ in range(2))
    kind = data.draw(st.sampled_from([torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum]))
    graph = assert_exact(module(lambda s, x: kind(s.a(s.quant(x)), s.b(s.quant(x) * 3)), a=a, b=b), (3,))
    low, high = graph.bounds[graph.outputs[0]].range
    if kind in (torch.add, torch.sub, torch.mul):  # nothing wider than what it can reach
        assert graph.outputs[0].format == FixedPoint.covering(low, high, graph.outputs[0].format.frac)


@given(data=st.data())
def test_any_shapes_that_torch_repeats(data):
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    ones = [data.draw(st.booleans()) for _ in shape]
    cut = tuple(slice(0, 1) if one else slice(None) for one in ones)
    kind = data.draw(st.sampled_from([torch.add, torch.mul, torch.maximum]))
    swap = data.draw(st.booleans())

    def forward(s, x):
        x, y = s.quant(x), s.a(s.quant(x)[(slice(None), *cut)])
        return kind(y, x) if swap else kind(x, y)

    assert_exact(module(forward, **PAIR), tuple(shape))


def test_a_sum_is_one_op():
    graph = lowered(module(lambda s, x: s.quant(x) + s.a(s.quant(x)), **PAIR), (4,))
    assert [type(op) for op in graph][-1] is Add and not any(isinstance(op, Affine) for op in graph)
    graph = lowered(module(lambda s, x: (y := s.quant(x)) * y[:, :1]), (4,))
    assert [type(op) for op in graph] == [Input, Rearrange, Rearrange, Multiply]


def test_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.fc = identity(5, 2), identity(4, 3), linear(4, 2)

        def forward(self, x, y):
            return self.fc(self.a(x).flatten(1)[:, 2:] + self.b(y))

    model = Two().eval()
    assert [op.output.shape for op in assert_exact(model, [(2, 3), (4,)]).inputs] == [(2, 3), (4,)]
    x, y = torch.randn(50, 2, 3, dtype=torch.float64), torch.randn(50, 4, dtype=torch.float64)
    with torch.no_grad():
        expected = model.double()(x, y).numpy()
    assert np.array_equal(emulate(model, [(2, 3), (4,)]).predict(x.numpy(), y.numpy()), expected)
    with pytest.raises(GraphError) as error:
        lowered(Two().eval(), (4,))
    assert str(error.value) == (
        "x, y: the model has 2 inputs, input_shape says 1; give one shape for each, input_shape=[(3, 8, 8), (4,)]"
    )


# -- scales that are no powers of two


def scaled(factor):
    """A value whose scale waits for a quantizer."""
    return lambda x: x * factor


RATIOS = [(0.3, 0.3), (0.3, 0.6), (0.3, -1.2), (0.7, 0.1), (3, 5), (-0.3, 0.9), (0.2, 0.6), (1, 0)]


@pytest.mark.parametrize("kind", [torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum])
@pytest.mark.parametrize("ratio", RATIOS)
def test_scales_with_a_short_ratio_meet_exactly(ratio, kind):
    first, second = map(scaled, ratio)
    model = module(
        lambda s, x: s.out(kind(first(s.quant(x)), second(s.a(s.quant(x.flip(1)))))), **PAIR, out=identity(6, 2)
    )
    graph = lowered(model, (4,))
    codes = np.random.default_rng(0).integers(-32, 32, size=(500, 4))
    entry = graph.inputs[0].output.format
    x = [[Fraction(int(c)) * entry.lsb for c in row] for row in codes]
    a, b = (Fraction(str(r)) for r in ratio)
    clip = lambda v: min(max(round(v * 2), -16), 15) / Fraction(2)  # noqa: E731 - what the layer a makes
    meaning = {torch.add: lambda p, q: p + q, torch.sub: lambda p, q: p - q, torch.mul: lambda p, q: p * q,
               torch.maximum: max, torch.minimum: min}[kind]  # fmt: skip
    expected = [
        [min(max(round(4 * meaning(a * p, b * clip(q))), -32), 31) for p, q in zip(row, row[::-1], strict=True)]
        for row in x
    ]
    assert graph.eval(codes).tolist() == expected


def test_float_scales_of_one_quantizer():
    """A residual on one float scale: the sum is exact, and the scale is carried to the next quantizer."""
    float_scale = QuantSpec(input_width=6, input_scale=Scale.FLOAT)
    layers = {"shared": QuantIdentity(spec=float_scale), "out": identity(5, 2)}
    model = module(lambda s, x: s.out(s.shared(s.quant(x)) + s.shared(s.quant(x).flip(1))), **layers).train()
    with torch.no_grad():
        for seed in range(3):
            model(torch.randn(200, 4, generator=torch.Generator().manual_seed(seed)))
    graph = assert_exact(model.eval(), (4,))
    assert any(isinstance(op, Add) for op in graph)


def norm(channels, seed=0):
    layer, rng = nn.BatchNorm1d(channels), np.random.default_rng(seed)
    with torch.no_grad():
        layer.running_mean.copy_(torch.tensor(rng.normal(size=channels)))
        layer.weight.copy_(torch.tensor(rng.normal(size=channels)))
    return layer.eval()


BEHIND = "put a QuantIdentity behind each operand"
AXES = "without the batch; give both the same axes, each of the same size or of one element"
REFUSED = {
    "other scales": (
        lambda s, x: x * 0.3 + x * 0.3141592,
        f"add: mul and mul have the scales 0.3 and 0.3141592; {BEHIND}"),
    "a batch norm": (
        lambda s, x: s.norm(x) + x, f" and 1.0; {BEHIND}"),
    "the larger of two that are shifted": (
        lambda s, x: torch.maximum(x * 0.3 + 1, x * 0.3),
        f"maximum: add and mul are shifted in different ways; {BEHIND}"),
    "a product of what is shifted": (
        lambda s, x: (x * 0.3 + 1) * x, f"mul: multiplies add, which is shifted and not quantized; {BEHIND}"),
    "a function that waits": (
        lambda s, x: torch.tanh(x) + x, f"add: reads tanh, a tanh that no quantizer follows; {BEHIND}"),
    "a constant behind a function": (
        lambda s, x: torch.tanh(x) + 1,
        "add: follows a tanh that no quantizer follows; use a quantized layer before it"),
    "axes of another number": (
        lambda s, x: x + x.unsqueeze(1),
        f"add: x is (4,) and x (1, 4), {AXES}"),
    "axes of another size": (
        lambda s, x: x + x[:, :3],
        f"add: x is (4,) and x (3,), {AXES}"),
    "division by a tensor": (
        lambda s, x: 1 / x, "truediv: divides by a tensor, which has no exact lowering; divide by a constant"),
    "division by zero": (lambda s, x: x / 0, "truediv: divides by zero"),
    "infinity": (lambda s, x: x + float("inf"), "add: takes inf, where a finite number is needed"),
    "a power": (lambda s, x: x**3, "pow: raises to the power 3; only squares are lowered"),
    "a clamp of nothing": (lambda s, x: x.clamp(), "clamp: clamps without a limit"),
    "a number for each sample": (
        lambda s, x: x + s.p, "p of shape (2, 4) does not go with samples of (4,)"),
    "beyond 64 bits": (
        lambda s, x: torch.square(torch.square(torch.square(torch.square(x)))),
        "square: square_3: ufixed<41,17>[4] and square_3: ufixed<41,17>[4] have no exact result (square_4: needs "
        "81 bits, the limit is 64); quantize one of them"),
    "the largest and its place": (
        lambda s, x: x.max(dim=1)[0], "max: returns indices too, or looks through the whole batch; use amax(dim), amin("
        "dim) or argmax(dim)"),
    "the largest of the batch": (
        lambda s, x: torch.argmax(x), "argmax: looks through the whole batch; say along which axis, argmax(dim=1)"),
    "the largest along the batch": (
        lambda s, x: x.argmax(0),
        "argmax: acts along axis 0, which is the batch's; every sample has to stay by itself"),
    "the largest of other scales": (
        lambda s, x: s.norm(x).argmax(1),
        "argmax: compares numbers of norm, which are scaled and not quantized; put a QuantIdentity between them"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what):
    forward, message = REFUSED[what]
    layers = {"norm": norm(4), "p": nn.Parameter(torch.ones(2, 4))}
    with pytest.raises(GraphError) as error:
        lowered(module(lambda s, x: forward(s, s.quant(x)), **layers), (4,))
    assert message in str(error.value)


def test_a_constant_that_differs_within_a_channel():
    model = module(lambda s, x: s.quant(x) + s.p, p=nn.Parameter(torch.arange(6.0).reshape(2, 3)))
    with pytest.raises(GraphError) as error:
        lowered(model, (2, 3))
    assert str(error.value) == "add: p differs within a channel; use one number, or one per channel"
    by_channel = module(lambda s, x: s.quant(x) * s.p, p=nn.Parameter(torch.tensor([[[0.5], [2.0]]])))
    assert_exact(by_channel, (2, 3))


# -- leaky slopes


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.25, 1.0, 1.5, 3.0, -0.5, -2.0])
def test_a_leaky_relu_of_any_slope(slope):
    graph = assert_exact(
        module(lambda s, x: s.out(F.leaky_relu(s.quant(x), slope)), out=identity(5, 2)), (4,), samples=200
    )
    assert {type(op) for op in graph} & {Maximum, Minimum} == ({Minimum} if slope > 1 else {Maximum})


@pytest.mark.parametrize("slopes", [[0.25], [1.5], [0.25, -0.5, 0.0], [2, 1.5, 3], [0.25, 2.0, -1.5]])
@pytest.mark.parametrize("shape", [(3,), (3, 2, 2)])
def test_prelu(slopes, shape):
    layer = nn.PReLU(len(slopes))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(slopes))
    for before in (lambda x: x, lambda x: x * -0.5 + 0.25):  # where the sign is not that of the code
        model = module(lambda s, x, before=before: s.out(s.act(before(s.quant(x)))), act=layer, out=identity(4, 2))
        graph = assert_exact(model, shape, samples=100)
        assert any(isinstance(op, BySign) for op in graph) == (len({slope > 1 for slope in slopes}) > 1)


def test_a_prelu_of_other_channels():
    with pytest.raises(GraphError) as error:
        lowered(module(lambda s, x: s.act(s.quant(x)), act=nn.PReLU(3)), (4,))
    assert str(error.value) == "act: has 3 slopes, but reads x: fixed<6,3>[4]"


# -- the largest


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        (lambda x: x.argmax(1), (3, 2, 2)),
        (lambda x: torch.argmax(x, dim=1, keepdim=True), (3, 2, 2)),
        (lambda x: x.argmax(-1), (2, 3)),
        (lambda x: x.argmax(dim=2, keepdim=True), (2, 3, 2)),
        (lambda x: x.argmax(1, True), (5,)),
        (lambda x: (x * 0.3).argmax(1), (2, 3)),
        (lambda x: (1 - x).argmax(2), (2, 3)),
        (lambda x: (x * torch.tensor([[1.0], [-2.0]])).argmax(1), (2, 3)),
    ],
)
def test_the_place_of_the_largest(call, shape):
    assert_exact(module(lambda s, x: call(s.a(s.quant(x))), a=identity(2, 1)), shape, samples=200)


def test_one_place_for_each_sample_keeps_an_axis():
    graph = lowered(module(lambda s, x: s.quant(x).argmax(1)), (5,))
    codes = np.random.default_rng(0).integers(-2, 2, size=(100, 5))
    assert isinstance(graph.ops[-1], ArgMax)
    assert graph.eval(codes).tolist() == torch.from_numpy(codes).argmax(1, keepdim=True).tolist()


# -- what quantize() makes of float models


class Residual(nn.Module):
    """Two branches of other scales, a sum of sums, a shared layer, a gate, a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem, self.left, self.right, self.gate = (nn.Linear(n, 6) for n in (5, 6, 6, 6))
        self.norm, self.act, self.head = nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(12, 3)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        y = self.act(self.left(x) + self.norm(self.right(x)))
        y = y + x
        z = self.act(self.left(y)) * torch.sigmoid(self.gate(y))
        return self.head(torch.cat([torch.maximum(z, y), x - z], dim=1))


@pytest.mark.parametrize("width", [3, 6])
def test_a_converted_float_model(width):
    torch.manual_seed(0)
    spec = QuantSpec(weight_width=width, activation_width=width, input_width=8, bias_width=16)
    model = quantize(Residual(), spec).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(100, 5))
    assert_exact(model.eval(), (5,), samples=300)


def test_a_relu_may_be_shared_and_summed():
    act = QuantReLU(spec=QuantSpec(activation_width=4, activation_frac=2))
    assert_exact(module(lambda s, x: s.act(s.quant(x)) + s.act(s.a(s.quant(x))), act=act, **PAIR), (4,))
