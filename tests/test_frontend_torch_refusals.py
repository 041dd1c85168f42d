"""What the torch frontend refuses: each by the name of its place in the user's module, with the cure."""

from __future__ import annotations

import brevitas.nn as bnn
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from compress.fixed import FixedPoint
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec
from export.frontends.precision import Precision
from export.frontends.torch import lower
from export.ir import GraphError


def calibrated(model):
    """A model of four inputs that has seen data."""
    torch.manual_seed(0)
    with torch.no_grad():
        model.train()(torch.randn(64, 4))
    return model.eval()


def settled(norm):
    """Statistics and parameters as a training would leave them."""
    rng = np.random.default_rng(3)
    with torch.no_grad():
        for values in (norm.running_mean, norm.weight, norm.bias):
            values.copy_(torch.tensor(rng.normal(size=norm.num_features)))
    return norm


def module(forward, **layers):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant = QuantIdentity(spec=QuantSpec(input_frac=3, input_width=6))
            for name, layer in layers.items():
                setattr(self, name, layer)

    Net.forward = forward
    return Net().eval()


def linear(n_in=4, n_out=3, **spec):
    return QuantLinear(n_in, n_out, spec=QuantSpec(weight_frac=3, weight_width=5, bias_frac=4, **spec))


class Doubled(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


def with_hook(layer):
    layer.register_forward_hook(lambda _, args, y: 2 * y)
    return layer


def old_mask(layer):
    return prune.l1_unstructured(layer, "weight", 0.5)


def diverged(value):
    layer = linear()
    with torch.no_grad():
        layer.weight[0, 0] = layer.weight[1, 1] = value
    return layer


CURE = (
    "; replace it by one that has one (export.frontends.torch.supported() lists them), or leave it out of the exported "
    "part"
)
LAYER = "{label} ({layer}): has no exact lowering" + CURE
CALL = "{call}: this call has no exact lowering" + CURE
FLATTEN = "{label}: leaves no axis beside the batch's; keep one (x[:, 0:1] in place of x[:, 0])"

UNCALIBRATED = "act: its range has not seen any data yet; train for a step"

REFUSED = {
    "layer": (lambda: module(lambda s, x: s.act(s.quant(x)), act=nn.Softsign()),
              LAYER.format(label="act", layer="Softsign()")),
    "flatten from another axis": (
        lambda: module(lambda s, x: s.flat(s.quant(x)), flat=nn.Flatten(0)),
        FLATTEN.format(label="flat")),
    "Brevitas layer": (lambda: module(lambda s, x: s.act(s.quant(x)), act=bnn.QuantConvTranspose1d(4, 2, 1)),
                       LAYER.format(label="act", layer="QuantConvTranspose1d")),
    "transposed convolution": (
        lambda: module(lambda s, x: s.conv(s.quant(x)), conv=nn.ConvTranspose1d(1, 2, 3)),
        LAYER.format(label="conv", layer=nn.ConvTranspose1d(1, 2, 3))),
    "pooling": (lambda: module(lambda s, x: s.pool(s.quant(x)), pool=nn.LPPool1d(2, 2)),
                LAYER.format(label="pool", layer=nn.LPPool1d(2, 2))),
    "call": (lambda: module(lambda s, x: torch.special.erf(s.quant(x))), CALL.format(call="special_erf")),
    "call in a submodule": (
        lambda: module(lambda s, x: s.inner(s.quant(x)), inner=module(lambda s, x: F.softsign(x))),
        CALL.format(call="inner.softsign")),
    "a curve that nothing quantizes": (
        lambda: module(lambda s, x: torch.sigmoid(s.quant(x))),
        "sigmoid: leaves the network with scale 1.0 and a sigmoid, which no fixed-point format says; end with a "
        "quantizer (QuantIdentity or QuantReLU)"),
    "flatten of the batch": (lambda: module(lambda s, x: s.quant(x).flatten()), FLATTEN.format(label="flatten")),
    "two inputs": (
        lambda: module(lambda s, x, y: s.quant(x)),
        "x, y: the model has 2 inputs, input_shape says 1; give one shape for each, input_shape=[(3, 8, 8), (4,)]"),
    "two outputs": (lambda: module(lambda s, x: (s.quant(x), x)), "output: the model returns a tuple, not one tensor"),
    "a dict": (lambda: module(lambda s, x: {"y": s.quant(x)}), "output: the model returns a dict, not one tensor"),
    "two arguments": (
        lambda: module(lambda s, x: s.other(s.quant(x), x), other=nn.Bilinear(4, 4, 2)),
        "other: is called with 2 arguments, not with one tensor alone"),
    "arguments by name": (
        lambda: module(lambda s, x: s.fc(input=s.quant(x)), fc=linear()),
        "fc: is called with 1 arguments, not with one tensor alone"),
    "a bare parameter": (
        lambda: module(lambda s, x: torch.cat([s.quant(x), s.p], 1), p=nn.Parameter(torch.ones(1, 4))),
        "p: a bare parameter is part of the computation; put it in a layer"),
    "a layer with a forward of its own": (
        lambda: module(lambda s, x: s.fc(s.quant(x)), fc=Doubled(4, 3)),
        "fc.weight: a bare parameter is part of the computation; put it in a layer"),
    "a hook": (
        lambda: module(lambda s, x: s.fc(s.quant(x)), fc=with_hook(linear())),
        "fc: has forward hooks, which may change what it computes; remove them "
        "(torch.nn.utils.prune.remove for its masks, or prune with compress.mask)"),
    "a mask of torch.nn.utils.prune": (
        lambda: module(lambda s, x: s.fc(s.quant(x)), fc=old_mask(linear())),
        "fc: has forward hooks, which may change what it computes; remove them "
        "(torch.nn.utils.prune.remove for its masks, or prune with compress.mask)"),
    "no input width": (
        lambda: module(lambda s, x: s.fc(x), fc=linear()),
        "fc: the input width is missing: nothing quantizes the model's input before it; put a QuantIdentity "
        "in front of the model, or pass input_format=FixedPoint(width, frac)"),
    "no input width at the output": (
        lambda: module(lambda s, x: x),
        "output: the input width is missing: nothing quantizes the model's input before it; put a QuantIdentity "
        "in front of the model, or pass input_format=FixedPoint(width, frac)"),
    "NaN": (
        lambda: module(lambda s, x: s.fc(s.quant(x)), fc=diverged(float("nan"))),
        "fc.weight: 2 of 12 values are NaN or infinite; the training diverged: restore an earlier checkpoint or "
        "lower the learning rate"),
    "infinity": (
        lambda: module(lambda s, x: s.fc(s.quant(x)), fc=diverged(float("inf"))),
        "fc.weight: 2 of 12 values are NaN or infinite; the training diverged: restore an earlier checkpoint or "
        "lower the learning rate"),
    "float weights": (lambda: module(lambda s, x: s.fc(s.quant(x)), fc=nn.Linear(4, 3)),
                      "fc: has float weights and no precision; quantize() the model, or pass precision=Precision(...)"),
    "an uncalibrated range": (
        lambda: module(lambda s, x: s.act(s.fc(s.quant(x))), fc=linear(), act=QuantReLU()),
        UNCALIBRATED),
    "an uncalibrated range of Brevitas": (
        lambda: module(lambda s, x: s.act(s.fc(s.quant(x))), fc=linear(), act=bnn.QuantReLU()),
        UNCALIBRATED),
    "too many features": (
        lambda: module(lambda s, x: s.fc(s.quant(x)), fc=linear(5)),
        "fc: the weights take 5 inputs, x: fixed<6,3>[4] has another shape; flatten it"),
    "another number of channels": (
        lambda: module(lambda s, x: s.norm(s.quant(x)), norm=nn.BatchNorm1d(3)),
        "norm: normalises 3 features, but reads x: fixed<6,3>[4]"),
    "no statistics": (
        lambda: module(lambda s, x: s.norm(s.quant(x)), norm=nn.BatchNorm1d(4, track_running_stats=False)),
        "norm: keeps no running statistics; build it with track_running_stats=True"),
    "a layer after batch norm": (
        lambda: module(lambda s, x: s.fc(s.norm(s.quant(x))), norm=settled(nn.BatchNorm1d(4)), fc=linear()),
        "fc: reads norm, whose result is scaled or shifted per channel and not quantized; put a QuantIdentity or "
        "QuantReLU between them"),
    "batch norm after a pending relu": (
        lambda: module(lambda s, x: s.b(F.relu(s.a(s.quant(x)))), a=settled(nn.BatchNorm1d(4)), b=nn.BatchNorm1d(4)),
        "b: follows a relu that no quantizer follows; use a quantized layer before it"),
    "a relu at the output": (
        lambda: module(lambda s, x: F.relu(s.norm(s.quant(x))), norm=_half(nn.BatchNorm1d(4, eps=0))),
        "relu: leaves the network with scale 0.5 and a relu, which no fixed-point format says; end with a quantizer "
        "(QuantIdentity or QuantReLU)"),
}  # fmt: skip


def _half(norm):
    with torch.no_grad():
        norm.weight.fill_(0.5)
    return norm


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what):
    make, message = REFUSED[what]
    with pytest.raises(ValueError) as error:
        lower(make(), (4,))
    assert str(error.value) == message or (message is UNCALIBRATED and str(error.value).startswith(message))


def test_a_sum_over_64_bits():
    wide = QuantSpec(weight_width=32, weight_frac=20, input_width=32, input_frac=20, bias_width=8, bias_frac=2)
    model = nn.Sequential(QuantIdentity(spec=wide), QuantLinear(300, 2, spec=wide)).eval()
    with torch.no_grad():
        model[1].weight.fill_(2000.0)
    with pytest.raises(GraphError) as error:
        lower(model, (300,))
    assert str(error.value) == "1: an exact accumulator needs 72 bits, the limit is 64; use narrower formats"
    both = Precision(weight=FixedPoint.of(40, 6), result=FixedPoint.of(25, 6))
    with pytest.raises(GraphError) as error:
        lower(nn.Sequential(nn.Linear(2, 2)), (2,), precision=both)
    assert str(error.value) == (
        "0.sum: a product of fixed<25,6> and fixed<40,6> needs 65 bits, the limit is 64; use narrower inputs or weights"
    )


def test_a_precision_for_no_layer():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(ValueError) as error:
        lower(model, (4,), precision={"fc": Precision()})
    assert str(error.value) == "precision names 'fc', which is no layer of the model; its layers are 0, 1"
    with pytest.raises(ValueError, match=r"^0: the input width is missing"):
        lower(model, (4,), precision={})
