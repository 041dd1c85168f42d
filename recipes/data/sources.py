"""The data sets that recipes name, by kind."""

from __future__ import annotations

from enum import Enum

from recipes.data.dataset import Dataset


class DataKind(Enum):
    JETS = "jets"
    MNIST = "mnist"
    DIGITS = "digits"

    def load(self, source: str) -> Dataset:
        """The data set of this kind from ``source``: one of the loader's own names, or a path. Raises ``DataError``."""
        match self:
            case DataKind.JETS:
                from recipes.data.jets import load_jets

                return load_jets(source)
            case DataKind.MNIST:
                from recipes.data.mnist import load_mnist

                return load_mnist(source)
            case DataKind.DIGITS:
                from recipes.data.digits import load_digits_8x8

                return load_digits_8x8(source)
