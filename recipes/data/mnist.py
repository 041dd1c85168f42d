"""MNIST (LeCun, Cortes and Burges; CC BY-SA 3.0) from its four idx files, fetched by checksum or from a folder."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.data.dataset import DataError, Dataset
from recipes.data.fetch import cache_folder, fetch

CLASSES = tuple("0123456789")
PIXELS = tuple(f"pixel_{row}_{column}" for row in range(28) for column in range(28))
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
_UNSIGNED_BYTE = 8  # the idx format's number for this element type


def load_mnist(source: str) -> Dataset:
    """MNIST: ``"mirror"`` fetches it into the cache folder, anything else is a folder with the four gzipped files.

    A folder is checked by format and not by checksum, since exact copies are often packed anew. Pixels are
    divided by 256: the 8-bit pixel is the code of a fixed-point number with 8 fraction bits. The 10,000 ``t10k``
    images are the held-out test set. Raises :class:`DataError`.
    """
    if source == "mirror":
        folder = cache_folder() / "mnist"
        instead = "Without a network, give --data FOLDER with the four idx files"
        for name, md5 in MD5.items():
            fetch([mirror + name for mirror in MIRRORS], folder / name, md5, instead)
    else:
        folder = Path(source)
        if not folder.is_dir():
            raise DataError(f"{source}: no such folder; give mirror, or a folder with {', '.join(MD5)}")
    images, labels = [], []
    for part in ("train", "t10k"):
        images.append(read_idx(folder / f"{part}-images-idx3-ubyte.gz", 3))
        labels.append(read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 1))
        if images[-1].shape != (len(labels[-1]), 28, 28):
            raise DataError(
                f"{folder}: {part} has images of shape {images[-1].shape} and {len(labels[-1])} labels, "
                f"({len(labels[-1])}, 28, 28) is needed; both files must be of the same MNIST"
            )
    pixels, classes = np.concatenate(images), np.concatenate(labels)
    return Dataset(
        source=source,
        x=(pixels.reshape(len(pixels), -1) / np.float32(256)).astype(np.float32),
        y=classes.astype(np.int64),
        groups=np.arange(len(classes)),
        features=PIXELS,
        classes=CLASSES,
        held_out=np.arange(len(classes)) >= len(labels[0]),
    )


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """A gzipped idx file of bytes: two zeros, the element type, the rank, one big-endian length per axis, the data."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; MNIST is the four files {', '.join(MD5)}")
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        size = path.stat().st_size
        raise DataError(f"{path}: {size} bytes that are no complete gzip file ({error}); fetch it again") from error
    head = 4 + 4 * dimensions
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != magic or len(content) < head:
        raise DataError(
            f"{path}: begins with {content[:4].hex()}, an idx file of this rank with {magic.hex()}; fetch it again"
        )
    shape = np.frombuffer(content, ">u4", dimensions, offset=4).astype(int)
    if len(content) - head != shape.prod():
        raise DataError(
            f"{path}: {len(content) - head} bytes of data, its header promises {'x'.join(map(str, shape))} = "
            f"{shape.prod()}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
