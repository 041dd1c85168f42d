"""Layers with learned widths: the gradients they claim, and frozen networks that are the same to the last bit."""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from compress.fixed import FixedPoint, Overflow, Rounding, cast, encode
from compress.learned import FrozenActivation, Granularity, LearnedActivation, LearnedLinear, freeze, learn_precision
from compress.learned.chain import Chain
from compress.learned.cost import surrogate_ebops
from compress.learned.frozen import FrozenLinear, finest_grid
from compress.learned.surrogate import bits, fit_activation, round_parameter
from compress.readout import ChannelFormats, QuantizedArray, UnreadableQuantizer

GRANULARITIES = pytest.mark.parametrize("granularity", list(Granularity), ids=lambda g: g.value)
LN2 = math.log(2.0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1)),
        *(nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)),
    )
    net(1.5 * torch.randn(200, 6) + 0.3)  # batch norm has something to fold
    return net


def inputs(rows: int = 300) -> torch.Tensor:
    return 1.5 * torch.randn(rows, 6, generator=torch.Generator().manual_seed(1))


def learned(granularity: Granularity = Granularity.WEIGHT, spread: float = 1.0) -> nn.Sequential:
    """In float64, its widths scattered so that some weights and some channels have none."""
    model = learn_precision(network(), inputs(), granularity).double()
    with torch.no_grad():
        for module in model:
            names = ("weight_frac", "bias_frac") if isinstance(module, LearnedLinear) else ("frac", "integer")
            for name in names:
                parameter = getattr(module, name)
                parameter.sub_(1.5 * spread).add_(spread * torch.randn_like(parameter))
    return model


def labels(rows: int = 300) -> torch.Tensor:
    return torch.randint(0, 3, (rows,), generator=torch.Generator().manual_seed(2))


def test_a_generous_start_is_nearly_the_float_network():
    net, x = network(), inputs()
    model = learn_precision(net, x, weight_frac=12, activation_frac=12)
    assert torch.allclose(model.eval()(x), net.eval()(x), atol=0.3)
    assert (model(x).argmax(1) == net(x).argmax(1)).double().mean() > 0.97


@GRANULARITIES
def test_the_lean_step_finds_autograds_gradient(granularity):
    model, x, y = learned(granularity), inputs().double(), labels()
    reference = copy.deepcopy(model)
    loss = nn.functional.cross_entropy(reference(x), y) + 1e-3 * surrogate_ebops(reference)
    loss.backward()

    chain = Chain(model)
    addresses = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    scores = chain.find_gradient(x, y, price=1e-3)
    assert torch.equal(scores, reference(x))
    start = chain.vector.data_ptr()
    for name, parameter in reference.named_parameters():
        at = (addresses[name] - start) // 8
        found = chain.gradient[at : at + parameter.numel()].view_as(parameter)
        torch.testing.assert_close(found, parameter.grad, rtol=1e-9, atol=1e-13)
        assert parameter.grad.abs().sum() > 0, name


def test_a_step_is_adams():
    model, x, y = learned(), inputs().double(), labels()
    reference = copy.deepcopy(model)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    chain = Chain(model)
    for _ in range(5):
        optimizer.zero_grad()
        (nn.functional.cross_entropy(reference(x), y) + 1e-3 * surrogate_ebops(reference)).backward()
        optimizer.step()
        chain.step(x, y, price=1e-3, rate=0.01)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, dict(reference.named_parameters())[name], rtol=1e-6, atol=1e-9)


def test_held_gradients_of_activation_widths_are_those_of_the_last_full_step():
    model, x, y = learned(), inputs().double(), labels()
    chain = Chain(model)
    chain.find_gradient(x, y, 1e-3)
    widths = sum(layer.frac.numel() + layer.integer.numel() for layer in model[::2])
    held, moving = chain.gradient[-widths:].clone(), chain.gradient[:-widths].clone()
    chain.find_gradient(-x, y, 1e-3, with_activations=False)
    assert torch.equal(chain.gradient[-widths:], held) and not torch.equal(chain.gradient[:-widths], moving)


def test_the_gradient_of_a_parameters_width():
    weight = torch.tensor([0.3, -0.8, 0.04], dtype=torch.float64)
    frac = torch.tensor([2.0, 3.2, 1.0], dtype=torch.float64, requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)
    (round_parameter(weight, frac) * upstream).sum().backward()
    rounded = torch.tensor([0.25, -0.75, 0.0], dtype=torch.float64)
    assert torch.equal(round_parameter(weight, frac), rounded)
    torch.testing.assert_close(frac.grad, LN2 * (weight - rounded) * upstream)


@pytest.mark.parametrize("signed", [False, True])
def test_beyond_the_range_the_gradients_are_finite_differences(signed):
    """There the result is an end of the range, a smooth function of widths that need not be whole."""
    frac, integer = torch.tensor([2.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    ends = {5.0: lambda f, i: 2.0**i - 2.0**-f}
    if signed:
        ends[-5.0] = lambda f, i: -(2.0**i)
    for x, end in ends.items():
        f, i = frac.clone().requires_grad_(), integer.clone().requires_grad_()
        value = fit_activation(torch.tensor([[x]], dtype=torch.float64), f, i, signed)
        assert value.item() == end(2.0, 1.0)
        value.backward()
        step = 1e-6
        by_f = (end(2.0 + step, 1.0) - end(2.0 - step, 1.0)) / (2 * step)
        by_i = (end(2.0, 1.0 + step) - end(2.0, 1.0 - step)) / (2 * step)
        assert f.grad.item() == pytest.approx(by_f) and i.grad.item() == pytest.approx(by_i)


def test_inside_the_range_gradients_pass_and_widths_feel_the_error():
    x = torch.tensor([[0.3, -0.2], [0.6, 9.0]], dtype=torch.float64, requires_grad=True)
    frac = torch.tensor([1.0, 1.0], dtype=torch.float64, requires_grad=True)
    integer = torch.tensor([1.0, 1.0], dtype=torch.float64, requires_grad=True)
    result = fit_activation(x, frac, integer, signed=False)
    assert result.tolist() == [[0.5, 0.0], [0.5, 1.5]]
    result.sum().backward()
    assert x.grad.tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert frac.grad[0].item() == pytest.approx(LN2 * ((0.3 - 0.5) + (0.6 - 0.5)))
    assert integer.grad[0].item() == 0.0


def test_the_cost_has_the_gradient_it_states():
    """One for one where a code is not zero, priced by the width it meets; nothing for weights."""
    model = learned()
    surrogate_ebops(model).backward()
    first, second = model[0], model[1]
    codes = (second.weight * torch.exp2(second.weight_frac.round())).round()
    expected = (codes != 0) * first.widths
    assert torch.equal(second.weight_frac.grad, expected.to(expected.dtype))
    columns = bits(codes).sum(0) * (first.widths > 0)
    assert torch.equal(first.frac.grad, columns) and torch.equal(first.integer.grad, columns)
    assert second.weight.grad is None or not second.weight.grad.any()


@GRANULARITIES
def test_freezing_changes_no_bit(granularity):
    model, x = learned(granularity).eval(), inputs().double()
    frozen = freeze(model)
    with torch.no_grad():
        assert torch.equal(frozen(x), model(x)) and frozen(x).unique().numel() > 20
    assert not list(frozen.parameters())


def test_a_frozen_network_is_integer_arithmetic():
    model, x = learned(), inputs(50).double()
    frozen = freeze(model)
    values = x.numpy().astype(object)
    for layer in frozen:
        if isinstance(layer, FrozenActivation):
            columns = []
            for channel, format in enumerate(layer.channel_formats().formats):
                if format is None:
                    columns.append([Fraction(0)] * len(values))
                    continue
                exact = [Fraction(value) for value in values[:, channel]]
                denominator = max(value.denominator for value in exact)
                codes = np.array([int(value * denominator) for value in exact], dtype=object)
                fitted = cast(codes, denominator.bit_length() - 1, format, Rounding.RND_CONV, Overflow.SAT)
                columns.append([int(code) * format.lsb for code in fitted])
            values = np.array(columns, dtype=object).T
        else:
            weight, bias = layer.weight_codes(), layer.bias_codes()
            values = values @ (weight.codes.astype(object).T * weight.scale[0])
            values = values + (bias.codes.astype(object) * bias.scale[0] if bias is not None else 0)
    with torch.no_grad():
        assert (values.astype(np.float64) == frozen(x).numpy()).all()


def test_float32_and_float64_round_alike():
    model = learned().float().eval()
    with torch.no_grad():
        single = model[1](model[0](inputs()))
        double = copy.deepcopy(model).double()[:2](inputs().double())
    assert torch.equal(single.double(), double)


def test_width_zero_is_pruned():
    model, x = learned(), inputs().double()
    with torch.no_grad():
        model[2].integer.fill_(-8.0)  # every hidden channel of the first layer
        model[1].weight_frac[0] = -20.0
    frozen = freeze(model)
    assert frozen[2].channel_formats().formats == (None,) * 8
    assert not frozen[1].weight_codes().codes[0].any()
    assert not frozen[2](frozen[1](frozen[0](x))).any()


def test_a_signed_channel_without_bits_has_no_sign_either():
    activation = LearnedActivation(2, signed=True)
    with torch.no_grad():
        activation.frac.copy_(torch.tensor([1.0, -1.0]))
        activation.integer.copy_(torch.tensor([0.0, 1.0]))
        result = activation(torch.tensor([[-3.0, -3.0], [3.0, 3.0]]))
    assert result.tolist() == [[-1.0, 0.0], [0.5, 0.0]]
    assert activation.freeze().channel_formats().formats == (FixedPoint(2, 1), None)


def test_frozen_activations_are_the_fixed_point_casts():
    formats = (FixedPoint(3, 1, False), None, FixedPoint(5, 6, False))
    layer = FrozenActivation(formats, rectify=True)
    x = 3 * torch.randn(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[:3] = torch.tensor([[0.25, 1.0, 2.0**-7], [0.75, 1.0, 3 * 2.0**-7], [9.0, 9.0, 9.0]])  # ties and an overflow
    result = layer(x)
    assert layer.channel_formats() == ChannelFormats(formats, Rounding.RND_CONV, Overflow.SAT)
    for channel, format in enumerate(formats):
        expected = np.zeros(500) if format is None else format.values(encode(x[:, channel].numpy(), format))
        assert (result[:, channel].numpy() == expected).all()


def test_channels_are_the_second_axis():
    layer = FrozenActivation((FixedPoint(2, 0, False), None), rectify=True)
    assert layer(torch.full((4, 2, 3), 2.2)).unique(dim=0).tolist() == [[[2.0] * 3, [0.0] * 3]]


@pytest.mark.parametrize(
    ("values", "codes", "scale"),
    [
        ([0.75, -2.0, 0.0], [3, -8, 0], Fraction(1, 4)),
        ([12.0, 8.0], [3, 2], Fraction(4)),
        ([0.0, 0.0], [0, 0], Fraction(1)),
    ],
)
def test_the_finest_grid_is_no_finer_than_needed(values, codes, scale):
    array = finest_grid(np.array(values))
    assert array.codes.tolist() == codes and array.scale == (scale,)


def test_batch_norm_is_folded():
    net, x = network().eval(), inputs()
    model = learn_precision(net, x)
    with torch.no_grad():
        expected = net[1](net[0](x))
        folded = nn.functional.linear(x, model[1].weight, model[1].bias)
    torch.testing.assert_close(folded, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)], "1: a Tanh does not fit here"),
        ([nn.Linear(6, 4), nn.Linear(4, 3)], "1: a Linear does not fit here"),
        ([nn.Linear(6, 4), nn.ReLU()], "put no ReLU behind its last layer"),
        ([nn.Linear(5, 4)], r"0: takes 5 features, what comes in has shape torch.Size\(\[6\]\)"),
        ([], "have one"),
    ],
)
def test_what_cannot_be_learned_is_refused_by_name(modules, message):
    with pytest.raises(ValueError, match=message):
        learn_precision(nn.Sequential(*modules), inputs())


def test_other_errors_name_the_thing():
    with pytest.raises(ValueError, match="x: NaN or infinite features"):
        learn_precision(network(), torch.full((3, 6), math.nan))
    with pytest.raises(ValueError, match="0: a Linear has no learned widths"):
        freeze(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="0: a LearnedActivation is needed here, got a LearnedLinear"):
        surrogate_ebops(nn.Sequential(LearnedLinear(nn.Linear(2, 2))))
    with pytest.raises(ValueError, match="give it unsigned formats"):
        FrozenActivation((FixedPoint(3, 1),), rectify=True)
    with pytest.raises(UnreadableQuantizer, match="signed and unsigned channels"):
        FrozenActivation((FixedPoint(3, 1), FixedPoint(3, 1, False)), rectify=False)
    with pytest.raises(ValueError, match=r"2 channels have a format, got activations of shape \(4, 3\)"):
        FrozenActivation((None, FixedPoint(3, 1)), rectify=False)(torch.zeros(4, 3))
    weight = QuantizedArray(np.zeros((2, 3), dtype=np.int64), (Fraction(1),), 2, True)
    with pytest.raises(ValueError, match=r"a bias of shape \(3,\) for 2 outputs"):
        FrozenLinear(weight, QuantizedArray(np.zeros(3, dtype=np.int64), (Fraction(1),), 2, True))
    broken = learned()
    with torch.no_grad():
        broken[3].weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="3: 1 of 56 values are NaN or infinite"):
        freeze(broken)
