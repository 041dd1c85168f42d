"""Effective bit operations, held against a count that looks at every bit of every number."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from compress.bops import bops, layer_bops
from compress.ebops import count, ebops, effective_bits
from compress.fixed import FixedPoint
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec, activation_of, bias_of, weight_of
from compress.learned import FrozenActivation, FrozenLinear, LearnedActivation, LearnedLinear, freeze, learn_precision
from compress.learned.cost import surrogate_ebops
from compress.quantize import quantize
from compress.readout import QuantizedArray


def bits_by_looking(code: int) -> int:
    """From the text of the number: what is left when zeros are taken off both ends."""
    return len(bin(abs(code))[2:].strip("0"))


def by_hand(weight: np.ndarray, activation_bits: list[int], bias: np.ndarray | None) -> int:
    total = 0
    for row in weight.tolist():
        for code, width in zip(row, activation_bits, strict=True):
            total += bits_by_looking(code) * width
    return total + sum(bits_by_looking(code) for code in ([] if bias is None else bias.tolist()))


def array(codes: list) -> QuantizedArray:
    return QuantizedArray(np.array(codes, dtype=np.int64), (Fraction(1, 8),), 8, True)


def test_bits_of_every_code():
    codes = np.arange(-300, 301)
    assert effective_bits(codes).tolist() == [bits_by_looking(code) for code in codes.tolist()]
    assert effective_bits(np.array([[0, 40], [-128, 2**61 + 1]])).tolist() == [[0, 3], [1, 62]]


def test_the_sum_is_over_products():
    weight, activation, bias = np.array([[1, 0, 2], [3, 1, 0]]), np.array([2, 5, 0]), np.array([4, 0])
    assert count(weight, activation) == 1 * 2 + 3 * 2 + 1 * 5
    assert count(weight, activation, bias) == count(weight, activation) + 4


def test_a_frozen_network():
    formats = (FixedPoint(4, 2), None, FixedPoint(6, 5))
    model = nn.Sequential(
        FrozenActivation(formats, rectify=False),
        FrozenLinear(array([[5, 7, 0], [-8, 1, 6]]), array([3, 0])),
        FrozenActivation((FixedPoint(2, 0, False), FixedPoint(3, 1, False)), rectify=True),
        FrozenLinear(array([[1, -3]])),
    )
    first, second = ebops(model).layers
    assert first.activation_bits.tolist() == [3, 0, 5] and second.activation_bits.tolist() == [2, 3]
    assert first.ebops == (3 * 3 + 0 + 0) + (1 * 3 + 0 + 2 * 5) + 2
    assert second.ebops == 1 * 2 + 2 * 3
    assert first.products == 3 and second.products == 2
    assert first.activation_width == 2 + 5  # integer bits of the first channel, fraction bits of the last
    assert first.bops == layer_bops(3, 2, 7, 8, 1 / 6)
    assert ebops(model).total == first.ebops + second.ebops
    assert ebops(model).bops == first.bops + second.bops


def test_learned_networks_against_the_count_by_hand():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4))
    model = learn_precision(net, torch.randn(100, 6))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    frozen = freeze(model)
    expected = 0
    for activation, linear in ((frozen[0], frozen[1]), (frozen[2], frozen[3])):
        formats = activation.channel_formats().formats
        widths = [0 if format is None else format.width - format.signed for format in formats]
        bias = linear.bias_codes()
        expected += by_hand(linear.weight_codes().codes, widths, None if bias is None else bias.codes)
    assert ebops(model).total == ebops(frozen).total == expected > 0
    assert surrogate_ebops(model).item() >= expected


def test_the_surrogate_is_exact_for_odd_codes():
    """It differs from the count by the trailing zeros alone."""
    model = nn.Sequential(LearnedActivation(3, signed=True), LearnedLinear(nn.Linear(3, 2), frac=2.0))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.25, -0.75, 1.25], [1.75, 0.0, -0.25]]))
        model[1].bias.zero_()
    assert surrogate_ebops(model).item() == ebops(model).total == (1 + 2 + 3 + 3 + 1) * 7
    with torch.no_grad():
        model[1].weight[0, 0] = 0.5
    assert surrogate_ebops(model).item() == ebops(model).total + 7


def test_fewer_bits_are_never_dearer():
    torch.manual_seed(0)
    model = learn_precision(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(100, 6))
    costs = []
    for _ in range(9):
        costs.append(ebops(model).total)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("integer"):
                    parameter.sub_(1.0)
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[1]
    assert costs[-1] == int(effective_bits(freeze(model)[1].bias_codes().codes).sum()) + int(
        effective_bits(freeze(model)[3].bias_codes().codes).sum()
    )


def test_ordinary_quantized_networks():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))
    model = quantize(net, QuantSpec(weight_width=4, bias_width=6, activation_width=3, input_width=5))
    model(torch.randn(64, 5))
    report = ebops(model.eval())
    linears = [(name, m) for name, m in model.named_modules() if isinstance(m, QuantLinear)]
    for row, (name, layer), width in zip(report.layers, linears, (4, 3), strict=True):
        assert row.name == name
        weight, bias = weight_of(layer).codes, bias_of(layer).codes
        assert row.ebops == by_hand(weight, [width] * weight.shape[1], bias)
    assert [row.activation_width for row in report.layers] == [row.activation_width for row in bops(model).layers]


def test_binary_activations_count_one_bit():
    spec = QuantSpec(weight_width=3, bias_width=4, input_width=1)
    model = nn.Sequential(QuantIdentity(spec=spec), QuantLinear(3, 2, spec=spec))
    model(torch.randn(20, 3))
    assert type(activation_of(model[0])).__name__ == "BinaryQuantizer"
    assert ebops(model.eval()).layers[0].activation_bits.tolist() == [1, 1, 1]


def test_a_flattened_tensor_keeps_its_bits():
    spec = QuantSpec(activation_width=3, bias_width=4)
    model = nn.Sequential(QuantReLU(spec=spec), nn.Flatten(), QuantLinear(6, 2, spec=spec))
    model(torch.randn(20, 2, 3))
    assert ebops(model.eval()).layers[0].activation_bits.tolist() == [3] * 6
    frozen = nn.Sequential(
        FrozenActivation((FixedPoint(2, 0, False), None), rectify=True), nn.Flatten(), FrozenLinear(array([[1] * 6]))
    )
    assert ebops(frozen).layers[0].activation_bits.tolist() == [2, 2, 2, 0, 0, 0]


def test_the_report_reads_as_a_table():
    model = nn.Sequential(
        FrozenActivation((FixedPoint(4, 2), None), rectify=False), FrozenLinear(array([[5, 7], [0, 1]]), array([1, 0]))
    )
    lines = str(ebops(model)).splitlines()
    assert lines[0].split() == ["layer", "size", "products", "bits", "w", "bits", "a", "EBOPs", "BOPs"]
    assert lines[2].split() == ["1", "2", "->", "2", "1", "2.33", "3.00", "10", f"{4 * (0.75 * 4 * 8 + 4 + 8 + 1):.0f}"]
    assert lines[-1].split() == ["total", "1", "10", "148"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(FrozenLinear(array([[1]]))), "0: its input comes from no quantizer"),
        (nn.Sequential(QuantReLU(), nn.Linear(2, 2)), "1: a Linear has float weights"),
        (nn.Sequential(nn.Conv1d(2, 2, 1)), "0: the EBOPs of a Conv1d are not known here"),
        (
            nn.Sequential(QuantIdentity(), QuantLinear(2, 2, spec=QuantSpec(bias_width=None))),
            "1: float weights or biases have no bits to count",
        ),
    ],
)
def test_what_has_no_bits_is_refused_by_name(model, message):
    if isinstance(model[0], (QuantReLU, QuantIdentity)):
        model[0](torch.randn(20, 2))
    with pytest.raises(ValueError, match=message):
        ebops(model)
