"""Learned precision: the width of every weight and activation is a parameter, trained under a price for hardware.

The training itself is in :mod:`compress.learned.training`, which counts with :mod:`compress.ebops` and so with this.
"""

from compress.learned.conversion import freeze, learn_precision
from compress.learned.cost import surrogate_ebops
from compress.learned.frozen import FrozenActivation, FrozenLinear
from compress.learned.layers import Granularity, LearnedActivation, LearnedLinear

__all__ = [
    "FrozenActivation",
    "FrozenLinear",
    "Granularity",
    "LearnedActivation",
    "LearnedLinear",
    "freeze",
    "learn_precision",
    "surrogate_ebops",
]
