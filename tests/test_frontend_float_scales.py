"""Float scales from end to end: Brevitas's default quantizers, exported in one call, equal to exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import brevitas.nn as bnn
import exact
import numpy as np
import pytest
import torch
from torch import nn

from compress.fixed import FixedPoint, FixedPointError, Overflow, Rounding, cast, round_ratio
from compress.layers import activation_of
from export import emulate
from export.ir import Graph, GraphError, Tensor
from export.modes import Modes
from export.ops import Input
from export.passes import run
from export.scales import Reading, encode_scaled

FEATURES = 8

NETWORKS = {
    "as it comes": lambda: [bnn.QuantIdentity(), bnn.QuantLinear(FEATURES, 12, bias=True), bnn.QuantReLU(),
                            bnn.QuantLinear(12, 4, bias=True)],
    "few bits, scales by channel, batch norm": lambda: [
        bnn.QuantIdentity(bit_width=6),
        bnn.QuantLinear(FEATURES, 12, bias=True, weight_bit_width=4, weight_scaling_per_output_channel=True),
        nn.BatchNorm1d(12), bnn.QuantReLU(bit_width=4),
        bnn.QuantLinear(12, 4, bias=True, weight_bit_width=5, weight_scaling_per_output_channel=True)],
    "no bias, a quantizer at the end": lambda: [
        bnn.QuantIdentity(bit_width=5), bnn.QuantLinear(FEATURES, 6, bias=False), bnn.QuantReLU(bit_width=5),
        bnn.QuantLinear(6, 3, bias=False, weight_bit_width=3), bnn.QuantIdentity(bit_width=7)],
    "Brevitas's other activations": lambda: [
        nn.Flatten(), bnn.QuantIdentity(), bnn.QuantLinear(FEATURES, 6, bias=True), bnn.QuantSigmoid(bit_width=6),
        bnn.QuantLinear(6, 6, bias=True), bnn.QuantTanh(bit_width=5), bnn.QuantLinear(6, 5, bias=True),
        bnn.QuantHardTanh(min_val=-1.0, max_val=1.0, bit_width=4)],
}  # fmt: skip


def trained(name: str) -> nn.Sequential:
    """Ranges set by data and a few steps, so that scales and weights are what a training leaves."""
    torch.manual_seed(3)
    model = nn.Sequential(*NETWORKS[name]())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(10):
        x = torch.randn(128, FEATURES)
        loss = (model(x).sum(dim=1) - x.sum(dim=1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_brevitas_defaults_export_in_one_call(name: str) -> None:
    model = trained(name)
    x = np.random.default_rng(0).normal(size=(200, FEATURES)) * 1.5
    emulator = emulate(model, input_shape=(FEATURES,))
    got = emulator.predict(x)
    expected = exact.evaluate(model, x)  # as fractions: nothing rounds but the quantizers
    assert got.dtype == np.float64 or np.array_equal(got.astype(np.float32), got)
    assert (got == np.array([[float(v) for v in row] for row in expected])).all()
    assert len(np.unique(got, axis=0)) > 30
    with torch.no_grad():
        says = model(torch.from_numpy(x).float()).numpy()
    # Float arithmetic of the module itself may round another way at ties; nowhere else, and hardly ever.
    ties = int((np.abs(says - got) > 1e-3 * np.abs(got).max()).any(axis=1).sum())
    print(f"{name}: {ties} of {len(x)} samples with a float tie")
    assert ties <= 5


@pytest.mark.parametrize("per_channel", [False, True])
def test_brevitas_default_convolutions_export_in_one_call(per_channel: bool) -> None:
    torch.manual_seed(5)
    model = nn.Sequential(
        bnn.QuantIdentity(), bnn.QuantConv2d(2, 4, 3, bias=True, weight_scaling_per_output_channel=per_channel),
        nn.BatchNorm2d(4), bnn.QuantReLU(), nn.MaxPool2d(2), bnn.QuantConv2d(4, 3, 2, bias=True, groups=1),
        bnn.QuantReLU(bit_width=5), nn.Flatten(), bnn.QuantLinear(12, 4, bias=True),
    )  # fmt: skip
    for _ in range(5):
        model(torch.randn(64, 2, 8, 8))
    model.eval()
    x = torch.randn(300, 2, 8, 8)
    got = emulate(model, input_shape=(2, 8, 8)).predict(x.numpy())
    with torch.no_grad():
        says = model(x).numpy()
    # A sum of floats may lie on the other side of a tie; what that moves is a step of one activation.
    ties = int((np.abs(says - got) > 1e-4 * np.abs(got).max()).any(axis=1).sum())
    print(f"{ties} of {len(x)} samples with a float tie")
    assert ties <= 3 and np.abs(says - got).max() < 0.1 * np.abs(got).max()
    assert len(np.unique(got, axis=0)) > 250


def test_the_output_is_read_by_float_scales() -> None:
    model = trained("few bits, scales by channel, batch norm")
    emulator = emulate(model, input_shape=(FEATURES,))
    graph, x = emulator.graph, np.random.default_rng(1).normal(size=(50, FEATURES))
    reading = graph.reading(graph.outputs[0])
    assert reading is not None and len(set(reading.scale)) == 4
    assert any("scale * value + offset" in note for note in graph.notes)
    codes = emulator.predict_codes(x)
    assert np.array_equal(reading.numbers(codes, graph.outputs[0].format), emulator.predict(x))
    assert np.array_equal(emulator.trace(x)[graph.outputs[0].name], emulator.predict(x))


def test_the_input_is_rounded_by_its_float_scale() -> None:
    model = trained("as it comes")
    graph = emulate(model, input_shape=(FEATURES,)).graph
    assert graph.notes[0].startswith(
        f"0: the hardware's input is a code, worth {float(activation_of(model[0]).scale)} each"
    )
    (entry,) = graph.inputs
    assert entry.scale == activation_of(model[0]).scale and entry.output.format == FixedPoint(8, 0)


def test_a_flattened_input_has_a_float_scale() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), bnn.QuantIdentity(), bnn.QuantLinear(12, 3, bias=True))
    model(torch.randn(200, 3, 4))
    model.eval()
    x = np.random.default_rng(0).normal(size=(100, 3, 4))
    got = emulate(model, input_shape=(3, 4)).predict(x)
    assert (got == exact.evaluate(model, x).astype(np.float64)).all()


SCALES = [Fraction(1, 3), Fraction(0.1), Fraction(1000, 7), Fraction(2) ** -60 / 3]


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("scale", SCALES, ids=float)
def test_numbers_are_rounded_once(rounding: Rounding, scale: Fraction) -> None:
    fmt = FixedPoint(5, 1)
    rng = np.random.default_rng(2)
    ties = [float(scale * n / 4) for n in range(-80, 81)]
    near = [np.nextafter(t, end) for t in ties for end in (-np.inf, np.inf)]
    values = np.array([*ties, *near, *(rng.normal(size=200) * 8 * float(scale)), 1e300, -1e300, 0.0, 5e-324])
    for overflow in Overflow:
        got = encode_scaled(values.reshape(-1, 1), scale, fmt, rounding, overflow).ravel().tolist()
        for value, code in zip(values.tolist(), got, strict=True):
            quotient = Fraction(value) / (scale * fmt.lsb)
            whole = round_ratio(np.array([quotient.numerator], dtype=object), quotient.denominator, rounding)
            assert code == int(cast(whole, 0, FixedPoint(5, 0), rounding, overflow)[0]), value


def test_a_reading_is_the_nearest_float() -> None:
    rng = np.random.default_rng(4)
    reading = Reading((Fraction(1, 3), Fraction(0.7), Fraction(1, 10**20)), (Fraction(-1, 7), Fraction(0), Fraction(5)))
    fmt = FixedPoint(40, 3)
    codes = rng.integers(fmt.min_code, fmt.max_code, size=(200, 3, 2))
    codes[0] = 0
    numbers = reading.numbers(codes, fmt)
    for place in np.ndindex(*codes.shape):
        expected = reading.scale[place[1]] * int(codes[place]) / 8 + reading.offset[place[1]]
        assert numbers[place] == float(expected)


def test_what_cannot_be() -> None:
    x = Tensor("x", (2,), FixedPoint(4, 0))
    with pytest.raises(GraphError) as error:
        Input(x, scale=Fraction(0))
    assert str(error.value) == "x: scale 0; a scale is positive, and 1 where the formats differ by channel"
    with pytest.raises(GraphError):
        Input(x, Modes(), (x.format, None), Fraction(1, 3))
    with pytest.raises(FixedPointError, match="1 of 2 values are NaN or infinite"):
        Input(x, scale=Fraction(1, 3)).encode(np.array([[np.nan, 1.0]]))
    with pytest.raises(FixedPointError, match="1 scales and 2 offsets; give one pair per channel"):
        Reading((Fraction(1),), (Fraction(0), Fraction(1)))
    with pytest.raises(GraphError, match=r"x: .*: a reading of 1 channels; give one pair per channel"):
        Graph("g", (Input(x),), (x,), readings=(Reading((Fraction(1),), (Fraction(0),)),))


def test_readings_survive_the_passes_and_count_in_the_digest() -> None:
    x = Tensor("x", (2,), FixedPoint(4, 0))
    reading = Reading((Fraction(1, 3),) * 2, (Fraction(0),) * 2)
    graph = Graph("g", (Input(x),), (x,), readings=(reading,))
    assert run(graph).readings == (reading,)
    assert graph.digest != Graph("g", (Input(x),), (x,)).digest
