"""Learned precision: the width of every weight and activation is a parameter, trained under a price for hardware."""

from compress.learned.conversion import freeze, learn_precision
from compress.learned.cost import surrogate_ebops
from compress.learned.frozen import FrozenActivation, FrozenLinear
from compress.learned.layers import Granularity, LearnedActivation, LearnedLinear
from compress.learned.training import (
    Compromise,
    Learned,
    PrecisionConfig,
    front_file,
    train_precision,
)

__all__ = [
    "Compromise",
    "FrozenActivation",
    "FrozenLinear",
    "Granularity",
    "Learned",
    "LearnedActivation",
    "LearnedLinear",
    "PrecisionConfig",
    "freeze",
    "front_file",
    "learn_precision",
    "surrogate_ebops",
    "train_precision",
]
