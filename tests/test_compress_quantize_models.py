"""Models that people wrote for other purposes: each is converted whole or refused by name."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from float_models import MODELS
from torch import Tensor, fx, nn
from torch.nn import functional as F

from compress.layers import QuantSpec, is_quantized
from compress.mask import apply_masks, masks_of, prunable
from compress.quantize import LayerTracer, Plan, UnsupportedLayer, explain, quantize
from compress.train import TrainConfig, train

SIX = QuantSpec(weight_width=6, activation_width=6, input_width=8)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def made(name: str, rows: int = 8) -> tuple[nn.Module, list[Tensor]]:
    build, shapes = MODELS[name]
    model = build()
    inputs = [torch.randn(rows, *shape) for shape in shapes]
    with torch.no_grad():
        model(*inputs)  # so that the batch norms have seen something
    return model, inputs


def wide(width: int) -> QuantSpec:
    """Constant binary points, 16 bits before them, for activations; weights as they come."""
    fixed = {"activation_width": width, "input_width": width, "activation_frac": width - 16, "input_frac": width - 16}
    return QuantSpec(weight_width=width, bias_width=width, **fixed)


def without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_model_converts_and_trains(name):
    model, inputs = made(name)
    before = copy.deepcopy(model.state_dict())
    quantized = quantize(model, SIX)
    optimizer = torch.optim.SGD(quantized.parameters(), 1e-2)
    quantized(*inputs).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in quantized.parameters())
    optimizer.step()
    assert torch.isfinite(quantized(*inputs)).all()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()), "the model itself stays"


@pytest.mark.parametrize("name", MODELS)
def test_the_plan_tells_what_is_done(name):
    model, _ = made(name)
    plan = explain(model, SIX)
    assert_agrees(plan, plan.apply())
    assert repr(plan.apply()) == repr(quantize(model, SIX))


def assert_agrees(plan: Plan, quantized: nn.Module) -> None:
    """Row by row; and the model calls no quantized layer that no row tells of."""
    told = set()
    for row in plan.rows:
        name = plan.place_of(row.name)
        if row.becomes not in ("stays", "nothing"):
            assert repr(quantized.get_submodule(name)) == row.becomes
            told.add(name)
        elif row.becomes == "stays" and not row.was.startswith("call of"):
            assert type(quantized.get_submodule(name)).__name__ == row.was
    calls = [str(node.target) for node in LayerTracer().trace(quantized).nodes if node.op == "call_module"]
    assert {name for name in calls if is_quantized(quantized.get_submodule(name))} <= told
    assert isinstance(quantized, fx.GraphModule) is (plan.graph_because is not None)


@pytest.mark.parametrize("name", MODELS)
def test_enough_bits_change_almost_nothing(name):
    """The error falls with the step, by 2**10 from 20 to 30 bits; that of one rounding more or less by chance."""
    model, inputs = made(name)
    model.double().eval()
    inputs = [x.double() for x in inputs]
    expected = model(*inputs)
    errors = [(quantize(model, wide(width)).double()(*inputs) - expected).abs().max().item() for width in (20, 30)]
    assert 0 < errors[1] < 1e-3 and errors[1] < errors[0] / 2**7


@pytest.mark.parametrize("name", MODELS)
def test_state_and_copies(name):
    model, inputs = made(name)
    plan = explain(model, SIX)
    quantized = without_dropout(plan.apply())
    quantized(*inputs)
    assert set(quantized.state_dict()) >= {plan.place_of(key) for key in model.state_dict()}
    copied = copy.deepcopy(quantized)
    fresh = plan.apply()
    fresh.load_state_dict(quantized.state_dict())
    for other in (copied, fresh):
        assert list(other.state_dict()) == list(quantized.state_dict())
        assert torch.equal(other.eval()(*inputs), quantized.eval()(*inputs))
    with torch.no_grad():
        next(copied.parameters()).add_(1)
    assert not torch.equal(next(copied.parameters()), next(quantized.parameters()))


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_can_be_pruned(name):
    quantized, inputs = (quantize(made(name)[0], SIX), made(name)[1])
    weights = prunable(quantized)
    assert len(weights) == sum(isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) for module in quantized.modules())
    apply_masks(quantized, {key: torch.rand(weight.shape) > 0.5 for key, weight in weights.items()})
    quantized(*inputs).square().mean().backward()
    assert masks_of(copy.deepcopy(quantized)).keys() == weights.keys()
    traced = fx.GraphModule(quantized, LayerTracer().trace(quantized))
    assert torch.equal(traced.eval()(*inputs), quantized.eval()(*inputs))


@pytest.mark.parametrize("name", ["LeNet", "MnistExample", "MobileNet", "quickstart"])
def test_the_trainer_takes_it(name):
    model, (x,) = made(name, rows=24)
    classes = model(x).shape[1]
    labels = torch.arange(24) % classes
    trained = train(quantize(model, SIX), (x, labels), (x, labels), TrainConfig(epochs=2, batch_size=8, seed=1))
    assert trained


def test_quantizing_a_graph_twice_changes_nothing():
    model, _ = made("ResNet")
    once = quantize(model, SIX)
    again = explain(once, QuantSpec(weight_width=3))
    assert {row.becomes for row in again.rows} == {"stays"} and again.graph_because is None
    assert list(again.apply().state_dict()) == list(once.state_dict())


class One(nn.Module):
    """A call of some layer or function between two linear layers."""

    def __init__(self, call, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.before = nn.Conv2d(4, 4, 1) if len(shape) == 3 else nn.Linear(shape[-1], 4)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.before(x))


PICTURE, ROW = (4, 6, 6), (4,)
#: Small modules, of which another tool is known to refuse most: one layer or call each.
CONVERTED = {
    "ReLU6": (nn.ReLU6(), ROW),
    "Hardtanh": (nn.Hardtanh(), ROW),
    "Hardtanh, wide": (nn.Hardtanh(-2, 3), ROW),
    "LeakyReLU": (nn.LeakyReLU(0.1), ROW),
    "PReLU": (nn.PReLU(), ROW),
    "Tanh": (nn.Tanh(), ROW),
    "Sigmoid": (nn.Sigmoid(), ROW),
    "Hardsigmoid": (nn.Hardsigmoid(), ROW),
    "Identity": (nn.Identity(), ROW),
    "Dropout": (nn.Dropout(0.0), ROW),
    "BatchNorm2d": (nn.BatchNorm2d(4), PICTURE),
    "groups": (nn.Conv2d(4, 8, 3, groups=2), PICTURE),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), PICTURE),
    "dilation": (nn.Conv2d(4, 4, 2, dilation=2), PICTURE),
    "padding same": (nn.Conv2d(4, 4, 3, padding="same"), PICTURE),
    "uneven": (nn.Conv2d(4, 3, (1, 5), stride=(2, 1), padding=(0, 2)), PICTURE),
    "no bias": (nn.Conv2d(4, 3, 1, bias=False), PICTURE),
    "MaxPool2d": (nn.MaxPool2d(2), PICTURE),
    "MaxPool2d, ceil": (nn.MaxPool2d(4, ceil_mode=True), PICTURE),
    "AvgPool2d": (nn.AvgPool2d(3, stride=1, padding=1), PICTURE),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d(1), PICTURE),
    "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool2d(2), PICTURE),
    "mean": (lambda x: x.mean((2, 3)), PICTURE),
    "torch.mean": (lambda x: torch.mean(x, dim=2, keepdim=True), PICTURE),
    "relu": (F.relu, ROW),
    "clamp": (lambda x: x.clamp(-1, 1), ROW),
    "clamp at zero": (lambda x: torch.clamp(x, min=0), ROW),
    "doubled": (lambda x: x + x, ROW),
    "added": (lambda x: torch.add(x, torch.relu(x)), ROW),
    "concatenated": (lambda x: torch.cat((x, torch.tanh(x)), dim=1), ROW),
    "flatten": (lambda x: torch.flatten(x, 1), PICTURE),
    "transposed": (lambda x: x.permute(0, 2, 3, 1), PICTURE),
    "sliced": (lambda x: x[:, :2], PICTURE),
}
REFUSED = {
    "Mish": (nn.Mish(), ROW, "call: Mish cannot be quantized: use nn.ReLU"),
    "Softmax": (nn.Softmax(1), ROW, "call: Softmax cannot be quantized: leave it out"),
    "LayerNorm": (nn.LayerNorm(4), ROW, "call: LayerNorm cannot be quantized: use a batch norm"),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 4, 2), PICTURE, "call: ConvTranspose2d cannot be quantized"),
    "Upsample": (nn.Upsample(scale_factor=2, mode="bilinear"), PICTURE, "call: Upsample cannot be quantized"),
    "reflected": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), PICTURE, "call: padding_mode='reflect'"),
    "softmax": (lambda x: torch.softmax(x, 1), ROW, "One.forward calls softmax (softmax), which cannot be quantized"),
    "F.linear": (lambda x: F.linear(x, torch.eye(4)), ROW, "_tensor_constant0: a bare parameter is part of"),
    "twice": (lambda x: 2 * x, ROW, "mul: mul with a constant; put it in the weights of a layer"),
    "plus one": (lambda x: x + 1, ROW, "add: add with a constant; put it in the bias of a layer"),
    "one minus": (lambda x: 1 - x, ROW, "sub: sub with a constant; put it in the bias of a layer"),
    "quotient": (lambda x: x / x, ROW, "One.forward calls truediv (truediv), which cannot be quantized"),
    "matmul": (lambda x: x @ x.transpose(0, 1), ROW, "One.forward calls matmul (matmul), which cannot be quantized"),
    "alpha": (lambda x: torch.add(x, x, alpha=2), ROW, "add: adds with alpha=2; scale in a layer, then add"),
    "pool of all": (lambda x: F.avg_pool2d(x, x.size()[2:]), PICTURE, "avg_pool2d: the kernel_size of avg_pool2d is"),
    "indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], PICTURE, "One.forward calls max_pool2d_with"),
    "clamp above": (lambda x: x.clamp(max=3), ROW, "clamp: clamp called in this way is no layer: a clamp needs both"),
    "always dropped": (
        lambda x: F.dropout(x, 0.5),
        ROW,
        "dropout: this dropout draws in eval mode too; pass training=",
    ),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_small_modules_convert(name):
    call, shape = CONVERTED[name]
    model = One(call, shape)
    x = torch.randn(5, *shape)
    model(x)
    plan = explain(model, SIX)
    assert_agrees(plan, plan.apply())
    assert plan.apply()(x).shape == model(x).shape
    model.double().eval()
    error = (quantize(model, wide(30)).double()(x.double()) - model(x.double())).abs().max()
    assert error < 1e-3


@pytest.mark.parametrize("name", REFUSED)
def test_small_modules_are_refused_by_name(name):
    call, shape, message = REFUSED[name]
    with pytest.raises(UnsupportedLayer, match=f"^{re.escape(message)}"):
        quantize(One(call, shape), SIX)
