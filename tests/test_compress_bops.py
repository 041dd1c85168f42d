"""Bit operations: the known values of the jet network, and where widths and zeros come from."""

import pytest
import torch
from torch import nn

from compress.bops import bops, layer_bops
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec
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
    with pytest.raises(ValueError, match=r"^0: the bit operations of a Conv2d are not known here"):
        bops(nn.Sequential(nn.Conv2d(1, 1, 3)), input_width=8)
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
