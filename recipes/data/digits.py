"""The 8x8 handwritten digits that scikit-learn carries (UCI, 1797 images): nothing to download."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from recipes.data.dataset import DataError, Dataset

CLASSES = tuple("0123456789")
PIXELS = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))


def load_digits_8x8(source: str) -> Dataset:
    """Pixels are 0 to 16 in the file; they are divided by 16, so that 4 fraction bits hold them exactly."""
    if source != "sklearn":
        raise DataError(f"--data {source}: the digits come with scikit-learn; leave --data out")
    images, labels = load_digits(return_X_y=True)
    return Dataset(
        source=source,
        x=(images / 16).astype(np.float32),
        y=labels.astype(np.int64),
        groups=np.arange(len(labels)),
        features=PIXELS,
        classes=CLASSES,
    )
