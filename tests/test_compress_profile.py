"""Post-training quantization: what is measured, what is suggested for it, and that the hardware then does just that."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from compress.fixed import FixedPoint, Overflow, Rounding, encode
from compress.layers import QuantLinear, QuantSpec
from compress.mask import apply_masks
from compress.profile import (
    Largest,
    LayerFormats,
    LeastSquares,
    Percentile,
    Profile,
    Role,
    Suggestion,
    TensorProfile,
    profile,
)
from compress.train import train
from export import emulate
from export.frontends.precision import Precision
from export.frontends.torch import lower
from export.ops import Modes
from recipes.digits import digits
from recipes.metrics import logits_of, score
from recipes.network import float_network
from recipes.pipeline import load_splits, tensors

MODES = [(rounding, overflow) for rounding in Rounding for overflow in Overflow]


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def network() -> nn.Sequential:
    layers = [("fc1", nn.Linear(6, 5)), ("bn1", nn.BatchNorm1d(5)), ("relu1", nn.ReLU()), ("fc2", nn.Linear(5, 3))]
    return nn.Sequential(OrderedDict(layers)).eval()


def precisions(suggestion: Suggestion) -> dict[str, Precision]:
    modes = Modes(suggestion.rounding, suggestion.overflow)
    return {
        name: Precision(modes=modes, **{part: fmt for part, fmt in vars(layer).items() if fmt is not None})
        for name, layer in suggestion.layers.items()
    }


def tensor(values: object, **options: object) -> TensorProfile:
    return TensorProfile(name="t", role=Role.RESULT, values=np.asarray(values, dtype=np.float64), **options)  # type: ignore[arg-type]


# -- what is measured


def test_every_tensor_is_there_in_order_with_its_numbers() -> None:
    model, x = network(), torch.randn(100, 6)
    found = profile(model, x)
    names = ["fc1.weight", "fc1.bias", "fc1", "bn1.weight", "bn1.bias", "bn1", "relu1", "fc2.weight", "fc2.bias", "fc2"]
    assert [t.name for t in found.tensors][1:] == names and found.tensors[0].role is Role.INPUT
    assert (found.tensors[0].values == x.numpy().ravel()).all()
    assert (found["fc1.weight"].values == model.fc1.weight.detach().numpy().ravel()).all()
    with torch.no_grad():
        assert (found["fc2"].values == model(x).numpy().ravel()).all()
    assert found["bn1.weight"].role is Role.EXACT and found["fc1.bias"].role is Role.BIAS
    assert found.layers == ("fc1", "bn1", "fc2")
    assert [t.name for t in found.tensors if t.rectified] == ["bn1"]


def test_octaves_count_magnitudes_between_powers_of_two() -> None:
    found = tensor([0.0, 0.25, -0.3, 0.5, 1.0, -1.5, 1.99, 2.0, 0.0])
    assert dict(found.octaves) == {-1: 2, 0: 1, 1: 3, 2: 1}
    assert (found.lowest, found.highest) == (-1.5, 2.0)
    assert found.rms == pytest.approx(np.sqrt(np.mean(found.values**2)))


def test_the_model_is_left_as_it_was() -> None:
    model = network().train()
    model.bn1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    profile(model, torch.randn(50, 6))
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Twice(nn.Module):
    """One layer called twice, a relu as a call, and one tensor that two read."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once = self.fc(x)
        return torch.relu(self.fc(torch.relu(once))) + once


def test_shared_layers_and_calls() -> None:
    model, x = Twice(), torch.randn(20, 4)
    found = profile(model, x)
    with torch.no_grad():
        once = model.fc(x)
        twice = model.fc(torch.relu(once))
    assert (found["fc"].values == torch.cat([once, twice]).numpy().ravel()).all()
    assert not found["fc"].rectified  # the first result is also read as it is
    assert [t.name for t in found.tensors] == ["x", "fc.weight", "fc.bias", "fc", "relu", "relu_1", "add"]
    assert found.layers == ("fc",)


def test_masked_weights_count_as_the_zeros_they_are() -> None:
    model = network()
    mask = torch.zeros(5, 6, dtype=torch.bool)
    mask[0, 0] = True
    apply_masks(model, {"fc1.weight": mask})
    assert np.count_nonzero(profile(model, torch.randn(5, 6))["fc1.weight"].values) == 1


def test_a_profile_prints_as_a_table() -> None:
    found = profile(network(), torch.randn(30, 6))
    lines = str(found).splitlines()
    assert len(lines) == 2 + len(found.tensors) and len({len(line) for line in lines[2:]}) == 1
    assert lines[0].split()[:6] == ["tensor", "numbers", "lowest", "highest", "rms", "zeros"]
    assert lines[3].startswith("fc1.weight") and "█" in lines[3]
    one = Profile(tensors=(tensor([0.0, 0.0]), tensor([1.0, 2.0**-40])))
    assert "2^-31 to 2^1" in str(one).splitlines()[0] and str(one).splitlines()[3].count("█") == 2


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (nn.Sequential(QuantLinear(4, 2, spec=QuantSpec())), torch.randn(3, 4), "0: quantized already; profile the"),
        (network(), torch.zeros(0, 6), r"calibration samples of shape \(0, 6\); at least one row"),
        (network(), torch.full((2, 6), torch.nan), "input_1: 12 of 12 numbers are NaN or infinite"),
    ],
)
def test_what_cannot_be_profiled_is_refused_by_name(model: nn.Module, x: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile(model, x)
    with pytest.raises(ValueError, match=r"no tensor 'fc9' in this profile; it has .*fc1.weight"):
        profile(network(), torch.randn(3, 6))["fc9"]


# -- what is suggested


def in_range(value: float, target: FixedPoint, rounding: Rounding) -> bool:
    """Whether a cast that wraps keeps ``value`` within one unit of the last place, in exact arithmetic."""
    code = int(encode(np.array([value]), target, rounding, Overflow.WRAP)[0])
    return abs(code * target.lsb - Fraction(value)) < target.lsb


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("width", [2, 3, 8, 16, 52, 64])
def test_the_largest_magnitude_fits_and_one_bit_less_would_not_do(width: int, rounding: Rounding) -> None:
    rng = np.random.default_rng(0)
    edges = [[1.0], [-1.0, 0.5], [0.875], [0.9375, -1.0], [0.99999, -1.0], [2.0**-30, -(2.0**-31)], [-8.0, 8.0]]
    for values in (*edges, *(rng.normal(size=9) * 10.0 ** rng.integers(-6, 6) for _ in range(40))):
        found = tensor(values)
        target = found.fit(width, Largest(), rounding, Overflow.WRAP)
        assert target.width == width and target.signed == (found.lowest < 0)
        assert all(in_range(v, target, rounding) for v in (found.lowest, found.highest))
        finer = FixedPoint(width, target.frac + 1, target.signed)
        assert not all(in_range(v, finer, rounding) for v in (found.lowest, found.highest))


def test_a_percentile_leaves_out_the_tails() -> None:
    values = np.concatenate([np.linspace(-1.9, 1.9, 999), [100.0]])
    assert tensor(values).fit(8, Largest(), Rounding.RND_CONV, Overflow.SAT) == FixedPoint.of(8, 8)
    assert tensor(values).fit(8, Percentile(99.0), Rounding.RND_CONV, Overflow.SAT) == FixedPoint.of(8, 2)
    assert tensor(values).fit(8, Percentile(100.0), Rounding.RND_CONV, Overflow.SAT) == FixedPoint.of(8, 8)
    positive = np.concatenate([np.linspace(0, 1.9, 999), [-100.0]])  # what is left out still has a sign
    assert tensor(positive).fit(8, Percentile(99.0), Rounding.RND_CONV, Overflow.SAT) == FixedPoint.of(8, 2)
    with pytest.raises(ValueError, match=r"Percentile\(0\): a percentage lies above 0"):
        Percentile(0)


@pytest.mark.parametrize(("rounding", "overflow"), MODES)
@pytest.mark.parametrize("width", [1, 2, 4, 7])
def test_least_squares_is_the_least_of_all_formats(width: int, rounding: Rounding, overflow: Overflow) -> None:
    rng = np.random.default_rng(width)
    for values in (rng.normal(size=60), rng.standard_t(2, size=60), np.abs(rng.normal(size=60))):
        found = tensor(values)
        chosen = found.fit(width, LeastSquares(), rounding, overflow)
        most = found.fit(width, Largest(), rounding, overflow)

        def error(target: FixedPoint) -> float:
            codes = encode(values, target, rounding, overflow)  # noqa: B023 (called at once)
            return float(np.sum((target.values(codes) - values) ** 2))  # noqa: B023

        every = [error(FixedPoint(width, frac, most.signed)) for frac in range(most.frac, most.frac + 20)]
        assert chosen.signed == most.signed and chosen.frac >= most.frac
        assert error(chosen) == pytest.approx(min(every), rel=1e-12)


def test_before_a_relu_negative_numbers_need_no_range_where_a_cast_saturates() -> None:
    values = np.array([-7.0, -1.0, 0.25, 0.75])
    read_by_relu = tensor(values, rectified=True)
    assert read_by_relu.fit(4, Largest(), Rounding.RND, Overflow.SAT) == FixedPoint.of(4, 0, signed=False)
    assert read_by_relu.fit(4, Largest(), Rounding.RND, Overflow.WRAP) == FixedPoint.of(4, 4)
    assert tensor(values).fit(4, Largest(), Rounding.RND, Overflow.SAT) == FixedPoint.of(4, 4)
    assert tensor([-3.0], rectified=True).fit(4, LeastSquares(), Rounding.RND, Overflow.SAT).signed is False


def test_widths_by_role_and_how_well_they_do() -> None:
    found = profile(network(), torch.randn(200, 6))
    suggestion = found.suggest(6, input_width=10, bias_width=12, result_width=8)
    assert suggestion.input.width == 10 and list(suggestion.layers) == ["fc1", "bn1", "fc2"]
    layer = suggestion.layers["fc1"]
    assert layer.weight and layer.bias and (layer.weight.width, layer.bias.width, layer.result.width) == (6, 12, 8)
    norm = suggestion.layers["bn1"]
    assert norm == LayerFormats(weight=None, bias=None, result=norm.result) and not norm.result.signed
    rows = {row.name: row for row in suggestion.fitted}
    assert "relu1" not in rows and rows["fc1"].format == layer.result
    codes = encode(found["fc1"].values, layer.result)
    noise = layer.result.values(codes) - found["fc1"].values
    assert rows["fc1"].snr_db == pytest.approx(10 * np.log10(np.sum(found["fc1"].values ** 2) / np.sum(noise**2)), 1e-5)
    lines = str(suggestion).splitlines()
    assert lines[-1] == "results are cast with RND_CONV, SAT" and "ap_ufixed<8," in lines[6]
    with pytest.raises(ValueError, match="between 1 and 64 bits, got 0"):
        found.suggest(8, bias_width=0)


def test_dead_tensors_have_a_format_too() -> None:
    zero = tensor([0.0, -0.0])
    assert zero.fit(5, LeastSquares(), Rounding.TRN, Overflow.WRAP).width == 5
    assert zero.error(FixedPoint(5, 0), Rounding.TRN, Overflow.WRAP) == (0.0, float("inf"))


# -- and what the hardware makes of it


@pytest.mark.parametrize(("rounding", "overflow"), [(Rounding.RND_CONV, Overflow.SAT), (Rounding.TRN, Overflow.WRAP)])
def test_the_exporter_casts_as_the_suggestion_was_judged(rounding: Rounding, overflow: Overflow) -> None:
    model, x = network(), torch.randn(500, 6).double()
    suggestion = profile(model.double(), x).suggest(9, rounding=rounding, overflow=overflow)
    graph = lower(model, (6,), input_format=suggestion.input, precision=precisions(suggestion))
    first, second = suggestion.layers["fc1"], suggestion.layers["fc2"]
    assert first.weight is not None and first.bias is not None
    entry = suggestion.input.values(encode(x.numpy(), suggestion.input))
    weight, bias = (
        fmt.values(encode(t.detach().numpy(), fmt))
        for fmt, t in ((first.weight, model.fc1.weight), (first.bias, model.fc1.bias))
    )
    expected = encode(entry @ weight.T + bias, first.result, rounding, overflow)  # exact in float64 at these widths
    traced = graph.trace(graph.inputs[0].encode(x.numpy()))
    assert (traced["fc1"] == expected).all() and graph.outputs[0].format == second.result


def test_digits_survive_sixteen_bits_and_not_two() -> None:
    recipe = digits()
    data, splits = load_splits(recipe)
    model = float_network(recipe.network, 64, 10, 0)

    config = replace(recipe.baseline, epochs=10)
    train(model, tensors(splits.train), tensors(splits.validation), config, progress=False)
    found = profile(model, splits.train.x[:500])

    def accuracy(width: int) -> float:
        suggestion = found.suggest(width)
        emulator = emulate(model, (64,), input_format=suggestion.input, precision=precisions(suggestion))
        return score(emulator.predict(splits.test.x), splits.test.y, data.classes).accuracy

    reference = score(logits_of(model, splits.test.x), splits.test.y, data.classes).accuracy
    assert reference > 0.9 and abs(accuracy(16) - reference) < 0.005 and accuracy(2) < 0.8 * reference
