"""Conversion of float models: what becomes what, what is refused; the result trains, copies and traces."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec, calibrate
from compress.mask import apply_masks
from compress.quantize import LayerTracer, UnsupportedLayer, quantize

FOUR, SIX, EIGHT = (QuantSpec(weight_width=w, activation_width=w, input_width=w) for w in (4, 6, 8))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def mlp() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            flat=nn.Flatten(),
            fc1=nn.Linear(6, 8),
            norm=nn.BatchNorm1d(8),
            relu1=nn.ReLU(),
            block=nn.Sequential(nn.Linear(8, 5, bias=False), nn.ReLU(), nn.Identity()),
            fc2=nn.Linear(5, 3),
        )
    )


class Custom(nn.Module):
    """Shapes changed in forward, one ReLU used twice."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x):
        x = self.relu(self.fc1(torch.flatten(x, 1)))
        return self.relu(self.fc2(x)).view(-1, 3)


def test_every_layer_becomes_its_quantized_counterpart():
    model = mlp()
    quantized = quantize(model, SIX)
    kinds = {name: type(module) for name, module in quantized.named_children()}
    assert kinds == {
        "input": QuantIdentity,
        "flat": nn.Flatten,
        "fc1": QuantLinear,
        "norm": nn.BatchNorm1d,
        "relu1": QuantReLU,
        "block": nn.Sequential,
        "fc2": QuantLinear,
    }
    assert [type(layer) for layer in quantized.block] == [QuantLinear, QuantReLU, nn.Identity]
    assert quantized.fc1.spec == quantized.input.spec == SIX and quantized.block[0].bias is None
    for name in ("fc1.weight", "fc1.bias", "block.0.weight", "norm.running_mean"):
        original, copied = model.state_dict()[name], quantized.state_dict()[name]
        assert torch.equal(original, copied) and original.data_ptr() != copied.data_ptr()
    assert type(model.fc1) is nn.Linear, "the model itself stays as it is"


def test_enough_bits_change_almost_nothing():
    model = mlp().eval()
    wide = quantize(model, QuantSpec(weight_width=24, bias_width=24, activation_width=24, input_width=24))
    x = torch.randn(40, 2, 3)
    calibrate(wide, x)
    assert torch.allclose(wide(x), model(x), atol=1e-5)
    assert not torch.equal(wide(x), model(x))


def test_a_converted_model_trains_and_reaches_every_parameter():
    quantized = quantize(mlp(), SIX)
    quantized(torch.randn(20, 6)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in quantized.parameters())


def test_specs_by_name_pattern_and_class():
    quantized = quantize(mlp(), {nn.ReLU: EIGHT, "fc1": FOUR, "block.*": SIX, "fc?": EIGHT})
    assert quantized.fc1.spec == FOUR, "a name goes before a pattern"
    assert quantized.block[0].spec == SIX and quantized.fc2.spec == EIGHT
    assert quantized.relu1.spec == EIGHT and quantized.block[1].spec == EIGHT, "else the first that fits"
    assert quantized.input.spec == FOUR, "the input has the spec of the first layer"


def test_none_leaves_a_layer_as_it_is():
    quantized = quantize(mlp(), {"fc2": None, "*": SIX})
    assert type(quantized.fc2) is nn.Linear and type(quantized.fc1) is QuantLinear


def test_a_key_that_fits_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^'fc7', Tanh: fits no layer; the layers to quantize are fc1, relu1, "):
        quantize(mlp(), {"*": SIX, "fc7": FOUR, nn.Tanh: SIX})


def test_a_layer_that_no_key_fits_is_refused():
    with pytest.raises(ValueError, match=r"^relu1: no spec fits this ReLU; add one for 'relu1' or for '\*'"):
        quantize(mlp(), {"fc*": SIX, "block.*": SIX})


def test_a_custom_module_is_wrapped_behind_its_input():
    model = Custom()
    quantized = quantize(model, SIX)
    assert [name for name, _ in quantized.named_children()] == ["input", "model"]
    assert type(quantized.model) is Custom and type(quantized.model.relu) is QuantReLU
    assert quantized(torch.randn(4, 6)).shape == (4, 3)
    bare = quantize(model, SIX, input_quantizer=False)
    assert type(bare) is Custom and type(bare.fc1) is QuantLinear


def test_modules_used_twice_stay_one_module():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu)
    model[2].weight = model[0].weight
    quantized = quantize(model, SIX)
    layers = list(quantized)
    assert layers[2] is layers[4] and type(layers[2]) is QuantReLU
    assert layers[1].weight is layers[3].weight and layers[1].weight is not model[0].weight


def test_modes_types_and_frozen_parameters_are_kept():
    model = mlp().double().eval()
    model.norm.train()
    model.fc1.weight.requires_grad_(False)
    quantized = quantize(model, SIX)
    assert quantized.fc1.weight.dtype == torch.float64 and not quantized.fc1.weight.requires_grad
    modes = {name: module.training for name, module in quantized.named_children()}
    assert modes == {name: name == "norm" for name in modes}


def test_the_trace_keeps_layers_whole_and_copies_do_not_share():
    quantized = quantize(mlp(), SIX)
    apply_masks(quantized, {"fc1.weight": torch.rand(8, 6) > 0.5})
    x = torch.randn(30, 6)
    calibrate(quantized, x)
    graph = LayerTracer().trace(quantized)
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    assert called == ["input", "flat", "fc1", "norm", "relu1", "block.0", "block.1", "block.2", "fc2"]
    traced = torch.fx.GraphModule(quantized, graph)
    assert torch.equal(traced.eval()(x), quantized.eval()(x))
    copied = copy.deepcopy(quantized)
    assert torch.equal(copied(x), quantized(x))
    with torch.no_grad():
        copied.relu1.log2_range.add_(2)
        copied.fc2.weight.mul_(2)
    assert not torch.equal(copied(x), quantized(x))
    assert torch.equal(traced(x), quantized(x))


def test_quantizing_twice_changes_nothing():
    once = quantize(mlp(), SIX)
    twice = quantize(once, FOUR)
    assert [repr(layer) for layer in twice] == [repr(layer) for layer in once]


def test_a_single_layer_can_be_converted():
    assert type(quantize(nn.Linear(2, 3), SIX, input_quantizer=False)) is QuantLinear
    assert quantize(nn.Linear(2, 3), SIX)(torch.randn(5, 2)).shape == (5, 3)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            nn.Mish,
            r"^block\.1: Mish cannot be quantized: use nn\.ReLU instead, or let it stay a float layer with the spec ",
        ),
        (lambda: nn.Softmax(1), r"^block\.1: Softmax cannot be quantized: leave it out \(the largest score stays"),
        (lambda: nn.LayerNorm(5), r"^block\.1: LayerNorm cannot be quantized: use a batch norm instead"),
        (
            lambda: nn.Embedding(5, 5),
            r"^block\.1: Embedding cannot be quantized: replace it, .*; supported are nn\.Linear, ",
        ),
        (lambda: nn.MaxPool1d(2, return_indices=True), r"^block\.1: returns indices with its maxima"),
        (lambda: nn.Conv1d(5, 5, 1, padding_mode="circular"), r"^block\.1: padding_mode='circular' has no counterpart"),
        (lambda: nn.LeakyReLU(0), r"^block\.1: QuantLeakyReLU: the slope lies between 0 and 1"),
        (lambda: nn.Bilinear(5, 5, 5), r"^block\.1: Bilinear cannot be quantized"),
    ],
)
def test_an_unsupported_layer_is_refused_by_name(layer, message):
    model = mlp()
    model.block[1] = layer()
    with pytest.raises(UnsupportedLayer, match=message):
        quantize(model, SIX)


def test_a_forward_that_cannot_be_traced_is_refused():
    class Branching(Custom):
        def forward(self, x):
            return self.fc1(x) if x.sum() > 0 else self.fc1(-x)

    with pytest.raises(UnsupportedLayer, match=r"^Branching: torch\.fx cannot trace its forward"):
        quantize(Branching(), SIX)


def test_a_masked_layer_is_refused():
    model = mlp()
    apply_masks(model, {"fc2.weight": torch.ones(3, 5, dtype=torch.bool)})
    with pytest.raises(UnsupportedLayer, match=r"^fc2: it is masked or parametrized; quantize before pruning"):
        quantize(model, SIX)


def test_hooks_are_refused():
    model = mlp()
    model.block.register_forward_hook(lambda module, args, result: 2 * result)
    with pytest.raises(
        UnsupportedLayer, match=r"^block: it has forward hooks, which may change what it computes; remove"
    ):
        quantize(model, SIX)


def test_a_layer_called_input_is_refused():
    model = nn.Sequential(OrderedDict(input=nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"^something in the model is called 'input', as .*; rename it"):
        quantize(model, SIX)
