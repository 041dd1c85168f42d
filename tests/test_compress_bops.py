"""Bit operations: the known values of the jet network, and where widths and zeros come from."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from compress.bops import bops, layer_bops
from compress.fixed import FixedPoint
from compress.layers import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU, QuantSpec, calibrate
from compress.mask import apply_masks
from compress.quantize import quantize

JET = ((16, 64), (64, 32), (32, 32), (32, 5))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def jet() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in JET[:-1]:
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(*JET[-1]))


def spec(width: int) -> QuantSpec:
    return QuantSpec(weight_width=width, activation_width=width, input_width=width)


def masked(model: nn.Module, fraction: float) -> nn.Module:
    """The first ``fraction`` of every weight matrix pruned, rounded to whole weights."""
    masks = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            kept = torch.ones(module.weight.numel(), dtype=torch.bool)
            kept[: round(fraction * kept.numel())] = False
            masks[f"{name}.weight"] = kept.view_as(module.weight)
    apply_masks(model, masks)
    return model


def test_the_float_network():
    report = bops(jet(), input_width=32)
    assert report.total == 4_652_832 and report.input_width == 32
    assert [(r.inputs, r.outputs) for r in report.layers] == list(JET)
    assert {(r.activation_width, r.weight_width) for r in report.layers} == {(32, 32)}


def test_the_six_bit_network():
    model = quantize(jet(), spec(6))
    report = bops(model)
    assert report.total == 226_592 and report.input_width == 6
    assert bops(model, input_width=6) == report


@pytest.mark.parametrize(("width", "known"), [(6, 104_019), (4, 69_971)])
def test_pruned_networks(width, known):
    """The known values are for 80 % pruned to the fraction; a mask prunes whole weights."""
    assert round(sum(layer_bops(n, m, width, width, 0.8) for n, m in JET)) == known
    report = bops(masked(quantize(jet(), spec(width)), 0.8))
    whole = [round(0.8 * n * m) / (n * m) for n, m in JET]
    expected = [layer_bops(n, m, width, width, f) for (n, m), f in zip(JET, whole, strict=True)]
    assert [row.bops for row in report.layers] == expected
    assert [row.masked for row in report.layers] == whole
    assert abs(report.total - known) < 50


def test_a_mask_counts_as_pruning_and_rounding_to_zero_does_not():
    layer = QuantLinear(4, 4, spec=spec(4))
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.weight[0] = 0.0
        layer.weight[1:3] = 1e-3
    row = bops(nn.Sequential(QuantIdentity(spec=spec(4)), layer)).layers[0]
    assert (row.masked, row.rounded) == (0.25, 0.5)
    assert row.bops == 4 * 4 * (0.75 * 4 * 4 + 4 + 4 + 2)


def test_widths_follow_the_data():
    model = nn.Sequential(
        QuantIdentity(spec=QuantSpec(input_width=12)),
        nn.Flatten(),
        QuantLinear(8, 8, spec=QuantSpec(weight_width=5)),
        QuantReLU(spec=QuantSpec(activation_width=3)),
        nn.Identity(),
        nn.Linear(8, 8),
        nn.ReLU(),
        QuantLinear(8, 2, spec=QuantSpec(weight_width=7)),
    )
    rows = bops(model).layers
    assert [(r.name, r.activation_width, r.weight_width) for r in rows] == [("2", 12, 5), ("5", 3, 32), ("7", 32, 7)]


def test_a_layer_called_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x).view(-1, 4))

    report = bops(Twice(), input_width=8)
    assert [(r.name, r.activation_width) for r in report.layers] == [("fc", 8), ("fc", 32)]


def test_the_input_width_is_stated():
    with pytest.raises(ValueError, match=r"Sequential does not quantize its input, so the width of that must be given"):
        bops(jet())
    with pytest.raises(ValueError, match=r"input_width=8, but the model quantizes its input to 6 bits; leave"):
        bops(quantize(jet(), spec(6)), input_width=8)


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match=r"^0: the bit operations of a ConvTranspose2d are not known here"):
        bops(nn.Sequential(nn.ConvTranspose2d(1, 1, 3)), input_width=8)
    with pytest.raises(ValueError, match=r"^linear: a functional product cannot be counted; make it an nn\.Linear"):
        bops(nn.Linear(2, 2), input_width=8)


def test_the_report_is_a_table():
    model = nn.Sequential(QuantIdentity(spec=spec(6)), QuantLinear(16, 64, spec=spec(6)))
    with torch.no_grad():
        model[1].weight.fill_(1.0)
        model[1].weight[:, 0] = 1e-6
    assert str(bops(masked(model, 0.5))).splitlines() == [
        "layer                   size  b_a  b_w  masked  rounded to 0    BOPs",
        "--------------------------------------------------------------------",
        "1                   16 -> 64    6    6   50.0%          3.1%  34,816",
        "total, 6-bit input                                            34,816",
    ]


def test_a_convolution_counts_at_every_position():
    """By hand: 3x3 kernels on 5 of 10 channels in two groups, a padded 9x7 picture with stride 2."""
    model = nn.Sequential(
        QuantIdentity(spec=spec(6)),
        QuantConv2d(10, 4, 3, stride=2, padding=1, groups=2, spec=spec(5)),
        QuantReLU(spec=spec(3)),
        nn.MaxPool2d(2),
        nn.Flatten(),
        QuantLinear(4 * 2 * 2, 2, spec=spec(4)),
    )
    convolution, dense = bops(model, input_shape=(10, 9, 7)).layers
    n = 5 * 3 * 3
    assert (convolution.inputs, convolution.outputs, convolution.positions) == (n, 4, 5 * 4)
    assert convolution.bops == 20 * 4 * n * (6 * 5 + 6 + 5 + math.log2(n))
    assert (dense.inputs, dense.outputs, dense.positions, dense.activation_width) == (16, 2, 1, 3)
    assert "45 -> 4 x 20" in str(bops(model, input_shape=(10, 9, 7)))


@pytest.mark.parametrize(
    ("layer", "shape", "positions"),
    [
        (nn.Conv1d(2, 3, 3), (2, 12), 10),
        (nn.Conv1d(2, 3, 3, dilation=4), (2, 12), 4),
        (nn.Conv2d(2, 3, (1, 3), padding="same"), (2, 6, 5), 30),
        (nn.Conv2d(2, 2, 3, groups=2), (2, 6, 5), 12),
        (nn.Linear(5, 3), (4, 6, 5), 24),
        (nn.Linear(5, 3), (5,), 1),
        (QuantConv2d(2, 3, 3, stride=2, padding="same"), (2, 5, 8), 12),
    ],
)
def test_the_positions_of_a_layer_are_those_of_its_output(layer, shape, positions):
    report = bops(nn.Sequential(layer), input_width=8, input_shape=shape)
    assert report.layers[0].positions == positions
    made = layer.train()(torch.randn(2, *shape))
    assert positions == made[0].numel() // report.layers[0].outputs


def test_a_convolution_needs_the_input_shape():
    model = nn.Sequential(nn.Conv2d(1, 1, 3))
    with pytest.raises(
        ValueError, match=r"^0: how often a convolution .*bops\(model, input_shape=\(channels, height, width\)"
    ):
        bops(model, input_width=8)
    with pytest.raises(ValueError, match=r"^0: the input shape given does not fit"):
        bops(model, input_width=8, input_shape=(2, 9, 9))


def test_counting_leaves_an_uncalibrated_model_alone():
    model = quantize(
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(40, 2)), spec(6)
    )
    before = copy.deepcopy(model.state_dict())
    report = bops(model, input_shape=(2, 12))
    assert [(row.positions, row.activation_width) for row in report.layers] == [(10, 6), (1, 6)]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class Branches(nn.Module):
    """A sum and a concatenation that linear layers read without a quantizer in between."""

    def __init__(self):
        super().__init__()
        fixed = QuantSpec(input_width=8, input_frac=4, activation_width=6, activation_frac=4, weight_width=5)
        self.input = QuantIdentity(spec=fixed)
        self.relu = QuantReLU(spec=fixed)
        self.wide = QuantReLU(spec=QuantSpec(activation_width=7, activation_frac=1))
        self.of_sum, self.of_cat = QuantLinear(4, 2, spec=fixed), QuantLinear(8, 2, spec=fixed)

    def forward(self, x):
        x = self.input(x)
        return self.of_sum(self.relu(x) + self.wide(x)), self.of_cat(torch.cat([self.relu(x), self.wide(x)], 1))


def test_a_sum_has_its_exact_width_and_a_concatenation_the_widest():
    """0 to 63/16 and 0 to 127/2: the sum reaches 1079/16, which is 11 bits."""
    rows = {row.name: row.activation_width for row in bops(Branches()).layers}
    assert rows == {"of_sum": 11, "of_cat": 7}


def test_a_sum_without_a_format_is_refused():
    model = Branches()
    model.wide = QuantReLU(spec=spec(7))
    with pytest.raises(
        ValueError, match=r"^of_sum: reads the sum add, whose width is not known before .*; calibrate or train"
    ):
        bops(model)
    calibrate(model, torch.linspace(-4, 4, 20).view(5, 4))
    assert {row.name for row in bops(model).layers} == {"of_sum", "of_cat"}


def test_what_a_linear_layer_states_of_its_result_counts():
    model = nn.Sequential(
        QuantIdentity(spec=spec(6)),
        QuantLinear(4, 4, spec=QuantSpec(output_width=9)),
        QuantLinear(4, 4, spec=QuantSpec(accumulator=FixedPoint(13, 4))),
        nn.Dropout(0.5),
        QuantLinear(4, 4, spec=spec(5)),
        QuantLinear(4, 4, spec=spec(5)),
    )
    assert [row.activation_width for row in bops(model).layers] == [6, 9, 13, 32]


def test_binary_and_ternary_weights():
    torch.manual_seed(1)
    binary, ternary = (QuantSpec(weight_width=width, input_width=1) for width in (1, 2))
    model = nn.Sequential(QuantIdentity(spec=binary), QuantLinear(4, 8, spec=binary), QuantLinear(8, 4, spec=ternary))
    with torch.no_grad():
        model[1].weight[0, 0] = 0.0  # quantizes to +1, and so is no weight less
        model[2].weight.copy_(torch.tensor([1.0, 1.0, 1e-3, 0.0]).repeat(8).view(4, 8))
    first, second = bops(model).layers
    assert (first.activation_width, first.weight_width, first.masked, first.rounded) == (1, 1, 0.0, 0.0)
    assert first.bops == 8 * 4 * (1 + 1 + 1 + 2)
    assert (second.weight_width, second.masked, second.rounded) == (2, 0.25, 0.25)


def test_scales_per_channel_change_no_count():
    both = [
        nn.Sequential(QuantIdentity(spec=s), QuantLinear(4, 8, spec=s))
        for s in (spec(4), replace(spec(4), weight_per_channel=True))
    ]
    with torch.no_grad():
        for model in both:
            model[1].weight.fill_(1.0)
            model[1].weight[0] = 1e-3  # nothing beside the other channels, everything in its own
    tensor, channel = (bops(model) for model in both)
    assert tensor.total == channel.total and (tensor.layers[0].rounded, channel.layers[0].rounded) == (1 / 8, 0.0)
