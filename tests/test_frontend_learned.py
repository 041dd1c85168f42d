"""Networks of learned precision, frozen: a format for each channel, exact from the input on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from compress.fixed import FixedPoint
from compress.learned.frozen import FrozenActivation, FrozenLinear, finest_grid
from export import to_hls
from export.emulation.emulator import Emulator, Numbers
from export.frontends.torch import lower
from export.ir import GraphError
from export.passes import PIPELINE, steps
from export.verification.check import check


def formats(rng: np.random.Generator, channels: int, signed: bool) -> tuple[FixedPoint | None, ...]:
    widths, fracs = rng.integers(1, 7, size=channels) + signed, rng.integers(-2, 5, size=channels)
    kinds = (FixedPoint(w, f, signed) for w, f in zip(widths, fracs, strict=True))
    return tuple(fmt if rng.random() < 0.8 else None for fmt in kinds)


def linear(rng: np.random.Generator, n_in: int, n_out: int) -> FrozenLinear:
    weight = np.where(rng.random((n_out, n_in)) < 0.5, rng.integers(-31, 32, (n_out, n_in)) / 8, 0)
    return FrozenLinear(finest_grid(weight), finest_grid(rng.integers(-63, 64, n_out) / 16))


def jet(seed: int = 0) -> nn.Sequential:
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        FrozenActivation(formats(rng, 16, signed=True), rectify=False), linear(rng, 16, 24),
        FrozenActivation(formats(rng, 24, signed=False), rectify=True), linear(rng, 24, 12), norm(rng, 12),
        FrozenActivation(formats(rng, 12, signed=False), rectify=True), linear(rng, 12, 5),
    ).eval()  # fmt: skip


def norm(rng: np.random.Generator, channels: int) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(channels)
    with torch.no_grad():
        layer.running_mean.copy_(torch.tensor(rng.normal(size=channels)))
        layer.running_var.copy_(torch.tensor(rng.random(channels) + 0.2))
    return layer


def samples(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 16)) * 3


@pytest.mark.parametrize("seed", range(3))
def test_the_graph_is_the_module_before_and_after_every_pass(seed):
    model, x = jet(seed), samples(300)
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(x)).numpy()
    stages = steps(lower(model, (16,)))
    assert len(stages) == len(PIPELINE) + 1
    for stage in stages:
        codes = stage.eval(stage.inputs[0].encode(x))
        assert (stage.outputs[0].format.values(codes) == expected).all()
    assert len(np.unique(expected)) > 300
    kinds = [type(op).__name__ for op in stages[-1]]
    assert kinds.count("ChannelCast") == 2 and "Requantize" not in kinds


def test_channels_without_bits_are_no_neurons():
    model = jet()
    final = steps(lower(model, (16,)))[-1]
    kept = {op.name: op.output.shape[0] for op in final}
    alive = sum(fmt is not None for fmt in model[2].channel_formats().formats)
    assert kept["1"] == kept["2"] == alive < 24


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_emulator_rounds_real_numbers_as_the_graph_does(dtype):
    """In whole registers and in what is left of one."""
    graph, x = steps(lower(jet(), (16,)))[-1], samples(333).astype(dtype)
    for count in (333, 16, 1):
        (pair,) = check(graph, x[:count], numbers=(Numbers.OWN,))
        assert pair.equal
    x[7, [fmt is None for fmt in graph.inputs[0].formats].index(True)] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        Emulator(graph).predict(x)


def test_a_project_has_vectors_that_can_enter(tmp_path):
    project = to_hls(jet(), tmp_path / "jet", (16,), name="jet")
    graph = steps(lower(jet(), (16,), name="jet"))[-1]
    rows = [[int(v) for v in line.split()] for line in project.files["tb/data/input_in.dat"].splitlines()]
    entering = np.array(rows)
    assert (graph.inputs[0].eval(entering) == entering).all() and len(np.unique(entering)) > 50
    text = project.files["firmware/jet.cpp"]
    assert "    qapsule::channel_cast<layer_2_format0_t>(x, y, layer_2_format0);" in text
    assert text.count("layer_2_channels(layer_1, layer_2);") == 1


def test_an_input_format_goes_before_the_formats_of_the_channels():
    """Data that already is fixed-point: a cast by channel is the first thing that happens to it."""
    model, x = jet(), samples(200)
    fmt = FixedPoint(12, 6)
    graph = lower(model, (16,), input_format=fmt)
    assert graph.inputs[0].formats is None and type(graph.ops[1]).__name__ == "ChannelCast"
    codes = graph.inputs[0].encode(x)
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(fmt.values(codes))).numpy()
    assert (graph.outputs[0].format.values(graph.eval(codes)) == expected).all()


def test_channels_that_are_all_alike_are_one_format():
    rng, fmt = np.random.default_rng(0), FixedPoint(5, 2)
    layers = FrozenActivation((fmt,) * 4, rectify=False), linear(rng, 4, 3), FrozenActivation((fmt,) * 3, rectify=False)
    graph = lower(nn.Sequential(*layers), (4,))
    assert [type(op).__name__ for op in graph] == ["Input", "Dense", "Cast"] and graph.inputs[0].formats is None
    assert graph.inputs[0].output.format == graph.outputs[0].format == fmt


def test_refusals():
    rng = np.random.default_rng(0)
    with pytest.raises(GraphError, match=r"^0: has formats for 16 channels, reads 4$"):
        lower(jet(), (4,))
    with pytest.raises(GraphError, match=r"^1: rounds each channel of the input in its own way, after its numbers"):
        lower(nn.Sequential(nn.Flatten(), FrozenActivation(formats(rng, 4, signed=True), rectify=False)), (2, 2))
    far = FrozenActivation((FixedPoint(2, 60), FixedPoint(6, -2)), rectify=False)
    with pytest.raises(GraphError, match=r"^0: its channels have no common format .* bring them closer$"):
        lower(nn.Sequential(far), (2,))
