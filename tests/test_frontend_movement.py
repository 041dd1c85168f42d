"""What moves numbers: every option means what it means in torch, and what does not keep samples apart is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exported import assert_exact, lowered, module
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compress.fixed import FixedPoint
from compress.layers import QuantIdentity, QuantReLU, QuantSpec
from export.ir import GraphError
from export.ops import Concat, Input, Rearrange, Reshape

IMAGE = (4, 3, 5)
PLACES = nn.Parameter(torch.tensor([2, 0, 2, 1]), requires_grad=False)

CALLS = {
    "flatten": lambda s, x: x.flatten(1),
    "flatten of some axes": lambda s, x: torch.flatten(x, 1, 2),
    "flatten by name": lambda s, x: torch.flatten(input=x, start_dim=2),
    "view with the batch's size": lambda s, x: x.view(x.size(0), -1),
    "view of a shape taken apart": lambda s, x: x.view(x.shape[0], x.shape[1], x.shape[2] * x.shape[3]),
    "unpacked shape": lambda s, x: _unpacked(x),
    "view with the batch left open": lambda s, x: x.view(-1, 4, 15),
    "reshape to a known batch": lambda s, x: x.reshape((len_of(x), 12, 5)),
    "a shape as a whole": lambda s, x: x.flatten(1).reshape(x.shape),
    "a slice of a shape": lambda s, x: x.flatten(2).view(x.size()[:2] + (5, 3)),  # noqa: RUF005 - fx cannot iterate
    "the number of axes": lambda s, x: x.flatten(x.dim() - 2).flatten(x.ndim - 3),
    "squeeze and unsqueeze": lambda s, x: x.unsqueeze(2).squeeze(2).unsqueeze(-1),
    "transpose": lambda s, x: x.transpose(1, 3),
    "permute": lambda s, x: x.permute(0, 2, 3, 1),
    "permute by function": lambda s, x: torch.permute(x, (0, 3, 1, 2)).contiguous(),
    "movedim": lambda s, x: torch.movedim(x, 1, -1),
    "slices": lambda s, x: x[:, 1:, ::2, [0, 3, 3]],
    "an index": lambda s, x: x[:, 2],
    "a new axis": lambda s, x: x[:, None, ..., 1:3],
    "indices of the model's": lambda s, x: x[:, s.places].index_select(2, s.places),
    "narrow": lambda s, x: x.narrow(3, 1, 3),
    "select": lambda s, x: x.select(2, -1),
    "flip": lambda s, x: torch.flip(x, (1, 3)),
    "roll": lambda s, x: torch.roll(x, (1, -2), dims=(2, 3)),
    "rot90": lambda s, x: torch.rot90(x, 1, (2, 3)),
    "repeat": lambda s, x: x.repeat(1, 2, 1, 3),
    "tile": lambda s, x: torch.tile(x, (2, 1, 1)),
    "repeat_interleave": lambda s, x: x.repeat_interleave(2, dim=1),
    "expand": lambda s, x: x[:, :1].expand(-1, 4, -1, -1),
    "pad": lambda s, x: F.pad(x, (1, 0, 2, 1)),
    "pad by a number": lambda s, x: F.pad(x, (0, 2), value=-1.25),
    "pad by a number off the grid": lambda s, x: F.pad(x, (0, 2), value=0.03125),
    "crop": lambda s, x: F.pad(x, (-1, -1)),
    "reflect": lambda s, x: F.pad(x, (2, 1, 1, 2), mode="reflect"),
    "replicate": lambda s, x: F.pad(x, (2, 1, 1, 2), mode="replicate"),
    "circular": lambda s, x: F.pad(x, (2, 1, 1, 2), mode="circular"),
    "nearest by a size": lambda s, x: F.interpolate(x, size=(4, 7)),
    "nearest by a scale": lambda s, x: F.interpolate(x, scale_factor=1.6, mode="nearest"),
    "nearest-exact": lambda s, x: F.interpolate(x, scale_factor=(2, 0.7), mode="nearest-exact"),
    "pixel shuffle": lambda s, x: F.pixel_shuffle(x, 2),
    "unfold": lambda s, x: F.unfold(x, (2, 3), padding=1),
    "unfold of an axis": lambda s, x: x.unfold(3, 2, 1),
    "triangle": lambda s, x: torch.tril(x),
    "chunks": lambda s, x: torch.cat(x.chunk(3, dim=3)[::-1], 3),
    "some chunks": lambda s, x: torch.chunk(x, 2, 1)[1],
    "splits": lambda s, x: torch.cat((torch.split(x, [1, 3], dim=1)[1], x), dim=1),
    "unbind and stack": lambda s, x: torch.stack(torch.unbind(x, 2), dim=1),
    "stack along the last axis": lambda s, x: torch.stack([x, x.flip(1)], -1),
    "concatenation along the last axis": lambda s, x: torch.cat([x, x[..., :2]], dim=-1),
    "nothing": lambda s, x: x.contiguous().float().clone(),
    "a part and another": lambda s, x: torch.cat([s.quant(x[:, :1]), x], 1),
}


def _unpacked(x):
    b, c, h, w = x.shape
    return x.reshape(b, h, c // 2, w * 2)


def len_of(x):
    return x.shape[0]


@pytest.mark.parametrize("what", CALLS)
def test_calls(what):
    assert_exact(module(lambda s, x: CALLS[what](s, s.quant(x)), places=PLACES), IMAGE)


#: What is quantized beside what is not; and the number of a padding has no code yet.
QUANTIZED = {"a part and another", "pad by a number", "pad by a number off the grid"}


@pytest.mark.parametrize("what", [name for name in CALLS if name not in QUANTIZED])
def test_calls_before_the_input_is_quantized(what):
    assert_exact(module(lambda s, x: s.quant(CALLS[what](s, x)), places=PLACES), IMAGE)


LAYERS = [
    (nn.Flatten(), IMAGE), (nn.Flatten(2), IMAGE), (nn.Flatten(1, 2), IMAGE), (nn.Unflatten(1, (2, 2)), IMAGE),
    (nn.PixelShuffle(2), IMAGE), (nn.PixelUnshuffle(2), (2, 4, 6)), (nn.ChannelShuffle(2), IMAGE),
    (nn.Upsample(scale_factor=2), IMAGE), (nn.Upsample(size=7), (2, 5)),
    (nn.UpsamplingNearest2d(scale_factor=3), IMAGE),
    (nn.Upsample(scale_factor=1.5, mode="nearest-exact"), IMAGE), (nn.ConstantPad1d((1, 2), 0.5), (2, 5)),
    (nn.ConstantPad2d(1, -0.125), IMAGE), (nn.ZeroPad1d(2), (2, 5)), (nn.ZeroPad2d((1, 0, 2, 0)), IMAGE),
    (nn.ReflectionPad1d(3), (2, 5)), (nn.ReflectionPad2d(2), IMAGE), (nn.ReplicationPad1d(3), (2, 5)),
    (nn.ReplicationPad2d((1, 2, 3, 0)), IMAGE), (nn.CircularPad1d(2), (2, 5)), (nn.CircularPad2d((2, 1, 0, 3)), IMAGE),
    (nn.Unfold(2, dilation=2), IMAGE), (nn.Identity(), IMAGE), (nn.Dropout(0.5), IMAGE),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda each: str(each))
def test_layers(layer, shape):
    assert_exact(module(lambda s, x: s.layer(s.quant(x)), layer=layer), shape)


MODES = st.sampled_from(["constant", "reflect", "replicate", "circular"])


@given(mode=MODES, left=st.integers(0, 2), right=st.integers(0, 2), top=st.integers(0, 2), code=st.integers(-40, 40))
def test_any_padding(mode, left, right, top, code):
    pads, value = (left, right, top, 0), code / 16 if mode == "constant" else None
    assert_exact(module(lambda s, x: F.pad(s.quant(x), pads, mode=mode, value=value)), (2, 3, 4))


@given(data=st.data())
def test_any_axes_and_slices(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    order = data.draw(st.permutations(range(1, len(shape) + 1)))
    after = [shape[axis - 1] for axis in order]
    starts = [data.draw(st.integers(0, n - 1)) for n in after]
    ends = [data.draw(st.integers(start + 1, n)) for start, n in zip(starts, after, strict=True)]
    cuts = tuple(slice(a, b, data.draw(st.integers(1, 3))) for a, b in zip(starts, ends, strict=True))
    shifts = data.draw(st.integers(-3, 3))

    def forward(s, x):
        return torch.roll(s.quant(x).permute(0, *order)[(slice(None), *cuts)], shifts, 1)

    assert_exact(module(forward), tuple(shape))


@given(data=st.data())
def test_any_reshape_and_flip(data):
    shape = data.draw(st.sampled_from([(12,), (3, 4), (2, 3, 2), (1, 12), (2, 2, 3, 1)]))
    other = data.draw(st.sampled_from([(12,), (3, 4), (2, 3, 2), (1, 12), (6, -1), (-1,)]))
    axes = data.draw(st.sampled_from([(1,), (-1,), (1, -1)] if len(other) > 1 else [(1,), (-1,)]))

    def forward(s, x):
        return s.quant(x).reshape(x.shape[0], *other).flip(axes)

    assert_exact(module(forward), shape)


@given(data=st.data())
def test_any_upsampling(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=2))
    mode = data.draw(st.sampled_from(["nearest", "nearest-exact"]))
    if data.draw(st.booleans()):
        options = {"size": [data.draw(st.integers(1, 9)) for _ in sizes]}
    else:
        options = {"scale_factor": [data.draw(st.floats(1, 3.5)) for _ in sizes]}
    assert_exact(module(lambda s, x: F.interpolate(s.quant(x), mode=mode, **options)), (2, *sizes))


@given(data=st.data())
def test_any_concatenation(data):
    """Parts in formats of their own."""
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    axis = data.draw(st.integers(1, len(shape)))
    parts = data.draw(
        st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(-1, 5)), min_size=1, max_size=4)
    )
    specs = [QuantSpec(input_width=width, input_frac=frac) for _, width, frac in parts]
    quants = {f"q{k}": QuantIdentity(spec=spec) for k, spec in enumerate(specs)}

    def forward(s, x):
        x = s.quant(x)
        each = [getattr(s, f"q{k}")(x.repeat_interleave(n, dim=axis)) for k, (n, _, _) in enumerate(parts)]
        return torch.cat(each, axis)

    assert_exact(module(forward, **quants), tuple(shape))


def test_a_reshape_is_wires_and_nothing_is_nothing():
    graph = lowered(module(lambda s, x: s.quant(x).view(-1, 2, 6).transpose(1, 2).contiguous().flatten(1)), (3, 4))
    assert [type(op) for op in graph] == [Input, Reshape, Rearrange, Reshape]
    for forward in (
        lambda s, x: s.quant(x)[:, 0:],
        lambda s, x: s.quant(x).view(x.shape),
        lambda s, x: s.quant(x)[...],
    ):
        assert [type(op) for op in lowered(module(forward), (3, 4))] == [Input]


def test_parts_that_nobody_reads_are_not_computed():
    graph = lowered(module(lambda s, x: s.quant(x).chunk(4, 1)[2]), (8,))
    assert [type(op) for op in graph] == [Input, Rearrange]


def test_the_input_is_read_in_several_places():
    graph = assert_exact(module(lambda s, x: torch.cat([s.quant(x), s.quant(x.flip(1))], 1)), (4,))
    assert [type(op) for op in graph] == [Input, Rearrange, Concat]
    other = QuantIdentity(spec=QuantSpec(input_width=4, input_frac=1))
    with pytest.raises(GraphError) as error:
        lowered(module(lambda s, x: torch.cat([s.quant(x), s.other(x)], 1), other=other), (4,))
    assert str(error.value) == (
        "x: the model's input is quantized as fixed<6,3> and as fixed<4,3> by two layers; put one QuantIdentity in "
        "front of the model"
    )


# -- what is scaled and waits for a quantizer


def norm(channels, kind=nn.BatchNorm2d, seed=0):
    """Other scales and shifts in every channel."""
    layer, rng = kind(channels), np.random.default_rng(seed)
    with torch.no_grad():
        layer.running_mean.copy_(torch.tensor(rng.normal(size=channels)))
        layer.running_var.copy_(torch.tensor(rng.random(channels) + 0.1))
        layer.weight.copy_(torch.tensor(rng.normal(size=channels)))
        layer.bias.copy_(torch.tensor(rng.normal(size=channels)))
    return layer.eval()


SCALED = {
    "flatten": lambda s, x: x.flatten(1),
    "turned over": lambda s, x: x.flip(1).transpose(2, 3),
    "repeated": lambda s, x: F.interpolate(torch.cat([x, x[:, 1:]], 1), scale_factor=2),
    "a channel of its own for each number": lambda s, x: x.flatten(1).roll(7, 1)[:, ::2],
    "joined with others": lambda s, x: torch.cat([s.quant(x), x, s.other(x)], 1),
    "behind leaks of slopes of their own": lambda s, x: F.pad(
        s.leak(s.quant(x)).flip(1).transpose(2, 3)[:, 1:], (1, 0)
    ),
    "behind leaks, one element in a channel": lambda s, x: s.leak(x).flatten(1),
    "leaks side by side": lambda s, x: torch.cat([s.leak(x), F.leaky_relu(s.other(x), 0.25)], 1),
    "behind a relu": lambda s, x: F.pad(F.relu(x)[:, 1:], (1, 1, 0, 2), mode="reflect"),
}


@pytest.mark.parametrize("what", SCALED)
def test_scales_move_along(what):
    spec = QuantSpec(input_width=5, input_frac=3)
    leak = nn.PReLU(4)
    with torch.no_grad():
        leak.weight.copy_(torch.tensor([0.5, 2.0, -1.0, 0.25]))
    layers = {"norm": norm(4), "other": norm(4, seed=1), "out": QuantIdentity(spec=spec), "leak": leak}
    assert_exact(module(lambda s, x: s.out(SCALED[what](s, s.norm(s.quant(x)))), **layers), IMAGE)


def test_zeros_beside_what_has_one_scale():
    model = module(lambda s, x: s.out(F.pad(F.relu(s.quant(x) * 0.3), (1, 1))), out=QuantReLU(spec=_fixed(4, 3)))
    assert_exact(model, IMAGE)


def _fixed(width, frac):
    return QuantSpec(activation_width=width, activation_frac=frac, input_width=width, input_frac=frac)


BESIDE = "which are scaled and not quantized; put a QuantIdentity between them"
SCALED_REFUSED = {
    "other scales in one channel": (
        lambda s, x: s.norm(x).transpose(1, 2),
        "transpose: moves numbers of norm that are scaled in different ways into one channel; put a QuantIdentity "
        "between them"),
    "zeros beside other offsets": (
        lambda s, x: F.pad(s.norm(x), (1, 1)),
        f"pad: puts 0.0 beside the numbers of norm, {BESIDE}"),
    "a number beside a curve": (
        lambda s, x: F.pad(torch.sigmoid(x), (1, 1)),
        f"pad: puts 0.0 beside the numbers of sigmoid, {BESIDE}"),
    "joined scales in one channel": (
        lambda s, x: torch.cat([x, s.norm(x)], 2),
        "cat: joins x and norm, which have other scales, in the same channels; put a QuantIdentity behind each"),
    "joined functions": (
        lambda s, x: torch.cat([x, torch.tanh(x)], 1),
        "cat: joins x and tanh, and no quantizer follows the tanh; put a QuantIdentity behind each"),
}  # fmt: skip


@pytest.mark.parametrize("what", SCALED_REFUSED)
def test_scales_that_cannot_move_are_refused(what):
    forward, message = SCALED_REFUSED[what]
    with pytest.raises(GraphError) as error:
        lowered(module(lambda s, x: forward(s, s.quant(x)), norm=norm(4)), IMAGE)
    assert str(error.value) == message


# -- what is refused

AXIS = "leaves no axis beside the batch's; keep one (x[:, 0:1] in place of x[:, 0])"
APART = "mixes the batch's axis with the others; every sample has to stay by itself"
COMPUTES = (
    "computes numbers with these arguments; only what moves them is lowered, such as mode='nearest' or a padding by "
    "one constant"
)
REFUSED = {
    "flatten of the batch": (lambda s, x: x.flatten(), f"flatten: {AXIS}"),
    "the batch in another place": (lambda s, x: x.transpose(0, 1), f"transpose: {APART}"),
    "the batch among the others": (lambda s, x: x.view(-1, 3, 5), f"view: {APART}"),
    "one sample": (lambda s, x: x[:1], f"getitem: {APART}"),
    "the samples turned over": (lambda s, x: x.flip(0), f"flip: {APART}"),
    "more samples": (lambda s, x: x.repeat(2, 1, 1, 1), f"repeat: {APART}"),
    "a number of samples": (
        lambda s, x: x.view(7, -1),
        "view: does not work on samples of shape (4, 3, 5), however many (shape '[7, -1]' is invalid for input of size "
        "120)"),
    "a number of samples that divides": (lambda s, x: x.view(2, -1), f"view: {APART}"),
    "another number of samples that divides": (lambda s, x: x.reshape(3, 4, -1), f"reshape: {APART}"),
    "arithmetic with the batch": (
        lambda s, x: x.view(x.shape[0] * 4, -1),
        "mul: computes with the number of samples; every sample has to stay by itself"),
    "the batch concatenated": (
        lambda s, x: torch.cat([x, x]),
        "cat: acts along axis 0, which is the batch's; every sample has to stay by itself"),
    "an axis that there is not": (
        lambda s, x: torch.cat([x, x], 4), "cat: acts along axis 4 of samples with the axes 1 to 3"),
    "no axis left": (
        lambda s, x: x[:, 0, 0, 0], f"getitem: {AXIS}"),
    "bilinear": (lambda s, x: F.interpolate(x, scale_factor=2, mode="bilinear"), f"interpolate: {COMPUTES}"),
    "the average of two": (lambda s, x: F.interpolate(x, scale_factor=0.5, mode="area"), f"interpolate: {COMPUTES}"),
    "infinite padding": (lambda s, x: F.pad(x, (1, 1), value=float("-inf")), f"pad: {COMPUTES}"),
    "parts of other shapes": (
        lambda s, x: torch.cat([x, x[:, :, :2]], 3),
        "cat: parts of shapes (4, 3, 5), (4, 2, 5) differ along other axes than 2"),
    "a size that there is not": (
        lambda s, x: x.view(x.shape[4], -1),
        "getitem: does not work on samples of this shape (tuple index out of range)"),
    "another attribute": (lambda s, x: x.T, "getattr: asks a tensor for its T, which has no exact lowering"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what):
    forward, message = REFUSED[what]
    with pytest.raises(GraphError) as error:
        lowered(module(lambda s, x: forward(s, s.quant(x))), IMAGE)
    assert str(error.value) == message


def test_a_number_beside_the_input():
    with pytest.raises(GraphError) as error:
        lowered(module(lambda s, x: s.quant(F.pad(x, (1, 1), value=0.5))), IMAGE)
    assert str(error.value) == (
        "pad: puts 0.5 beside the model's input, which is not quantized yet; put a QuantIdentity before it"
    )


def test_a_movement_without_a_quantizer():
    assert_exact(nn.Sequential(nn.Flatten(), nn.Unflatten(1, (5, 2))), (2, 5), input_format=FixedPoint(5, 2))
