"""Handwritten digits, 8x8, from scikit-learn: the smallest complete run, in seconds and without any file."""

from __future__ import annotations

from compress.layers import QuantSpec
from compress.lottery import LotteryTicket, Rewind
from compress.train import TrainConfig
from recipes.data.dataset import Scaling
from recipes.data.sources import DataKind
from recipes.recipe import DataConfig, Network, Recipe


def digits() -> Recipe:
    return Recipe(
        name="digits",
        summary="scikit-learn's 8x8 digits, 64-32-10, 6 bits, pruned to 50 and 80 %; done in seconds",
        data=DataConfig(kind=DataKind.DIGITS, source="sklearn", scaling=Scaling.NONE),
        network=Network(hidden=(32,)),
        spec=QuantSpec(
            weight_width=6, bias_width=8, activation_width=6, input_width=5, input_frac=4, input_signed=False
        ),
        baseline=TrainConfig(epochs=60, learning_rate=3e-3, batch_size=64),
        pruning=LotteryTicket(
            training=TrainConfig(epochs=30, learning_rate=3e-3, batch_size=64),
            fractions=(0.5, 0.8),
            rewind=Rewind.FINE_TUNE,
        ),
        deploy=0.8,
    )
