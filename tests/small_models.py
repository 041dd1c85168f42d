"""Small float models, one peculiarity of PyTorch each: what people put into networks and expect to work."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Of(nn.Module):
    """Layers by name and a forward that uses them."""

    def __init__(self, forward: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.computed = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.computed(self, x)


def dense(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), *middle, nn.Linear(8, 3))


def image(*middle: nn.Module, head: int = 4) -> nn.Module:
    """A convolution, what is tried, and a head that sees whatever size is left."""
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), *middle, nn.Conv2d(head, 3, 1))


def wave(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), *middle, nn.Conv1d(4, 3, 1))


def functional_linear() -> nn.Module:
    model = Of(lambda s, x: F.linear(x, s.weight, s.bias))
    model.weight, model.bias = nn.Parameter(torch.randn(3, 6)), nn.Parameter(torch.randn(3))
    return model


def squeeze_excite() -> nn.Module:
    return Of(
        lambda s, x: s.head(s.conv(x) * s.gate(s.conv(x))),
        conv=nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU()),
        gate=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1), nn.Sigmoid()),
        head=nn.Conv2d(4, 3, 1),
    )


def mixer() -> nn.Module:
    """Linear over the positions, then over the channels."""
    return Of(
        lambda s, x: s.head((x + s.positions(x).relu()).transpose(1, 2)),
        positions=nn.Linear(8, 8),
        head=nn.Linear(3, 4),
    )


def unet() -> nn.Module:
    return Of(
        lambda s, x: s.head(torch.cat([s.down(x), s.up(s.deep(s.down(x)))], 1)),
        down=nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU()),
        deep=nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()),
        up=nn.Upsample(scale_factor=2),
        head=nn.Conv2d(8, 3, 1),
    )


def calls(forward: Callable[..., Tensor]) -> nn.Module:
    """Two dense layers with calls between them."""
    return Of(forward, a=nn.Linear(6, 8), b=nn.Linear(8, 3))


FLAT, IMAGE, WAVE = (6,), (2, 8, 8), (2, 12)

#: A model, and the shape of a sample.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ReLU": (lambda: dense(nn.ReLU()), FLAT),
    "BatchNorm1d": (lambda: dense(nn.BatchNorm1d(8), nn.ReLU()), FLAT),
    "ReLU6": (lambda: dense(nn.ReLU6()), FLAT),
    "Hardtanh": (lambda: dense(nn.Hardtanh(-1.5, 0.75)), FLAT),
    "LeakyReLU": (lambda: dense(nn.LeakyReLU(0.1)), FLAT),
    "PReLU": (lambda: dense(nn.PReLU(8)), FLAT),
    "Sigmoid": (lambda: dense(nn.Sigmoid()), FLAT),
    "Tanh": (lambda: dense(nn.Tanh()), FLAT),
    "Hardsigmoid": (lambda: dense(nn.Hardsigmoid()), FLAT),
    "Hardswish": (lambda: dense(nn.Hardswish()), FLAT),
    "SiLU": (lambda: dense(nn.SiLU()), FLAT),
    "GELU": (lambda: dense(nn.GELU()), FLAT),
    "ELU": (lambda: dense(nn.ELU()), FLAT),
    "Softplus": (lambda: dense(nn.Softplus()), FLAT),
    "Softmax": (lambda: nn.Sequential(dense(nn.ReLU()), nn.Softmax(dim=1)), FLAT),
    "LogSoftmax": (lambda: nn.Sequential(dense(nn.ReLU()), nn.LogSoftmax(dim=1)), FLAT),
    "Identity, Dropout": (lambda: dense(nn.Identity(), nn.ReLU(), nn.Dropout(0.5)), FLAT),
    "LayerNorm": (lambda: dense(nn.LayerNorm(8), nn.ReLU()), FLAT),
    "no bias": (lambda: nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)), FLAT),
    "F.linear": (functional_linear, FLAT),
    "clamp": (lambda: calls(lambda s, x: s.b(torch.clamp(s.a(x), -1, 2))), FLAT),
    "chunk and add": (lambda: Of(lambda s, x: s.b(sum(s.a(x).relu().chunk(2, 1))), a=nn.Linear(6, 8),
                                 b=nn.Linear(4, 3)), FLAT),
    "slices": (lambda: Of(lambda s, x: s.b(s.a(x).relu()[:, 2:6]), a=nn.Linear(6, 8), b=nn.Linear(4, 3)), FLAT),
    "view": (lambda: Of(lambda s, x: s.b(s.a(x).relu().view(x.size(0), 2, 4)), a=nn.Linear(6, 8),
                        b=nn.Conv1d(2, 3, 2)), FLAT),
    "a shared layer": (lambda: Of(lambda s, x: s.b(s.a(s.a(x).relu()).relu()), a=nn.Linear(6, 6),
                                  b=nn.Linear(6, 3)), FLAT),
    "residual": (lambda: Of(lambda s, x: s.b(x + s.a(x).relu()), a=nn.Linear(6, 6), b=nn.Linear(6, 3)), FLAT),
    "x - y": (lambda: Of(lambda s, x: s.b(x - s.a(x).relu()), a=nn.Linear(6, 6), b=nn.Linear(6, 3)), FLAT),
    "argmax": (lambda: calls(lambda s, x: s.b(s.a(x).relu()).argmax(1)), FLAT),
    "control flow": (lambda: calls(lambda s, x: s.b(s.a(x).relu() if x.sum() > 0 else s.a(x))), FLAT),
    "Conv1d": (lambda: wave(nn.Conv1d(4, 4, 3, stride=2, padding=1, dilation=2), nn.ReLU()), WAVE),
    "Conv2d": (lambda: image(nn.Conv2d(4, 4, (3, 2), stride=(1, 2), padding=(1, 0)), nn.ReLU()), IMAGE),
    "groups": (lambda: image(nn.Conv2d(4, 4, 3, groups=2), nn.ReLU()), IMAGE),
    "depthwise separable": (lambda: image(nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 4, 1), nn.ReLU()), IMAGE),
    "padding='same'": (lambda: image(nn.Conv2d(4, 4, 4, padding="same", dilation=2), nn.ReLU()), IMAGE),
    "padding_mode": (lambda: image(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()), IMAGE),
    "BatchNorm2d": (lambda: image(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()), IMAGE),
    "ConvTranspose2d": (lambda: image(nn.ConvTranspose2d(4, 4, 2, stride=2), nn.ReLU()), IMAGE),
    "MaxPool2d ceil_mode": (lambda: image(nn.MaxPool2d(3, 2, 1, ceil_mode=True)), IMAGE),
    "MaxPool1d dilation": (lambda: wave(nn.MaxPool1d(2, 1, dilation=3)), WAVE),
    "AvgPool2d": (lambda: image(nn.AvgPool2d(3, 2, 1, count_include_pad=False)), IMAGE),
    "AvgPool2d ceil_mode": (lambda: image(nn.AvgPool2d(2, 3, 1, ceil_mode=True)), IMAGE),
    "AdaptiveAvgPool2d": (lambda: image(nn.AdaptiveAvgPool2d(1)), IMAGE),
    "AdaptiveAvgPool2d of uneven windows": (lambda: image(nn.AdaptiveAvgPool2d((4, 5))), IMAGE),
    "AdaptiveMaxPool2d": (lambda: image(nn.AdaptiveMaxPool2d(2)), IMAGE),
    "mean": (lambda: Of(lambda s, x: s.b(s.a(x).relu().mean((2, 3))), a=nn.Conv2d(2, 4, 3), b=nn.Linear(4, 3)), IMAGE),
    "amax": (lambda: Of(lambda s, x: s.b(s.a(x).relu().amax((2, 3))), a=nn.Conv2d(2, 4, 3), b=nn.Linear(4, 3)), IMAGE),
    "Upsample nearest": (lambda: image(nn.Upsample(scale_factor=2)), IMAGE),
    "Upsample bilinear": (lambda: image(nn.Upsample(scale_factor=2, mode="bilinear")), IMAGE),
    "PixelShuffle": (lambda: image(nn.PixelShuffle(2), head=1), IMAGE),
    "ZeroPad2d": (lambda: image(nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(4, 4, 3), nn.ReLU()), IMAGE),
    "ReflectionPad2d": (lambda: image(nn.ReflectionPad2d(1), nn.Conv2d(4, 4, 3), nn.ReLU()), IMAGE),
    "permute": (lambda: Of(lambda s, x: s.b(s.a(x).relu().permute(0, 2, 1)), a=nn.Conv1d(2, 4, 3), b=nn.Linear(4, 3)),
                WAVE),
    "squeeze and excite": (squeeze_excite, IMAGE),
    "mixer": (mixer, (3, 8)),
    "U-Net": (unet, IMAGE),
    "GroupNorm": (lambda: image(nn.GroupNorm(2, 4)), IMAGE),
    "LSTM": (lambda: Of(lambda s, x: s.b(s.a(x)[0]), a=nn.LSTM(12, 4, batch_first=True), b=nn.Linear(4, 3)), WAVE),
    "MultiheadAttention": (lambda: Of(lambda s, x: s.a(x, x, x)[0], a=nn.MultiheadAttention(12, 2)), WAVE),
}  # fmt: skip
