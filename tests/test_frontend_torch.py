"""From torch modules to graphs: equal to the module bit for bit, or refused by name."""

from __future__ import annotations

from fractions import Fraction

import brevitas.nn as bnn
import exact
import numpy as np
import pytest
import reference
import torch
from brevitas.quant import Int16Bias
from brevitas.quant.fixed_point import Int8ActPerTensorFixedPoint, Int8WeightPerTensorFixedPoint
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from compress.fixed import FixedPoint, Overflow
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec, activation_of, weight_of
from compress.mask import Mask
from export.frontends.precision import Precision
from export.frontends.torch import lower
from export.ops import Affine, Cast, Dense, Input, ReLU, Requantize, Reshape
from export.passes import run
from recipes.fuzz.modules import has_power_of_two_scales, random_module

SPEC = QuantSpec(weight_width=5, bias_width=7, activation_width=4, input_width=6)
UNBIASED = QuantSpec(weight_width=5, bias_width=None, activation_width=4, input_width=6)


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def samples(shape, count=300, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=(count, *shape)) * 2, dtype=torch.float32)


def calibrated(model, shape):
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(samples(shape, 64, seed=1))
    return model.eval()


def outputs(model, graph, shape):
    """Exact results of the graph, and those of the module in float64."""
    x = samples(shape)
    (entry,) = graph.inputs
    codes = graph.eval(entry.encode(x.numpy()))
    with torch.no_grad():
        expected = model.double()(x.double()).numpy()
    model.float()
    assert len(np.unique(codes)) > 3  # a network that says nothing agrees with anything
    return graph.outputs[0].format.values(codes), expected


def check(model, shape, **kwargs):
    """The graph before and after the passes equals the module, bit for bit."""
    graph = lower(model, shape, **kwargs)
    for stage in (graph, run(graph)):
        got, expected = outputs(model, stage, shape)
        assert (got == expected).all()
    return graph


def kinds(graph):
    return [type(op) for op in graph]


def names(graph):
    return [op.name for op in graph]


# ---------------------------------------------------------------------------------------------------------------------
# quantized networks


@pytest.mark.parametrize("half", [0, 1])
def test_random_networks(half):
    equal = 0
    for seed in range(half * 35, half * 35 + 35):
        rng = np.random.default_rng(seed)
        model, shape = random_module(rng, everything=False)
        graph = lower(model, shape)
        x = samples(shape, 100, seed)
        codes = graph.inputs[0].encode(x.numpy())
        y = graph.eval(codes)
        assert (run(graph).eval(codes) == y).all(), seed
        expected = exact.evaluate(model, x[:20].numpy())  # also where scales are any floats
        assert (reference.values(y[:20], graph.outputs[0].format) == expected.reshape(y[:20].shape)).all(), seed
        if has_power_of_two_scales(model):
            with torch.no_grad():
                floats = model.double()(x.double()).numpy()
            assert (graph.outputs[0].format.values(y) == floats).all(), seed
            equal += 1
    assert equal > 3


def test_a_sequential_network():
    model = calibrated(nn.Sequential(
        QuantIdentity(spec=SPEC), QuantLinear(6, 5, spec=SPEC), QuantReLU(spec=SPEC), QuantLinear(5, 3, spec=SPEC)
    ), (6,))  # fmt: skip
    graph = check(model, (6,))
    assert kinds(graph) == [Input, Dense, ReLU, Cast, Dense]
    assert names(graph) == ["input", "1", "2.relu", "2", "3"]
    assert graph.ops[1].weight.codes.shape == (5, 6)


class Custom(nn.Module):
    def __init__(self, spec=SPEC):
        super().__init__()
        self.quant = QuantIdentity(spec=spec)
        self.fc1, self.act1 = QuantLinear(12, 5, spec=spec), QuantIdentity(spec=spec)
        self.body = nn.Sequential(QuantLinear(5, 4, spec=spec), nn.Dropout(0.5))
        self.act2 = QuantIdentity(spec=spec)

    def forward(self, x):
        x = torch.flatten(self.quant(x), 1)
        x = self.act1(F.relu(self.fc1(x), inplace=True))
        return self.act2(self.body(x).relu())


def test_a_custom_module_with_functional_calls():
    model = calibrated(Custom(), (3, 2, 2))
    graph = check(model, (3, 2, 2), name="custom")
    assert graph.name == "custom"
    assert names(graph) == ["x", "flatten", "fc1", "relu", "act1", "body.0", "relu_2", "act2"]
    assert kinds(graph)[1] is Reshape


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: torch.flatten(x, 1), lambda x: torch.flatten(x, start_dim=1), lambda x: x.flatten(1),
        lambda x: x.flatten(start_dim=1), lambda x: torch.flatten(x, 1, -1), lambda x: torch.flatten(x, 1, end_dim=-1),
    ],
)  # fmt: skip
def test_every_way_to_write_flatten(flatten):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant, self.fc = QuantIdentity(spec=SPEC), QuantLinear(12, 3, spec=SPEC)

        def forward(self, x):
            return self.fc(flatten(self.quant(x)))

    check(calibrated(Net(), (3, 4)), (3, 4))


def test_a_flattened_input_is_quantized_after_it():
    model = calibrated(nn.Sequential(nn.Flatten(), QuantIdentity(spec=SPEC), QuantLinear(12, 3, spec=SPEC)), (3, 4))
    graph = check(model, (3, 4))
    assert kinds(graph) == [Input, Reshape, Dense] and graph.inputs[0].output.shape == (3, 4)


@pytest.mark.parametrize("relu", [nn.ReLU(), nn.ReLU(inplace=True)])
def test_relu_layers_before_a_quantizer(relu):
    model = calibrated(nn.Sequential(
        QuantIdentity(spec=SPEC), QuantLinear(4, 5, spec=SPEC), relu,
        QuantIdentity(spec=SPEC), QuantLinear(5, 3, spec=SPEC),
    ), (4,))  # fmt: skip
    assert ReLU in kinds(check(model, (4,)))


def test_masks_become_zeros():
    linear = QuantLinear(16, 8, spec=SPEC)
    kept = torch.rand(8, 16) < 0.1
    parametrize.register_parametrization(linear, "weight", Mask(kept))
    model = calibrated(nn.Sequential(QuantIdentity(spec=SPEC), linear, QuantReLU(spec=SPEC)), (16,))
    graph = check(model, (16,))
    assert not graph.ops[1].weight.codes[~kept.numpy()].any()
    assert "SparseDense" in [type(op).__name__ for op in run(graph)]


def test_a_layer_without_any_weight_left():
    linear = QuantLinear(4, 3, spec=SPEC)
    parametrize.register_parametrization(linear, "weight", Mask(torch.zeros(3, 4, dtype=torch.bool)))
    model = calibrated(nn.Sequential(
        QuantIdentity(spec=SPEC), linear, QuantIdentity(spec=SPEC), QuantLinear(3, 6, spec=SPEC)), (4,))  # fmt: skip
    graph = lower(model, (4,))
    with torch.no_grad():
        expected = model.double()(samples((4,)).double()).numpy()
    for stage in (graph, run(graph)):
        y = stage.eval(stage.inputs[0].encode(samples((4,)).numpy()))
        assert (graph.outputs[0].format.values(y) == expected).all()


def test_a_module_called_twice_is_two_tensors_and_one_set_of_weights():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant, self.fc, self.act = QuantIdentity(spec=SPEC), QuantLinear(4, 4, spec=SPEC), QuantReLU(spec=SPEC)
            self.alias = self.fc

        def forward(self, x):
            return self.act(self.alias(self.act(self.fc(self.quant(x)))))

    graph = check(calibrated(Twice(), (4,)), (4,))
    assert names(graph) == ["x", "fc", "act.relu", "act", "fc_2", "act.relu_2", "act_2"]
    assert graph.ops[1].weight == graph.ops[4].weight


def test_training_mode_of_the_module_changes_nothing():
    model = calibrated(nn.Sequential(
        QuantIdentity(spec=SPEC), nn.Dropout(0.9), QuantLinear(4, 3, spec=SPEC), nn.BatchNorm1d(3), QuantReLU(spec=SPEC)
    ), (4,))  # fmt: skip
    digest = lower(model, (4,)).digest
    model.train()
    assert lower(model, (4,)).digest == digest
    assert model.training and all(m.training for m in model.modules())


def test_a_single_layer_is_a_network():
    model = calibrated(QuantIdentity(spec=SPEC), (4,))
    assert kinds(lower(model, (4,))) == [Input]
    assert kinds(lower(nn.Linear(4, 3), (4,), precision=Precision())) == [Input, Dense, Cast]


def test_a_float_bias_is_part_of_the_sum_where_it_fits():
    model = calibrated(nn.Sequential(
        QuantIdentity(spec=SPEC), QuantLinear(4, 3, spec=UNBIASED), QuantReLU(spec=SPEC),
        QuantLinear(3, 2, spec=UNBIASED),
    ), (4,))  # fmt: skip
    graph = check(model, (4,))
    assert [Fraction(b) for b in graph.ops[1].bias.values] == [Fraction(b) for b in model[1].bias.tolist()]


@pytest.mark.parametrize("tiny", [2.0**-40, 1e-20, 1e-38])
def test_a_bias_too_fine_for_any_accumulator_waits_for_the_requantization(tiny):
    layers = QuantIdentity(spec=SPEC), QuantLinear(4, 3, spec=UNBIASED), QuantReLU(spec=SPEC)
    model = calibrated(nn.Sequential(*layers), (4,))
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([tiny, 0.7, -tiny]))
    graph = lower(model, (4,))
    assert Requantize in kinds(graph)
    x = graph.inputs[0].encode(samples((4,)).numpy())
    # In fractions: float64 loses a bias that only decides ties.
    weight, act = weight_of(model[1]), activation_of(model[2])
    unit = weight.scale[0] * graph.inputs[0].output.format.lsb
    bias = [Fraction(b) for b in model[1].bias.tolist()]
    sums = [[int(s) * unit + b for s, b in zip(row, bias, strict=True)] for row in x @ weight.codes.T]
    expected = reference.casts(np.array(sums, dtype=object), act.format, act.rounding, Overflow.SAT)
    for stage in (graph, run(graph)):
        assert (stage.eval(x) == expected).all()


def test_bias_quantizers_that_take_the_scale_of_the_input():
    model = calibrated(nn.Sequential(
        bnn.QuantIdentity(bit_width=6, return_quant_tensor=True, act_quant=Int8ActPerTensorFixedPoint),
        bnn.QuantLinear(
            5, 3, bias=True, weight_quant=Int8WeightPerTensorFixedPoint, weight_bit_width=5, bias_quant=Int16Bias
        ),
    ), (5,))  # fmt: skip
    graph = lower(model, (5,))
    x = samples((5,))
    with torch.no_grad():
        expected = model(x).double().numpy()
    assert (graph.outputs[0].format.values(graph.eval(graph.inputs[0].encode(x.numpy()))) == expected).all()


# ---------------------------------------------------------------------------------------------------------------------
# batch normalisation and float scales: equal to exact rational arithmetic


def settled(norm):
    """Statistics and parameters that a training would leave, a negative and a zero scale among them."""
    rng = np.random.default_rng(3)
    n = norm.num_features
    with torch.no_grad():
        norm.running_mean.copy_(torch.tensor(rng.normal(size=n)))
        norm.running_var.copy_(torch.tensor(rng.random(n) + 0.2))
        if norm.affine:
            norm.weight.copy_(torch.tensor([-1.1, 0.0, *rng.normal(size=n)][:n]))
            norm.bias.copy_(torch.tensor(rng.normal(size=n)))
    return norm


POSITIONS = {
    "before a QuantReLU": lambda: [
        QuantIdentity(spec=SPEC), QuantLinear(4, 5, spec=SPEC), nn.BatchNorm1d(5), QuantReLU(spec=SPEC)],
    "before a relu and a quantizer": lambda: [
        QuantIdentity(spec=SPEC), QuantLinear(4, 5, spec=SPEC), nn.BatchNorm1d(5), nn.ReLU(), QuantIdentity(spec=SPEC)],
    "twice, with a float bias": lambda: [
        QuantIdentity(spec=SPEC), QuantLinear(4, 5, spec=UNBIASED), nn.BatchNorm1d(5), nn.BatchNorm1d(5, affine=False),
        QuantIdentity(spec=SPEC)],
    "on the input, before a layer": lambda: [
        QuantIdentity(spec=SPEC), nn.BatchNorm1d(4), QuantIdentity(spec=SPEC), QuantLinear(4, 5, spec=SPEC),
        QuantIdentity(spec=SPEC)],
    "after a QuantReLU": lambda: [
        QuantIdentity(spec=SPEC), QuantLinear(4, 5, spec=SPEC), QuantReLU(spec=SPEC), nn.BatchNorm1d(5),
        QuantIdentity(spec=SPEC), QuantLinear(5, 2, spec=SPEC)],
}  # fmt: skip


@pytest.mark.parametrize("position", POSITIONS)
def test_batch_norm(position):
    model = calibrated(nn.Sequential(*POSITIONS[position]()), (4,))
    for module in model:
        if isinstance(module, nn.BatchNorm1d):
            settled(module)
    graph = check(model, (4,))
    assert Requantize in kinds(graph) and Requantize not in kinds(run(graph))


def test_batch_norm_over_two_axes_normalises_channels():
    model = calibrated(nn.Sequential(
        QuantIdentity(spec=SPEC), nn.BatchNorm1d(3), QuantIdentity(spec=SPEC),
        nn.Flatten(), QuantLinear(12, 2, spec=SPEC),
    ), (3, 4))  # fmt: skip
    settled(model[1])
    check(model, (3, 4))


def test_the_rational_map_is_the_one_of_the_user():
    """Scale and offset of the Requantize, by hand."""
    model = calibrated(nn.Sequential(*POSITIONS["before a QuantReLU"]()), (4,))
    norm = settled(model[2])
    q = next(op for op in lower(model, (4,)) if isinstance(op, Requantize))
    for c in range(5):
        inverse = Fraction(float(1 / np.sqrt(norm.running_var.double().numpy()[c] + norm.eps)))
        gamma, beta, mean = (Fraction(v[c].item()) for v in (norm.weight, norm.bias, norm.running_mean))
        assert q.scale[c] == gamma * inverse
        assert q.offset[c] == beta - gamma * inverse * mean


@pytest.mark.parametrize("per_channel", [False, True])
def test_plain_brevitas_layers_with_float_scales(per_channel):
    model = calibrated(nn.Sequential(
        QuantIdentity(spec=SPEC),
        bnn.QuantLinear(6, 5, bias=True, weight_bit_width=4, weight_scaling_per_output_channel=per_channel),
        bnn.QuantReLU(bit_width=4),
        bnn.QuantLinear(5, 3, bias=False, weight_bit_width=6, weight_scaling_per_output_channel=per_channel),
        bnn.QuantIdentity(bit_width=6),
        bnn.QuantLinear(3, 4, bias=True, weight_bit_width=3, weight_scaling_per_output_channel=per_channel),
        QuantIdentity(spec=SPEC),
    ), (6,))  # fmt: skip
    graph = check(model, (6,))
    scales = {s for op in graph if isinstance(op, Requantize) for s in op.scale}
    assert any(s.denominator & (s.denominator - 1) == 0 and s.numerator > 1 for s in scales) or len(scales) > 1
    relu = activation_of(model[2])
    q = next(op for op in graph if isinstance(op, Requantize))
    assert q.output.format == FixedPoint(4, 0, False)
    weight = weight_of(model[1])
    assert len(weight.scale) == (5 if per_channel else 1)
    assert q.scale == tuple(s / relu.scale for s in (weight.scale * 5)[:5])


def test_an_output_with_a_binary_scale_or_a_float_bias_is_exact():
    """No quantizer at the end, but every number is a binary fraction of few bits."""
    layers = QuantIdentity(spec=SPEC), QuantLinear(4, 3, spec=SPEC), nn.BatchNorm1d(3)
    model = calibrated(nn.Sequential(*layers), (4,))
    model[2].eps = 0
    with torch.no_grad():
        model[2].running_var.copy_(torch.tensor([0.25, 4.0, 1.0]))
        model[2].running_mean.copy_(torch.tensor([0.5, -3.0, 0.0]))
        model[2].weight.copy_(torch.tensor([1.5, -0.75, 1.0]))
        model[2].bias.copy_(torch.tensor([0.125, 40.0, 0.0]))
    graph = check(model, (4,))
    assert kinds(graph)[-1] is Affine and graph.ops[-1].output.format.width < 40


def test_an_exact_output_that_fills_its_format_does_not_wrap():
    """Unsigned activation, positive scale and offset: the sum carries into a bit more than either has."""
    model = nn.Sequential(
        QuantIdentity(spec=QuantSpec(input_width=2, input_frac=0, input_signed=False)), nn.BatchNorm1d(1, eps=0)
    ).eval()
    with torch.no_grad():
        model[1].weight.fill_(3.0)
        model[1].bias.fill_(15.0)
    graph = lower(model, (1,))
    y = graph.outputs[0].format.values(run(graph).eval([[0], [1], [2], [3]]))
    assert y.ravel().tolist() == [15, 18, 21, 24]
