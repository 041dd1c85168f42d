"""Handwritten digits, 28x28: a small perceptron at 6 bits whose inputs are the 8-bit pixels themselves."""

from __future__ import annotations

from compress.layers import QuantSpec
from compress.lottery import LotteryTicket, Rewind
from compress.train import TrainConfig
from recipes.data.dataset import Scaling
from recipes.data.sources import DataKind
from recipes.recipe import DataConfig, Network, Recipe


def mnist() -> Recipe:
    return Recipe(
        name="mnist",
        summary="MNIST, 784-16-10, 6 bits, pruned to 80 and 90 %; downloads the images or takes --data FOLDER",
        data=DataConfig(kind=DataKind.MNIST, source="mirror", scaling=Scaling.NONE),
        network=Network(hidden=(16,)),
        spec=QuantSpec(
            weight_width=6, bias_width=8, activation_width=6, input_width=8, input_frac=8, input_signed=False
        ),
        baseline=TrainConfig(epochs=20, learning_rate=3e-3, batch_size=256),
        pruning=LotteryTicket(
            training=TrainConfig(epochs=10, learning_rate=3e-3, batch_size=256, l1=1e-4),
            fractions=(0.2, 0.4, 0.6, 0.7, 0.8, 0.9),
            rewind=Rewind.FINE_TUNE,
        ),
        deploy=0.8,
    )
