"""Every kind of quantization that a QuantSpec can ask for exports exactly, or is refused by name.

The graph is held against exact fractions, whatever the scales; against torch in float64 where that is exact too.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import exact
import numpy as np
import pytest
import torch
from torch import nn

from compress.fixed import FixedPoint
from compress.layers import (
    QuantGELU,
    QuantHardSigmoid,
    QuantHardTanh,
    QuantIdentity,
    QuantLeakyReLU,
    QuantLinear,
    QuantPReLU,
    QuantReLU,
    QuantReLU6,
    QuantSigmoid,
    QuantSiLU,
    QuantSpec,
    QuantTanh,
    Range,
    Scale,
)
from export.emulation.emulator import Numbers
from export.frontends.torch import lower
from export.ir import Graph, GraphError
from export.ops import Clip, Dense, Input, Maximum, Requantize, Table, Threshold
from export.passes import run
from export.verification.check import check as check_cxx

SPEC = QuantSpec(weight_width=5, bias_width=8, activation_width=4, input_width=6)
ACTIVATIONS = {
    "relu": QuantReLU,
    "relu6": QuantReLU6,
    "leaky relu": lambda spec: QuantLeakyReLU(0.125, spec=spec),
    "leaky relu, decimal": lambda spec: QuantLeakyReLU(0.01, spec=spec),
    "prelu": lambda spec: QuantPReLU(1, 0.3, spec=replace(spec, weight_width=5)),
    "hard tanh": QuantHardTanh,
    "hard tanh of odd limits": lambda spec: QuantHardTanh(-0.3, 1.7, spec=spec),
    "hard sigmoid": QuantHardSigmoid,
    "tanh": QuantTanh,
    "sigmoid": QuantSigmoid,
    "silu": QuantSiLU,
    "gelu": QuantGELU,
    "gelu, tanh form": lambda spec: QuantGELU("tanh", spec=spec),
    "identity": QuantIdentity,
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def samples(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 6)) * 2


def trained(*layers: nn.Module, seed: int = 0) -> nn.Sequential:
    """A network after a few steps of training."""
    torch.manual_seed(seed)
    model = nn.Sequential(*layers).train()
    for layer in model:
        if isinstance(layer, QuantLinear):
            nn.init.normal_(layer.weight, std=0.6)
    x = torch.tensor(samples(64, seed + 1), dtype=torch.float32)
    with torch.no_grad():
        model(x)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(4):
        optimiser.zero_grad()
        (model(x) - x[:, :1]).square().mean().backward()
        optimiser.step()
    return model.eval()


def network(spec: QuantSpec, activation: str = "relu", norm: bool = False, seed: int = 0) -> nn.Sequential:
    """Linear, perhaps batch norm, activation, linear with an output quantizer, all of ``spec``.

    Another one where some activation never leaves zero, and so has no range.
    """
    middle = [nn.BatchNorm1d(5)] if norm else []
    ending = spec if spec.output_width else replace(spec, output_width=7)
    model = trained(
        QuantIdentity(spec=SPEC), QuantLinear(6, 5, spec=spec), *middle, ACTIVATIONS[activation](spec=spec),
        QuantLinear(5, 3, spec=ending), seed=seed,
    )  # fmt: skip
    ranged = all(getattr(layer, "calibrated", True) for layer in model.modules())
    return model if ranged else network(spec, activation, norm, seed + 1000)


def agrees(model: nn.Sequential, count: int = 25) -> tuple[Graph, int]:
    """The graph, which equals exact fractions before and after the passes; and how many results of float64 do not."""
    graph, x = lower(model, (6,)), samples(count)
    expected = exact.evaluate(model, x)
    for stage in (graph, run(graph)):
        codes = stage.eval(stage.inputs[0].encode(x))
        got = np.array([int(code) * stage.outputs[0].format.lsb for code in codes.flat], dtype=object)
        assert (got.reshape(codes.shape) == expected).all()
    with torch.no_grad():
        floats = model.double()(torch.from_numpy(x)).numpy()
    model.float()
    return graph, int((floats != expected.astype(np.float64)).sum())


WEIGHTS = [
    QuantSpec(
        weight_width=width, weight_scale=scale, weight_range=found, weight_per_channel=per_channel,
        bias_width=8, activation_width=4, input_width=6,
    )
    for width, scale, found, per_channel in product((1, 2, 5), Scale, (None, *Range), (False, True))
]  # fmt: skip


@pytest.mark.parametrize("norm", [False, True])
def test_every_kind_of_weight(norm):
    ties = 0
    for number, spec in enumerate(WEIGHTS[norm :: 1 + norm]):
        _, wrong = agrees(network(spec, norm=norm, seed=number))
        assert norm or spec.weight_scale is Scale.FLOAT or not wrong, spec
        ties += wrong
    assert ties < 5 and len(WEIGHTS) == 48


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", Scale, ids=str)
def test_every_activation(activation, scale):
    ties = 0
    for number, (width, norm) in enumerate([(1, False), (2, True), (4, True), (4, False), (7, False)]):
        spec = replace(SPEC, activation_width=width, activation_scale=scale)
        if activation == "identity":
            spec = replace(SPEC, input_width=width, input_scale=scale)
        if width == 1 and activation.startswith(("silu", "gelu")):
            with pytest.raises(GraphError, match=r"^2: takes the sign of a (silu|gelu.*), which floats lose far below"):
                lower(network(spec, activation, norm, seed=number), (6,))
            continue
        graph, wrong = agrees(network(spec, activation, norm, seed=number))
        assert norm or scale is Scale.FLOAT or not wrong, spec
        assert not any(isinstance(op, Requantize) for op in run(graph))
        ties += wrong
    assert ties < 5


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu, tanh form"])
def test_large_numbers_that_are_ties_of_the_quantizer_behind(activation):
    """To float64 they are their own SiLU, so that the trained module rounds them to even."""
    model = nn.Sequential(QuantIdentity(), ACTIVATIONS[activation](spec=replace(SPEC, activation_width=5))).train()
    numbers = torch.arange(-256.0, 256.0)[:, None]
    model(numbers)
    graph = lower(model.eval(), (1,))
    x, result = numbers.double(), graph.outputs[0].format
    with torch.no_grad():
        expected = model.double()(x).numpy()
    ties = np.arange(40, 248, 16)  # where the steps are 16 wide
    assert result.frac == -4 and (expected[ties + 256] % 32 == 0).all()
    assert (result.values(graph.eval(graph.inputs[0].encode(x.numpy()))) == expected).all()


REGISTERS = [None, FixedPoint(5, 3), FixedPoint(9, 7), FixedPoint(4, 2, False), FixedPoint(3, 0)]


OUTPUTS = [{}, {"output_width": 1}, {"output_width": 2}, {"output_width": 5, "output_frac": 1}]


@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs_and_accumulators(output):
    wrapped = 0
    # An unsigned sum has one sign alone.
    registers = [r for r in REGISTERS if r is None or r.signed or output.get("output_width") != 1]
    for number, (register, norm) in enumerate(product(registers, (False, True))):
        spec = replace(SPEC, accumulator=register, **output)
        model = network(spec, norm=norm, seed=number)
        graph, wrong = agrees(model)
        assert norm or not wrong
        names = [op.name for op in graph]
        assert ("1.stored" in names) == (register is not None and bool(output))
        assert names.count("1") == names.count("4" if norm else "3") == 1
        if register is not None:
            sums = graph.trace(graph.inputs[0].encode(samples(25)))["1.sum"]
            values = next(op for op in graph if op.name == "1.sum").output.format.values(sums)
            low, high = register.min_code * float(register.lsb), register.max_code * float(register.lsb)
            wrapped += int(((values < low) | (values > high + float(register.lsb))).sum())
    assert wrapped > 100  # a sum that fits its register tests nothing


def test_a_register_behind_a_float_scale():
    """The sum is no multiple of any binary fraction; what is stored of it is."""
    for seed in range(4):
        spec = replace(SPEC, accumulator=FixedPoint(10, 3), weight_scale=Scale.FLOAT, output_width=5)
        agrees(network(spec, seed=seed))


INPUTS = [{"input_width": 1}, {"input_width": 2}, {"input_width": 1, "input_signed": False},
          {"input_width": 5, "input_frac": -1}]  # fmt: skip


@pytest.mark.parametrize("spec", INPUTS)
@pytest.mark.parametrize("flat", [False, True])
def test_inputs_of_few_bits(spec, flat):
    first = QuantIdentity(spec=replace(SPEC, **spec))
    model = trained(first, QuantLinear(6, 5, spec=SPEC), QuantReLU(spec=SPEC), QuantLinear(5, 3, spec=SPEC))
    if not flat:
        assert agrees(model)[1] == 0
        return
    graph = lower(nn.Sequential(nn.Flatten(), model), (2, 3))
    x = samples(40)
    codes = graph.eval(graph.inputs[0].encode(x.reshape(-1, 2, 3)))
    with torch.no_grad():
        assert (graph.outputs[0].format.values(codes) == model.double()(torch.from_numpy(x)).numpy()).all()


def test_zero_is_a_positive_sign():
    model = nn.Sequential(QuantIdentity(spec=QuantSpec(input_width=1, input_frac=0))).eval()
    graph = lower(model, (3,))
    values = np.array([[0.0, -0.0, -1e-300], [1e-300, 5.0, -5.0]])
    codes = graph.eval(graph.inputs[0].encode(values))
    assert (graph.outputs[0].format.values(codes) == [[1, 1, -1], [1, 1, -1]]).all()
    assert (model(torch.tensor(values)).numpy() == [[1, 1, -1], [1, 1, -1]]).all()


def test_a_sign_behind_batch_norm_is_one_comparison_per_channel():
    """Also where the norm turns the order round, or leaves nothing but its shift."""
    spec = replace(SPEC, activation_width=1)
    model = network(spec, "hard tanh", norm=True)
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([0.7, -1.3, 0.0, 0.0, 2.0]))
        model[2].bias.copy_(torch.tensor([0.3, 0.4, 0.5, -0.5, 0.0]))
        model[2].running_mean.copy_(torch.tensor([0.3, -0.4, 0.5, -0.5, 0.0]))
    graph, _ = agrees(model, 200)
    sign = next(op for op in graph if isinstance(op, Threshold))
    assert sign.level.shape == (5, 1) and sign.step.codes.tolist() == [2, -2, 0, 0, 2]
    assert sign.output.format == FixedPoint(2, 0)


def test_binary_and_ternary_weights_stay_narrow():
    for width in (1, 2):
        spec = replace(SPEC, weight_width=width, bias_width=None)
        graph, _ = agrees(network(spec))
        dense = next(op for op in graph if isinstance(op, Dense))
        assert dense.weight.format.width == 2
        assert set(np.unique(dense.weight.codes)) == ({-1, 1} if width == 1 else {-1, 0, 1})


def test_limits_inside_the_range_are_clipped_and_others_are_not():
    graph, _ = agrees(network(replace(SPEC, activation_width=6), "relu6"))
    (clip,) = (op for op in graph if isinstance(op, Clip))
    assert set((clip.high.codes * clip.x.format.lsb).tolist()) == {6}
    assert not any(isinstance(op, Clip) for op in lower(network(SPEC, "hard tanh"), (6,)))


def test_plain_activations_before_a_quantizer():
    plain = nn.ReLU6(), nn.LeakyReLU(0.25), nn.Hardtanh(-0.5, 2.0), nn.Hardsigmoid(), nn.Tanh(), nn.Sigmoid(), nn.ReLU()
    for layer in plain:
        entry = QuantIdentity(spec=SPEC), QuantLinear(6, 5, spec=SPEC)
        model = trained(*entry, layer, QuantIdentity(spec=replace(SPEC, input_width=5)), QuantLinear(5, 2, spec=SPEC))
        graph = lower(model, (6,))
        x = samples(60)
        with torch.no_grad():
            expected = model.double()(torch.from_numpy(x)).numpy()
        for stage in (graph, run(graph)):
            codes = stage.eval(stage.inputs[0].encode(x))
            assert (stage.outputs[0].format.values(codes) == expected).all(), layer


def test_a_leaky_relu_is_the_larger_of_two_casts():
    graph, _ = agrees(network(SPEC, "leaky relu"))
    (largest,) = (op for op in graph if isinstance(op, Maximum))
    assert {t.name for t in largest.inputs} == {"2.above", "2.below"}


def test_the_cxx_of_each_kind():
    for name, spec in {
        "leaky relu, decimal": replace(SPEC, weight_per_channel=True, weight_scale=Scale.FLOAT),
        "hard tanh": replace(SPEC, weight_width=1, activation_width=1, accumulator=FixedPoint(6, 3)),
        "relu6": replace(SPEC, activation_width=6, weight_width=2),
        "sigmoid": replace(SPEC, output_width=1),
    }.items():
        graph = run(lower(network(spec, name, norm=True), (6,)))
        (pair,) = check_cxx(graph, samples(300), numbers=(Numbers.OWN,))
        assert pair.equal, pair


def test_more_results_than_comparisons_come_from_a_table():
    spec = replace(SPEC, activation_width=14)
    for kind, layer in ((Threshold, QuantTanh), (Table, QuantSiLU)):
        width = 10 if kind is Threshold else 14
        model = nn.Sequential(QuantIdentity(spec=QuantSpec(input_width=width, input_frac=width - 4)), layer(spec=spec))
        with torch.no_grad():
            model(torch.tensor(samples(64), dtype=torch.float32))
        graph, _ = agrees(model.eval(), 100)
        assert [type(op) for op in graph] == [Input, kind]
        assert [type(op) for op in run(graph)] == [Input, Table]


def test_what_has_no_lowering_says_so():
    wide = nn.Sequential(
        QuantIdentity(spec=QuantSpec(input_width=15, input_frac=12)), QuantTanh(spec=replace(SPEC, activation_width=13))
    )
    with pytest.raises(GraphError) as error:
        lower(wide, (6,))
    assert str(error.value) == (
        "1: a tanh of 13 bits takes up to 8191 comparisons, the limit is 4096, and input: fixed<15,3>[6] has too many "
        "codes for a table; quantize it to fewer bits, or put a QuantIdentity of at most 14 bits before it"
    )
    model = trained(QuantIdentity(spec=SPEC), QuantReLU(spec=SPEC), nn.Sigmoid(), QuantIdentity(spec=SPEC))
    with pytest.raises(GraphError) as error:
        lower(nn.Sequential(*model[:3], QuantIdentity(spec=QuantSpec(input_width=1, input_frac=0))), (6,))
    assert str(error.value) == "3: takes the sign of a sigmoid, which is never negative; leave out one of the two"
    for first, second in ((nn.Tanh(), nn.ReLU()), (nn.ReLU6(), nn.Hardsigmoid())):
        with pytest.raises(GraphError) as error:
            lower(nn.Sequential(QuantIdentity(spec=QuantSpec(input_width=4, input_frac=-2)), first, second), (6,))
        what = "tanh" if isinstance(first, nn.Tanh) else "clip"
        assert str(error.value) == f"2: follows a {what} that is not quantized; put a quantizer between them"
