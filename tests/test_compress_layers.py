"""The quantized layers: their specification, their training, their state."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from compress.fixed import FixedPoint, encode
from compress.layers import (
    Kind,
    QuantIdentity,
    QuantLinear,
    QuantReLU,
    QuantSpec,
    UncalibratedQuantizer,
    calibrate,
    format_of,
    kind,
    weight_of,
)
from compress.mask import apply_masks

SIX = QuantSpec(weight_width=6, bias_width=12, activation_width=6, input_width=10)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def mlp(spec: QuantSpec = SIX, lean: bool = True) -> nn.Sequential:
    return nn.Sequential(
        QuantIdentity(spec=spec, lean=lean),
        QuantLinear(6, 8, spec=spec, lean=lean),
        nn.BatchNorm1d(8),
        QuantReLU(spec=spec, lean=lean),
        QuantLinear(8, 3, spec=spec, lean=lean),
    )


def train(model: nn.Module, steps: int = 20) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    rng = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(steps):
        x = torch.randn(64, 6, generator=rng)
        loss = nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long() + (x[:, 1] > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_misspelt_argument_of_a_layer_is_refused():
    with pytest.raises(TypeError, match="weight_bit_width"):
        QuantLinear(2, 2, weight_bit_width=3)


# --- training and state -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SIX, QuantSpec(weight_width=3, activation_width=1), QuantSpec(bias_width=None)])
def test_training_equals_brevitas_step_by_step(spec):
    runs = []
    for lean in (True, False):
        torch.manual_seed(5)
        model = mlp(spec, lean)
        losses = train(model)
        runs.append((losses, model.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert runs[0][0][-1] < runs[0][0][0]
    for name, value in runs[0][1].items():
        assert torch.equal(value, runs[1][1][name]), name


def test_ranges_are_learned():
    model = mlp()
    train(model, 1)
    before = model[3].log2_range.item()
    train(model, 30)
    assert model[3].log2_range.item() != before


def test_every_key_of_the_state_is_there_from_the_start_and_restores_exactly():
    model = mlp()
    keys = set(model.state_dict())
    fresh = copy.deepcopy(model.state_dict())
    train(model)
    trained = copy.deepcopy(model.state_dict())
    assert set(trained) == keys
    other = mlp()
    other.load_state_dict(trained)
    x = torch.randn(50, 6)
    assert torch.equal(other.eval()(x), model.eval()(x))
    model.load_state_dict(fresh)
    with pytest.raises(UncalibratedQuantizer):
        model.eval()(x)


def test_restoring_a_state_keeps_parameters_and_float_type():
    """Brevitas would make new float32 parameters here, which an optimiser made before does not know."""
    model = mlp().double()
    calibrate(model, torch.randn(20, 6, dtype=torch.float64))
    parameters = {name: id(p) for name, p in model.named_parameters()}
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    assert {name: id(p) for name, p in model.named_parameters()} == parameters
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_the_first_training_batch_calibrates_and_later_ones_do_not():
    relu = QuantReLU(spec=SIX)
    assert not relu.calibrated
    relu(torch.zeros(4, 4))
    assert not relu.calibrated, "a batch of zeros says nothing"
    relu(torch.rand(100) * 3)
    assert relu.calibrated and relu.log2_range.item() == 1.5
    relu(torch.rand(100) * 300)
    assert relu.log2_range.item() == 1.5


def test_calibration_takes_the_range_of_least_squared_error():
    x = torch.randn(4000)
    for width in (2, 3, 6, 10, 16):
        layer = QuantIdentity(spec=QuantSpec(input_width=width))
        layer(x)
        found = layer.log2_range.item()
        errors = {}
        for candidate in range(-4, 6):
            nn.init.constant_(layer.log2_range, candidate - 0.5)
            errors[candidate - 0.5] = (layer(x) - x).square().sum().item()
        assert found == min(errors, key=errors.get)


def test_calibration_on_numbers_that_are_none_is_refused():
    with pytest.raises(ValueError, match="QuantReLU: cannot calibrate on NaN or infinite activations"):
        QuantReLU()(torch.tensor([1.0, float("nan")]))


def test_an_uncalibrated_layer_refuses_to_evaluate():
    with pytest.raises(UncalibratedQuantizer, match=r"QuantReLU: its range has not seen any data yet; train"):
        QuantReLU().eval()(torch.ones(2))


def test_explicit_calibration():
    model = mlp().eval()
    model[2].train()
    statistics = copy.deepcopy(model[2].state_dict())
    x = torch.randn(100, 6)
    calibrate(model, x)
    assert model[0].calibrated and model[3].calibrated
    assert [m.training for m in model] == [False, False, True, False, False]
    assert all(torch.equal(v, statistics[k]) for k, v in model[2].state_dict().items())
    once = model[3].log2_range.item()
    calibrate(model, x * 16)
    assert model[3].log2_range.item() > once, "explicit calibration replaces the range"
    assert not model[3]._forward_pre_hooks


@pytest.mark.parametrize("order", [1, -1])
def test_a_layer_that_is_called_twice_is_calibrated_on_all_that_enters_it(order):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = QuantIdentity(spec=QuantSpec(input_width=8))

        def forward(self, x):
            parts = [x, x / 64][::order]
            return self.shared(parts[0]) + self.shared(parts[1])

    alone, model, x = QuantIdentity(spec=QuantSpec(input_width=8)), Twice(), torch.linspace(-8, 8, 100)[:, None]
    calibrate(alone, torch.cat([x, x / 64]))
    calibrate(model, x)
    assert model.shared.log2_range == alone.log2_range


def test_calibration_names_the_layers_it_cannot_set():
    model = mlp()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.fill_(-1)
    with pytest.raises(UncalibratedQuantizer, match=r"^3: the calibration batch of 10 rows brings no activation"):
        calibrate(model, torch.randn(10, 6))


def test_a_constant_format_needs_no_data():
    spec = QuantSpec(activation_width=6, activation_frac=3, input_width=8, input_frac=-2, weight_width=8, weight_frac=5)
    model = mlp(spec)
    assert model[3].log2_range is None
    x = torch.randn(30, 6, dtype=torch.float64) * 50
    model = model.double().eval()
    expected = encode(x.numpy(), FixedPoint(8, -2)) * 4.0
    assert np.array_equal(model[0](x).numpy(), expected)
    assert format_of(model[1]) == FixedPoint(8, 5) and format_of(model[3]) == FixedPoint(6, 3, signed=False)


def test_masked_weights_stay_exactly_zero():
    model = mlp()
    mask = torch.rand(8, 6) > 0.7
    apply_masks(model, {"1.weight": mask})
    train(model)
    copied = copy.deepcopy(model)
    for layer in (model[1], copied[1]):
        assert kind(layer) is Kind.LINEAR
        assert (weight_of(layer).codes[~mask.numpy()] == 0).all()
        assert (layer.weight[~mask] == 0).all()
        assert np.count_nonzero(weight_of(layer).codes) > 0


def test_brevitas_tools_are_not_bypassed():
    model = mlp()
    train(model)
    x = torch.randn(10, 6)
    model.eval()
    quantized = model[1](x)
    model[1].weight_quant.disable_quant = True
    assert torch.equal(model[1](x), nn.functional.linear(x, model[1].weight, model[1].quant_bias().value))
    model[1].weight_quant.disable_quant = False
    assert torch.equal(model[1](x), quantized)
    model[3].act_quant.disable_quant = True
    assert torch.equal(model[3](x), x.relu())


def test_half_precision_goes_through_brevitas():
    relu = QuantReLU(spec=replace(SIX, activation_frac=4))
    y = relu(torch.tensor([0.3, -1.0, 9.0], dtype=torch.bfloat16))
    assert torch.equal(y.float(), torch.tensor([0.3125, 0.0, 3.9375]))


def test_a_model_prints_as_one_line_per_layer():
    assert str(mlp()).splitlines()[1:3] == [
        "  (0): QuantIdentity(10-bit signed, learned range)",
        "  (1): QuantLinear(6, 8, 6-bit weights, 12-bit bias)",
    ]
    assert repr(QuantReLU(spec=replace(SIX, activation_frac=2))) == "QuantReLU(6-bit unsigned, 2 fraction bits)"
    assert repr(QuantLinear(1, 2, bias=False)) == "QuantLinear(1, 2, 8-bit weights, no bias)"
