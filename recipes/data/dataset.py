"""Labelled samples in memory, and their split into three parts.

A :class:`Dataset` cannot hold what would spoil a training silently: its constructor refuses NaN, wrong shapes and
labels outside the classes, naming the source. Everything here is a function of its arguments; no dice are thrown.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class DataError(ValueError):
    """Data that is absent, damaged or not what it should be. The message names the source, both values and the cure."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Samples with their classes.

    ``groups`` ties together samples that know of each other (the two jets of one event): a group stays on one side of
    every split. ``held_out`` marks the samples that the authors of the data set aside for testing, if they did.
    """

    source: str  # a path, or a name such as "openml": what messages and results call it
    x: NDArray[np.float32]  # (samples, features)
    y: NDArray[np.int64]  # (samples,), the index of the class
    groups: NDArray[np.int64]  # (samples,)
    features: tuple[str, ...]
    classes: tuple[str, ...]
    held_out: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        rows, columns = len(self.y), len(self.features)
        if not rows:
            raise DataError(f"{self.source}: it holds no samples; give a file with at least one")
        if self.x.shape != (rows, columns):
            raise DataError(
                f"{self.source}: the samples have shape {self.x.shape}, {rows} labels and {columns} features "
                f"need ({rows}, {columns}); store one row per label and one column per feature"
            )
        for what, array in (("groups", self.groups), ("held-out marks", self.held_out)):
            if array is not None and array.shape != (rows,):
                raise DataError(
                    f"{self.source}: {what} of shape {array.shape}, {rows} samples need ({rows},); store one each"
                )
        if not (self.y.min() >= 0 and self.y.max() < len(self.classes)):
            raise DataError(
                f"{self.source}: labels from {self.y.min()} to {self.y.max()}, the {len(self.classes)} classes "
                f"{', '.join(self.classes)} need 0 to {len(self.classes) - 1}; number the labels from 0"
            )
        bad = np.flatnonzero(~np.isfinite(self.x).all(axis=1))
        if bad.size:
            column = int(np.flatnonzero(~np.isfinite(self.x[bad[0]]))[0])
            raise DataError(
                f"{self.source}: {bad.size} of {rows} samples hold NaN or infinite features, the first in row "
                f"{bad[0]}, feature {self.features[column]}; drop or repair these rows"
            )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def digest(self) -> str:
        """sha256 over everything but the source's name: equal data has an equal digest wherever it came from."""
        sha = hashlib.sha256()
        for names in (self.features, self.classes):
            sha.update(repr(names).encode())
        for array in (self.x, self.y, self.groups, self.held_out):
            if array is not None:
                sha.update(f"{array.dtype} {array.shape}".encode())
                sha.update(np.ascontiguousarray(array).data)
        return f"sha256:{sha.hexdigest()}"


class Scaling(Enum):
    """What is done to the features before the network sees them."""

    STANDARD = "standard"  # mean 0 and standard deviation 1 over the training part, feature by feature
    NONE = "none"  # the loader's numbers are fit for use


@dataclass(frozen=True)
class Standardisation:
    """``(x - mean) / std``, feature by feature. Part of the model it was fitted for, and recorded with it."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, x: NDArray[np.float32]) -> Standardisation:
        """Over the rows of ``x``. A constant feature keeps its scale, so that it becomes 0 and not NaN."""
        std = x.std(axis=0, dtype=np.float64)
        return cls(tuple(x.mean(axis=0, dtype=np.float64).tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))

    @classmethod
    def identity(cls, features: int) -> Standardisation:
        return cls((0.0,) * features, (1.0,) * features)

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Computed in float64 and rounded once, so that it can be recomputed anywhere from the recorded numbers."""
        return ((x.astype(np.float64) - np.array(self.mean)) / np.array(self.std)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Part:
    """One side of a split: features (samples, features) and classes (samples,)."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    train: Part
    validation: Part
    test: Part
    standardisation: Standardisation  # already applied to all three


def split(data: Dataset, *, validation: float, test: float, scaling: Scaling, seed: int = 0) -> Splits:
    """Cut ``data`` into three, whole groups at a time; standardise with the training part's mean and deviation.

    The side of a group is a hash of its number and ``seed`` alone. So it does not change with the order or the amount
    of data (a sample of a larger file is split like that file), and the fractions are kept in expectation. Where the
    authors held out a test set, that is the test part, and ``validation`` is a fraction of the rest.
    """
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise DataError(
            f"{data.source}: validation={validation} and test={test} must be positive fractions with a sum below 1"
        )
    position = uniform(data.groups, seed)
    if data.held_out is None:
        in_test = position < test
        in_validation = ~in_test & (position < test + validation)
    else:
        in_test = data.held_out
        in_validation = ~in_test & (position < validation)
    sides = {"training": ~in_test & ~in_validation, "validation": in_validation, "test": in_test}
    for name, side in sides.items():
        missing = set(range(len(data.classes))) - set(np.unique(data.y[side]).tolist())
        if missing:
            raise DataError(
                f"{data.source}: the {name} part has {np.count_nonzero(side)} of {len(data)} samples and none of class "
                f"{', '.join(data.classes[c] for c in sorted(missing))}; use more data or a larger fraction"
            )
    rows = data.x[sides["training"]]
    scale = Standardisation.fit(rows) if scaling is Scaling.STANDARD else Standardisation.identity(data.x.shape[1])
    parts = [Part(scale.apply(data.x[side]), data.y[side]) for side in sides.values()]
    return Splits(train=parts[0], validation=parts[1], test=parts[2], standardisation=scale)


def uniform(groups: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each group, by the finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        z = groups.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
