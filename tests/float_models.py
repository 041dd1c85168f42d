"""Float models as people write them: PyTorch's tutorials and the papers' architectures, small, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LeNet(nn.Module):
    """PyTorch's tutorial "Neural Networks": functional activations and pooling, a flattening by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 12)
        self.fc2 = nn.Linear(12, 8)
        self.fc3 = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class MnistExample(nn.Module):
    """Net of pytorch/examples/mnist without its log_softmax, and with one dropout told the mode by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, 1)
        self.conv2 = nn.Conv2d(4, 8, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.fc1 = nn.Linear(288, 16)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2)).view(-1, 288)
        x = F.dropout(F.relu(self.fc1(x)), training=self.training)
        return self.fc2(x)


class BasicBlock(nn.Module):
    """As torchvision writes it: in-place ReLU, shared, and ``out += identity``."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 4))
        self.layer2 = nn.Sequential(BasicBlock(4, 6, stride=2), BasicBlock(6, 6))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class PreActivation(nn.Module):
    """He et al. 2016: the sum is read by a batch norm and by the next sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, 4, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm1d(4) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv1d(4, 4, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=False):
            x = x + conv(torch.relu(norm(x)))
        return self.head(torch.relu(self.norms[2](x)).mean(2))


class InvertedResidual(nn.Module):
    """MobileNetV2: depthwise separable, ReLU6, a linear bottleneck."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = 2 * inputs
        self.use_skip = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *(nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)),
            *(nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden)),
            *(nn.ReLU6(inplace=True), nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_skip else self.conv(x)


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU6(), InvertedResidual(4, 4, 1), InvertedResidual(4, 6, 2)
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = F.adaptive_avg_pool2d(x, (1, 1))
        return self.classifier(x.reshape(x.shape[0], -1))


class Fire(nn.Module):
    """SqueezeNet: two branches concatenated."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.squeeze(x))
        return torch.cat([self.activation(self.expand1x1(x)), self.activation(self.expand3x3(x))], 1)


class DenseBlock(nn.Module):
    """DenseNet: a layer reads the concatenation of all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, 2, 3, padding=1)) for n in (3, 5, 7)
        )
        self.head = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        x = F.relu(torch.cat(features, dim=1))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 8), nn.ReLU(True), nn.Linear(8, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 8), nn.ReLU(True), nn.Linear(8, 12), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class DeepSets(nn.Module):
    """Jets as sets of particles: one net for each, a sum, a net for the jet."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = nn.Sequential(nn.Conv1d(3, 8, 1), nn.ReLU(), nn.Conv1d(8, 6, 1), nn.ReLU())
        self.rho = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.rho(torch.mean(self.phi(x), dim=2))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(4, 3), nn.Linear(5, 3), nn.Linear(6, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(F.leaky_relu(torch.cat((self.left(x), self.right(y)), dim=-1), 0.125))


def quickstart() -> nn.Sequential:
    """PyTorch's "Quickstart" tutorial, its stack of layers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * 4, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 10))


def nn_tutorial() -> nn.Sequential:
    """PyTorch's "What is torch.nn really?", its last model with modules for its lambdas."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 12)),
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 10),
    )


def signal() -> nn.Sequential:
    """A 1d convolutional net for waveforms, an average behind its batch norms."""
    return nn.Sequential(
        *(nn.Conv1d(2, 6, 5, padding=2), nn.BatchNorm1d(6), nn.LeakyReLU(0.25), nn.MaxPool1d(2)),
        *(nn.Conv1d(6, 6, 3, groups=6, dilation=2), nn.Hardtanh(), nn.Conv1d(6, 8, 1), nn.BatchNorm1d(8)),
        *(nn.AvgPool1d(4), nn.Conv1d(8, 4, 1), nn.Hardsigmoid(), nn.Flatten(), nn.Linear(8, 3)),
    )


#: A model, and the shapes of its inputs for one sample.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "LeNet": (LeNet, ((1, 32, 32),)),
    "MnistExample": (MnistExample, ((1, 16, 16),)),
    "ResNet": (ResNet, ((3, 12, 12),)),
    "PreActivation": (PreActivation, ((2, 10),)),
    "MobileNet": (MobileNet, ((3, 12, 12),)),
    "Fire": (lambda: nn.Sequential(Fire(3, 2, 4), nn.MaxPool2d(2), Fire(8, 3, 4)), ((3, 6, 6),)),
    "DenseBlock": (DenseBlock, ((3, 6, 6),)),
    "Autoencoder": (Autoencoder, ((12,),)),
    "DeepSets": (DeepSets, ((3, 7),)),
    "TwoInputs": (TwoInputs, ((4,), (5,))),
    "quickstart": (quickstart, ((4, 4),)),
    "nn_tutorial": (nn_tutorial, ((12, 12),)),
    "signal": (signal, ((2, 24),)),
}
