"""Jet tagging: 16 features to five classes, the network of Duarte et al. (arXiv:1804.06913) at 6 bits, pruned."""

from __future__ import annotations

from compress.layers import QuantSpec
from compress.lottery import LotteryTicket, Rewind
from compress.train import TrainConfig
from recipes.data.dataset import Scaling
from recipes.data.sources import DataKind
from recipes.recipe import DataConfig, Network, Recipe


def jet() -> Recipe:
    return Recipe(
        name="jet",
        summary="jet tagging, 16-64-32-32-5 with batch norm, 6 bits, pruned to 80 and 90 %; simulated jets included",
        data=DataConfig(kind=DataKind.JETS, source="sim", scaling=Scaling.STANDARD),
        network=Network(hidden=(64, 32, 32), batch_norm=True),
        spec=QuantSpec(weight_width=6, bias_width=8, activation_width=6, input_width=6),
        baseline=TrainConfig(epochs=60, learning_rate=3e-3, batch_size=512),
        pruning=LotteryTicket(
            training=TrainConfig(epochs=20, learning_rate=3e-3, batch_size=512, l1=1e-4),
            rewind=Rewind.FINE_TUNE,
        ),
        deploy=0.8,
    )
