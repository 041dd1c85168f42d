"""Where a quantizer has to stand: the rules, each with its smallest network and its counterexample."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec, Scale
from compress.quantize import UnsupportedLayer, explain, quantize

SPEC = QuantSpec(weight_width=4, activation_width=6, input_width=9)
FLOAT = replace(SPEC, activation_scale=Scale.FLOAT)
FLOAT_WEIGHTS = replace(SPEC, weight_scale=Scale.FLOAT)
FLOAT_INPUT = replace(SPEC, input_scale=Scale.FLOAT)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Net(nn.Module):
    """Layers by name, and a forward of them."""

    def __init__(self, forward, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def square(n: int = 2) -> dict[str, nn.Module]:
    return {name: nn.Linear(4, 4) for name in "abcd"[:n]}


def inserted(model: nn.Module, specs=SPEC) -> dict[str, str]:
    """The quantizers that are inserted and why, but for the input's."""
    return {row.name: row.why for row in explain(model, specs).rows if not row.was and row.name != "input"}


def test_a_linear_layer_reads_a_grid():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert inserted(model) == {"0_quant": "1 reads the sums of 0"}
    assert inserted(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))) == {}
    names = [name for name, _ in quantize(model, SPEC).named_children()]
    assert names == ["input", "0", "0_quant", "1"], "a Sequential takes it in, its names stay"


def test_a_stated_output_is_a_grid():
    assert inserted(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), replace(SPEC, output_width=7)) == {}


def test_the_output_may_stay_a_wide_sum():
    assert inserted(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))) == {}


def test_an_average_is_quantized_where_a_layer_reads_it():
    def model(*behind: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AvgPool1d(2), *behind)

    assert inserted(model(nn.Flatten(), nn.Linear(8, 2))) == {"2_quant": "4 reads the averages of 2"}
    assert inserted(model(nn.Dropout(0.5), nn.Conv1d(4, 2, 1))) == {"3_quant": "4 reads the averages of 2"}
    assert inserted(model(nn.Tanh(), nn.Conv1d(4, 2, 1))) == {}, "an activation quantizes"
    assert inserted(model()) == {}


def test_pooling_reads_exact_sums_but_no_batch_norm():
    def model(pool: nn.Module, *before: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv1d(2, 4, 3), *before, pool, nn.ReLU())

    for pool in (nn.MaxPool1d(2), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(2), nn.AdaptiveMaxPool1d(2)):
        assert inserted(model(pool)) == {}
        rescaled = inserted(model(pool, nn.BatchNorm1d(4)))
        assert rescaled == {"1_quant": "2 reads the batch norm 1, which rescales"}
        assert list(inserted(model(pool), FLOAT_WEIGHTS)) == ["0_quant"]


def test_a_maximum_stays_what_it_was():
    behind = (nn.MaxPool1d(2), nn.Conv1d(4, 2, 1))
    assert inserted(nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), *behind)) == {}
    assert inserted(nn.Sequential(nn.Conv1d(2, 4, 3), *behind)) == {"1_quant": "2 reads the maxima of 1"}


def test_exact_numbers_are_added_as_they_are():
    def skip(net: nn.Module, x: Tensor) -> Tensor:
        return F.relu(net.a(x) + x) + F.relu(net.b(x))

    assert inserted(Net(skip, **square())) == {}


def test_rescaled_operands_of_a_sum_are_quantized_first():
    def skip(net: nn.Module, x: Tensor) -> Tensor:
        return F.relu(net.norm(net.a(x)) + x)

    model = Net(skip, norm=nn.BatchNorm1d(4), **square())
    assert inserted(model) == {"norm_quant": "add reads the batch norm norm, which rescales"}
    assert list(inserted(Net(lambda net, x: F.relu(net.a(x) + x), **square()), FLOAT_WEIGHTS)) == ["a_quant"]
    both = inserted(Net(lambda net, x: torch.relu(net.a(x)) + torch.tanh(net.b(x)), **square()), FLOAT)
    assert both == {"relu_quant": "add reads what relu makes", "tanh_quant": "add reads what tanh makes"}


def test_numbers_of_one_scale_are_added_as_they_are():
    assert inserted(Net(lambda net, x: x + x, **square(), e=nn.BatchNorm1d(4))) == {}
    twice = Net(lambda net, x: net.relu(net.a(x)) + net.relu(net.b(x)), relu=nn.ReLU(), **square())
    assert inserted(twice, FLOAT) == {}, "a shared activation has one scale"


def test_a_sum_is_quantized_where_a_layer_reads_it():
    model = Net(lambda net, x: net.c(F.relu(net.a(x)) + F.relu(net.b(x))), **square(3))
    assert inserted(model) == {"add": "c reads the sum add"}
    quantized = quantize(model, SPEC)
    assert isinstance(quantized, fx.GraphModule) and isinstance(quantized.add, QuantIdentity)


def test_a_concatenation_of_grids_is_one_unless_their_scales_differ_in_kind():
    def concatenated(net: nn.Module, x: Tensor) -> Tensor:
        return net.c(torch.cat([F.relu(net.a(x)), x], 1))

    model = Net(concatenated, **square() | {"c": nn.Linear(8, 2)})
    assert inserted(model) == {}
    assert inserted(model, FLOAT) == inserted(model, FLOAT_INPUT) == {"cat": "c reads the concatenation cat"}
    sums = Net(lambda net, x: net.c(torch.cat([net.a(x), x], 1)), **square() | {"c": nn.Linear(8, 2)})
    assert inserted(sums) == {"cat": "c reads the concatenation cat"}
    norms = Net(lambda net, x: F.relu(torch.cat([net.norm(net.a(x)), x], 1)), **square(1) | {"norm": nn.BatchNorm1d(4)})
    assert list(inserted(norms)) == ["norm_quant"]


def test_one_quantizer_serves_all_who_read():
    def shared(net: nn.Module, x: Tensor) -> Tensor:
        y = net.a(x)
        return F.relu(y) + F.relu(net.b(y.flatten(1))) + F.relu(net.c(y))

    quantized = quantize(Net(shared, **square(3)), SPEC)
    (sums,) = [node for node in quantized.graph.nodes if node.target == "a"]
    (behind,) = sums.users
    assert behind.target == "a_quant" and len(behind.users) == 3


def test_a_layer_called_twice_has_a_quantizer_behind_each_call():
    twice = Net(lambda net, x: net.b(net.a(net.a(x))), **square())
    assert inserted(twice) == {"a_quant": "a reads the sums of a", "a_quant_1": "b reads the sums of a"}


def test_inserted_quantizers_know_the_sign():
    def branches(net: nn.Module, x: Tensor) -> Tensor:
        positive = F.relu(net.a(x)) + torch.sigmoid(net.b(x))
        mixed = F.relu(net.a(x)) + torch.tanh(net.b(x))
        return net.c(positive) + net.d(mixed)

    quantized = quantize(Net(branches, **square(4)), SPEC)
    assert repr(quantized.add) == "QuantIdentity(6-bit unsigned, learned range)"
    assert repr(quantized.add_1) == "QuantIdentity(6-bit signed, learned range)"


def test_inserted_quantizers_have_the_width_of_activations_on_a_power_of_two():
    spec = replace(SPEC, activation_scale=Scale.FLOAT, input_scale=Scale.FLOAT)
    quantized = quantize(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), spec)
    assert "float scale" in repr(quantized.input) and repr(quantized.input).startswith("QuantIdentity(9-bit signed")
    assert repr(quantized.get_submodule("0_quant")) == "QuantIdentity(6-bit signed, learned range)"
    fixed = quantize(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), replace(SPEC, activation_frac=3))
    assert repr(fixed.get_submodule("0_quant")) == "QuantIdentity(6-bit signed, 3 fraction bits)"


def test_layers_that_are_quantized_already_take_part():
    model = nn.Sequential(QuantIdentity(spec=FLOAT_INPUT), QuantLinear(4, 4, spec=SPEC), nn.Linear(4, 4))
    assert inserted(model, {"2": SPEC}) == {"1_quant": "2 reads the sums of 1"}
    assert "input" not in dict(quantize(model, SPEC).named_children()), "its own first layer quantizes the input"
    done = nn.Sequential(QuantReLU(spec=SPEC), nn.Linear(4, 4))
    assert inserted(done) == {}


def test_several_inputs_have_a_quantizer_each():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(5, 3)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return torch.relu(self.a(left) + self.b(right))

    quantized = quantize(Two(), {"input_right": replace(SPEC, input_width=3), "*": SPEC})
    assert repr(quantized.input_left) == "QuantIdentity(9-bit signed, learned range)"
    assert repr(quantized.input_right) == "QuantIdentity(3-bit signed, learned range)"
    assert quantized(torch.randn(6, 4), torch.randn(6, 5)).shape == (6, 3)


@pytest.mark.parametrize("specs", [{"b": None, "*": SPEC}, {nn.ReLU: None, "*": SPEC}])
def test_behind_a_float_layer_stands_a_quantizer(specs):
    model = nn.Sequential()
    for name, layer in {"a": nn.Linear(4, 4), "b": nn.ReLU(), "c": nn.Linear(4, 4)}.items():
        model.add_module(name, layer)
    plan = explain(model, specs)
    rows = {row.name: row for row in plan.rows}
    assert rows["b"].becomes == "stays" and rows["b"].why == "a float layer: not exact, up to the next quantizer"
    assert rows["b_quant"].becomes == "QuantIdentity(6-bit unsigned, learned range)" and rows["b_quant"].key == "'*'"
    assert list(dict(plan.apply().named_children())) == ["input", "a", "b", "b_quant", "c"]


def test_a_float_linear_layer_reads_anything():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    assert inserted(model, {"1": None, "*": SPEC}) == {"1_quant": "2 reads the floats of 1"}


def test_none_for_an_inserted_quantizer_leaves_it_out():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    plan = explain(model, {"0_quant": None, "*": SPEC})
    assert inserted(model, {"0_quant": None, "*": SPEC}) == {"0_quant": "left out: 1 reads the sums of 0 as it is"}
    assert [name for name, _ in plan.apply().named_children()] == ["input", "0", "1"]
    bare = quantize(model, {"input": None, "*": SPEC})
    assert [name for name, _ in bare.named_children()] == ["0", "0_quant", "1"]


def test_what_cannot_be_quantized_may_stay_a_float():
    def ending(net: nn.Module, x: Tensor) -> Tensor:
        return torch.softmax(net.b(net.act(net.a(x))), 1)

    model = Net(ending, act=nn.SiLU(), **square())
    specs = {"act": None, "softmax": None, "*": SPEC}
    assert inserted(model, specs) == {"act_quant": "b reads the floats of act"}
    quantized = quantize(model, specs)
    assert type(quantized.act) is nn.SiLU
    assert torch.allclose(quantized(torch.randn(5, 4)).sum(1), torch.ones(5))


class Gate(nn.Module):
    """A product of two branches, their difference, and the larger of the two, moved about."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.silu, self.head = nn.Linear(4, 6), nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 2)

    def forward(self, x):
        a, b = self.silu(self.a(x)), torch.sigmoid(self.b(x))
        low, high = torch.chunk(a, 2, 1)[0], torch.chunk(b, 2, 1)[1]
        return self.head(torch.cat([torch.maximum(low, high), low - high], 1) * a.flip(1))


def test_products_and_turning_curves_read_a_grid_and_differences_one_scale():
    plan = explain(Gate(), QuantSpec(weight_width=6, activation_width=5, input_width=8))
    said = [(row.name, row.why) for row in plan.rows]
    assert ("a_quant", "silu reads the sums of a") in said
    assert {("sub", "an exact difference"), ("maximum", "an exact choice"), ("mul", "an exact product")} < set(said)
    assert ("cat", "mul reads the concatenation cat") in said and ("mul", "head reads the product mul") in said


@pytest.mark.parametrize("arguments", [{}, {"value": 0.0}, {"mode": "reflect"}, {"mode": "circular"}])
def test_a_padding_by_zero_or_by_its_own_numbers_only_moves_them(arguments):
    model = Net(lambda net, x: net.b(F.pad(net.a(x).relu(), (1, 1), **arguments)), a=nn.Conv1d(2, 3, 1),
                b=nn.Conv1d(3, 2, 3))  # fmt: skip
    assert inserted(model) == {}


def test_a_padding_by_a_constant_is_rounded_with_what_it_pads():
    """The range of a ReLU is learned: nobody knows beforehand whether it has a code for the constant."""

    def model(pad):
        return Net(lambda net, x: net.b(pad(net.a(x).relu())), a=nn.Conv1d(2, 3, 1), b=nn.Conv1d(3, 2, 3))

    reads = "b reads the numbers that pad puts beside {}"
    by_half, below = (lambda x: F.pad(x, (1, 0), value=0.5)), (lambda x: F.pad(x, (1, 0), "constant", -2))
    assert inserted(model(by_half)) == {"pad": reads.format(0.5)}
    assert inserted(model(below)) == {"pad": reads.format(-2.0)}
    assert not quantize(model(by_half), SPEC).pad.spec.input_signed
    assert quantize(model(below), SPEC).pad.spec.input_signed
    assert inserted(model(by_half), FLOAT) == {
        "relu_quant": "pad reads what relu makes", "pad": reads.format(0.5)
    }, "beside numbers of a scale that is none of its own it has no code"  # fmt: skip
    rows = explain(model(by_half), SPEC).rows
    assert next(r.why for r in rows if r.name == "pad") == "0.5 need not be on the grid of what relu makes"


def test_a_padding_by_what_is_no_number_is_refused():
    for value, words in ((lambda x: float("-inf"), "-inf"), (torch.mean, "mean")):
        model = Net(lambda net, x, value=value: net.a(F.pad(x, (1, 1), value=value(x))), a=nn.Conv1d(2, 3, 3))
        with pytest.raises(UnsupportedLayer, match=rf"^pad: pads by {words}.*; state a finite number$"):
            quantize(model, SPEC)
