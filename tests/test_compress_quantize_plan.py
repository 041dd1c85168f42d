"""The explained conversion: its table, its keys, and what it says of the model that it makes."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from compress.layers import QuantIdentity, QuantReLU, QuantSpec, Scale
from compress.quantize import UnsupportedLayer, explain, quantize

FOUR, SIX, EIGHT = (QuantSpec(weight_width=w, activation_width=w, input_width=w) for w in (4, 6, 8))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.block = nn.Sequential(nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3))
        self.unused = nn.Linear(5, 5)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc(x))
        return self.head(F.relu(x + self.block(x)))


def test_every_row_says_what_and_why():
    specs = {"head": replace(EIGHT, weight_width=3), "relu*": FOUR, nn.Linear: SIX}
    linear, relu, identity = "QuantLinear(3, 3, 6-bit weights", "QuantReLU(4-bit unsigned", "QuantIdentity(6-bit signed"
    expected = [
        ("input", "", identity, "as fc", "what enters the network"),
        ("fc", "Linear", linear, "Linear", ""),
        ("relu", "call of relu", relu, "'relu*'", ""),
        ("block.0", "Linear", linear, "Linear", ""),
        ("block.1", "BatchNorm1d", "stays", "", "rescales, up to the next quantizer"),
        ("block.1_quant", "", identity, "as block.0", "add reads the batch norm block.1, which rescales"),
        ("add", "call of add", "stays", "", "an exact sum"),
        ("relu_1", "call of relu", relu, "'relu*'", ""),
        ("head", "Linear", "QuantLinear(3, 2, 3-bit weights", "'head'", ""),
    ]
    rows = explain(Skip(), specs).rows
    assert [(row.name, row.was, row.key, row.why) for row in rows] == [
        (n, was, key, why) for n, was, _, key, why in expected
    ]
    for row, (_, _, becomes, _, _) in zip(rows, expected, strict=True):
        assert row.becomes.startswith(becomes)


def test_the_table_is_aligned():
    model = nn.Sequential(OrderedDict(act=nn.ReLU(), pool=nn.AvgPool1d(2), last=nn.Tanh()))
    assert str(explain(model, {"last": FOUR, "*": SIX})).splitlines() == [
        "Sequential: keeps its class",
        "",
        "layer  was        becomes                                     spec    why",
        "---------------------------------------------------------------------------------------------",
        "input  -          QuantIdentity(6-bit signed, learned range)  '*'     what enters the network",
        "act    ReLU       QuantReLU(6-bit unsigned, learned range)    '*'",
        "pool   AvgPool1d  stays                                       -       a sum, then a division",
        "last   Tanh       QuantTanh(4-bit signed, 3 fraction bits)    'last'",
    ]


def test_the_plan_says_which_form_the_model_takes():
    heads = {
        "a torch.fx.GraphModule, since its forward calls relu": Skip(),
        "keeps its class": nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU())),
        "a torch.fx.GraphModule, since its forward has no place for 0.0_quant": nn.Sequential(
            Wrapped(nn.Linear(2, 2)), nn.Linear(2, 2)
        ),
    }
    for head, model in heads.items():
        plan = explain(model, SIX)
        assert str(plan).startswith(f"{type(model).__name__}: {head}\n")
        assert isinstance(plan.apply(), fx.GraphModule) is (head != "keeps its class")


class Wrapped(nn.Sequential):
    """A Sequential with a forward of its own may count its layers."""

    def forward(self, x: Tensor) -> Tensor:
        return self[0](x)


def test_a_plan_changes_nothing_and_can_be_applied_again():
    model = Skip()
    before = copy.deepcopy(model.state_dict())
    plan = explain(model, SIX)
    first, second = plan.apply(), plan.apply()
    with torch.no_grad():
        first.fc.weight.add_(1)
    assert torch.equal(second.fc.weight, model.fc.weight)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert type(model.fc) is nn.Linear


def test_a_plan_is_applied_to_the_weights_of_that_moment():
    model = Skip()
    plan = explain(model, SIX)
    with torch.no_grad():
        model.fc.weight.add_(1)
    assert torch.equal(plan.apply().fc.weight, model.fc.weight)


def test_a_graph_keeps_every_name_and_mode():
    model = Skip().double()
    model.block[1].eval()
    model.fc.weight.requires_grad_(False)
    quantized = quantize(model, SIX)
    assert {*model.state_dict()} < {*quantized.state_dict()}, "unused layers too"
    assert {*copy.deepcopy(quantized).state_dict()} == {*quantized.state_dict()}
    assert not quantized.fc.weight.requires_grad and quantized.relu.log2_range.dtype == torch.float64
    assert quantized.training and quantized.relu.training and not quantized.get_submodule("block.1").training
    assert type(quantized).__name__ == "Skip"
    evaluating = quantize(Skip().eval(), SIX).named_modules()
    assert [name for name, module in evaluating if module.training and "act_quant" not in name] == []


def test_new_parameters_are_where_the_old_ones_are():
    quantized = quantize(Skip().to("meta"), SIX)
    assert {parameter.device.type for parameter in quantized.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("specs", "name", "width"),
    [
        ({"relu": FOUR, "*": SIX}, "relu", 4),
        ({"relu_?": FOUR, "*": SIX}, "relu_1", 4),
        ({"relu_?": FOUR, "*": SIX}, "relu", 6),
        ({nn.ReLU: FOUR, "*": SIX}, "relu_1", 4),
        ({"block.1_quant": FOUR, "*": SIX}, "block.1_quant", 4),
        ({"*_quant": FOUR, "*": SIX}, "block.1_quant", 4),
        ({QuantIdentity: FOUR, "*": SIX}, "block.1_quant", 4),
        ({QuantIdentity: FOUR, "*": SIX}, "input", 4),
        ({"input": FOUR, "*": SIX}, "input", 4),
        ({"block*": FOUR, "fc": EIGHT, "*": SIX}, "block.1_quant", 4),
        ({"block.0": FOUR, "fc": EIGHT, "head": SIX, nn.ReLU: SIX}, "block.1_quant", 4),
        ({"block.0": FOUR, "fc": EIGHT, "head": SIX, nn.ReLU: SIX}, "input", 8),
    ],
)
def test_calls_and_inserted_quantizers_have_names_for_specs(specs, name, width):
    layer = quantize(Skip(), specs).get_submodule(name)
    assert isinstance(layer, QuantIdentity | QuantReLU)
    assert repr(layer).startswith(f"{type(layer).__name__}({width}-bit")


def test_keys_that_fit_nothing():
    layers = "fc, relu, block.0, relu_1, head, input, block.1_quant"
    with pytest.raises(
        ValueError, match=rf"^'relu_2', 'unused', Conv2d: fits no layer; the layers to quantize are {layers}$"
    ):
        explain(Skip(), {"*": SIX, "relu_2": FOUR, "unused": None, nn.Conv2d: SIX})
    with pytest.raises(ValueError, match=r"^relu: no spec fits this ReLU; add one for 'relu' or for '\*'$"):
        explain(Skip(), {nn.Linear: SIX})


def test_names_of_calls_avoid_those_of_the_model():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.tanh = nn.Linear(3, 3), 5

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(F.relu(self.relu(x)))

    quantized = quantize(Named(), SIX)
    assert [name for name, _ in quantized.named_children()] == ["input", "relu", "relu_1", "tanh_1"]


def test_a_name_goes_before_patterns_also_for_a_shared_layer():
    relu = nn.ReLU()
    model = nn.Sequential(OrderedDict(a=nn.Linear(2, 2), r1=relu, b=nn.Linear(2, 2), r2=relu))
    plan = explain(model, {"*": SIX, "r2": FOUR})
    assert [(row.name, row.key, row.why) for row in plan.rows if row.was == "ReLU"] == [
        ("r1", "'r2'", "called 2 times, one layer for all")
    ]
    quantized = plan.apply()
    assert quantized.r1 is quantized.r2 and quantized.r1.spec == FOUR


def test_a_forward_that_asks_for_the_class_of_its_layers_is_refused():
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Sigmoid(), nn.Identity()])

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
                if isinstance(layer, nn.Sigmoid):
                    x = self.layers[2](x)
            return x

    with pytest.raises(
        UnsupportedLayer, match=r"^Asking: its forward does another thing once its layers are quantized"
    ):
        quantize(Asking(), SIX)


def test_layers_kept_in_a_plain_list_are_refused():
    class Listing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.relu = nn.Linear(2, 2), nn.ReLU()
            self.steps = [self.fc, self.relu]

        def forward(self, x: Tensor) -> Tensor:
            return self.steps[1](self.steps[0](x))

    with pytest.raises(UnsupportedLayer, match=r"^Listing: .*do not let it .* keep layers in plain lists$"):
        quantize(Listing(), SIX)


def test_float_scales_of_activations_are_kept():
    quantized = quantize(Skip(), replace(SIX, activation_scale=Scale.FLOAT))
    assert "float scale" in repr(quantized.relu) and "float scale" not in repr(quantized.get_submodule("block.1_quant"))
