"""MNIST from idx files, and the files that are refused."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from recipes.data import mnist
from recipes.data.dataset import DataError
from recipes.data.digits import load_digits_8x8
from recipes.data.fetch import cache_folder, fetch

SHARED = Path(os.environ.get("QAPSULE_SHARED", "../shared")) / "data" / "mnist"


def idx(*shape: int, step: int = 1) -> bytes:
    head = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
    return head + (np.arange(np.prod(shape)) * step % 256).astype(np.uint8).tobytes()


def write_mnist(folder: Path, train: int = 20, t10k: int = 10) -> Path:
    folder.mkdir(exist_ok=True)
    for part, number in (("train", train), ("t10k", t10k)):
        labels = (np.arange(number) % 10).astype(np.uint8).tobytes()
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(number, 28, 28, step=7)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(number)[:8] + labels))
    return folder


def test_pixels_are_codes_with_eight_fraction_bits(tmp_path: Path) -> None:
    data = mnist.load_mnist(str(write_mnist(tmp_path)))
    assert data.x.shape == (30, 784) and data.held_out is not None
    assert np.array_equal(data.x[:20].reshape(-1) * 256, np.arange(20 * 784) * 7 % 256)
    assert data.held_out.tolist() == [False] * 20 + [True] * 10
    assert data.y.tolist() == [*range(10)] * 3


def test_the_real_files() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent (set QAPSULE_SHARED)")
    data = mnist.load_mnist(str(SHARED))
    assert (
        len(data) == 70_000 and data.y[:5].tolist() == [5, 0, 4, 1, 9] and data.y[60_000:60_003].tolist() == [7, 2, 1]
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte.gz", None, "no such file; MNIST is the four files"),
        ("train-images-idx3-ubyte.gz", gzip.compress(idx(20, 28, 28))[:50], "50 bytes that are no complete gzip file"),
        ("t10k-labels-idx1-ubyte.gz", b"labels", "6 bytes that are no complete gzip file"),
        (
            "t10k-labels-idx1-ubyte.gz",
            gzip.compress(idx(10, 1)),
            "begins with 00000802, an idx file of this rank with 00000801",
        ),
        (
            "train-images-idx3-ubyte.gz",
            gzip.compress(idx(20, 28, 28)[:-1]),
            "15679 bytes of data, its header promises 20x28x28 = 15680; fetch it again",
        ),
    ],
    ids=["absent", "cut off", "no gzip", "another rank", "too short"],  # gzip's bytes hold the time
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = write_mnist(tmp_path) / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        mnist.load_mnist(str(tmp_path))
    assert str(caught.value).startswith(f"{path}: {message}")


def test_images_and_labels_of_different_files_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(19, 28, 28)))
    with pytest.raises(
        DataError, match=r"train has images of shape \(19, 28, 28\) and 20 labels, \(20, 28, 28\) is needed"
    ):
        mnist.load_mnist(str(tmp_path))


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/nowhere: no such folder; give mirror, or a folder with train-images"):
        mnist.load_mnist(str(tmp_path / "nowhere"))


def test_mirrors_are_tried_in_turn_and_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write_mnist(tmp_path / "site")
    monkeypatch.setenv("QAPSULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mnist, "MIRRORS", ((tmp_path / "down").as_uri() + "/", site.as_uri() + "/"))
    monkeypatch.setattr(mnist, "MD5", {name: hashlib.md5((site / name).read_bytes()).hexdigest() for name in mnist.MD5})
    digest = mnist.load_mnist("mirror").digest
    assert sorted(path.name for path in (tmp_path / "cache" / "mnist").iterdir()) == sorted(mnist.MD5)
    for name in mnist.MD5:
        (site / name).unlink()
    assert mnist.load_mnist("mirror").digest == digest


def test_a_file_damaged_in_the_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(
        DataError, match=r"/file: its md5 is \w{32}, 0{32} is expected; delete it and it is fetched again"
    ):
        fetch([], tmp_path / "file", "0" * 32, "")


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QAPSULE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/qapsule")
    monkeypatch.setenv("QAPSULE_CACHE", "/own")
    assert cache_folder() == Path("/own")


def test_digits_are_sixteenths() -> None:
    data = load_digits_8x8("sklearn")
    assert data.x.shape == (1797, 64) and data.x.max() == 1.0
    assert np.array_equal(data.x * 16, np.round(data.x * 16))
    with pytest.raises(DataError, match=r"^--data somewhere: the digits come with scikit-learn; leave --data out"):
        load_digits_8x8("somewhere")
