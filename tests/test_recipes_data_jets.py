"""Jets from a file, from the package and from (a copy of) OpenML."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes.data.dataset import DataError
from recipes.data.jets import CLASSES, FEATURES, load_jets, openml_jets
from recipes.data.sample import choose, shorten


def arrays(jets: int = 20) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        "X": rng.normal(size=(jets, 16)).astype(np.float32),
        "y": (np.arange(jets) % 5).astype(np.int8),
        "event_id": (np.arange(jets) // 2).astype(np.int32),
    }


def write(path: Path, **changes: Any) -> Path:
    np.savez(path, **{name: array for name, array in {**arrays(), **changes}.items() if array is not None})
    return path


def test_the_embedded_jets_are_balanced_and_come_in_whole_events() -> None:
    data = load_jets("sim")
    assert np.bincount(data.y).tolist() == [8000] * 5
    assert data.classes == CLASSES and data.features == FEATURES
    assert np.unique(np.column_stack([data.groups, data.y]), axis=0, return_counts=True)[1].max() == 2
    assert data.digest == "sha256:944441f432e8d95610fdc9817c9ed07791655c77fb0df0a21b28a0693409ee2c"


def test_a_file_and_the_folder_around_it_give_the_same_jets(tmp_path: Path) -> None:
    path = write(tmp_path / "jets.npz")
    direct, through_folder = load_jets(str(path)), load_jets(str(tmp_path))
    assert direct.digest == through_folder.digest
    assert np.array_equal(direct.x, arrays()["X"]) and np.array_equal(direct.groups, arrays()["event_id"])


def test_without_event_id_every_jet_is_its_own_event(tmp_path: Path) -> None:
    assert load_jets(str(write(tmp_path / "jets.npz", event_id=None))).groups.tolist() == list(range(20))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None}, "its arrays are X, event_id, not y; store X (jets, 16)"),
        ({"X": np.zeros((20, 16), np.int32)}, "X is an array of int32, floats are needed; store X"),
        ({"y": np.zeros(20)}, "y is an array of float64, whole numbers are needed; store X"),
        ({"X": np.zeros((20, 15))}, "X has shape (20, 15) and y (20,), (20, 16) and (20,) are needed; store X"),
        ({"y": np.zeros(3, int)}, "X has shape (20, 16) and y (3,), (3, 16) and (3,) are needed; store X"),
        (
            {"class_names": np.array(["q", "g", "w", "z", "t"])},
            "its class_names are q, g, w, z, t; bring them into the order g, q, w, z, t",
        ),
        (
            {"X": np.full((20, 16), np.inf)},
            "20 of 20 samples hold NaN or infinite features, the first in row 0, feature",
        ),
        ({"y": np.full(20, 5)}, "labels from 5 to 5, the 5 classes g, q, w, z, t need 0 to 4"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "jets.npz", **changes)
    with pytest.raises(DataError) as caught:
        load_jets(str(path))
    assert str(caught.value).startswith(f"{path}: {message}")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/none.npz: no such file or folder; give sim, openml, or the path of an npz"):
        load_jets(str(tmp_path / "none.npz"))


def test_a_folder_without_a_choice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.npz"), write(tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"holds exactly one npz file, this one 2 \(a.npz, b.npz\); name the file"):
        load_jets(str(tmp_path))


@pytest.mark.parametrize("kept", [0, 100, 1500])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "jets.npz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        DataError, match=rf"jets.npz: {kept} bytes that are no complete npz file .*copy or fetch it again"
    ):
        load_jets(str(path))


ARFF = """% jets
@RELATION jets
@ATTRIBUTE class {{g, q, w, z, t}}
{attributes}
@DATA
{rows}
"""


def openml(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> str:
    """A file that answers as OpenML does; the address of its description."""
    monkeypatch.setenv("QAPSULE_CACHE", str(folder / "cache"))
    x = arrays()["X"]
    text = ARFF.format(
        attributes="\n".join(f"@ATTRIBUTE {name} REAL" for name in FEATURES),
        rows="\n".join(
            f"{changes.get('label', CLASSES[i % 5])}," + ",".join(map(repr, row)) for i, row in enumerate(x.tolist())
        ),
    )
    (folder / "jets.arff").write_text(text)
    about = {
        "url": (folder / "jets.arff").as_uri(),
        "md5_checksum": changes.get("md5", hashlib.md5(text.encode()).hexdigest()),
    }
    (folder / "42468.json").write_text(json.dumps({"data_set_description": about}))
    return (folder / "42468.json").as_uri()


def test_openml_is_fetched_once_and_then_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = openml(tmp_path, monkeypatch)
    data = openml_jets(api)
    assert np.array_equal(data.x, arrays()["X"]) and np.array_equal(data.y, arrays()["y"])
    assert data.groups.tolist() == list(range(20))
    (tmp_path / "jets.arff").unlink()
    (tmp_path / "42468.json").unlink()
    assert openml_jets(api).digest == data.digest
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["openml_42468.npz"]


def test_a_wrong_checksum_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = openml(tmp_path, monkeypatch, md5="0" * 32)
    with pytest.raises(
        DataError, match=r"jets.arff sent \d+ bytes with md5 \w+, 0{32} is expected. Without a network, give"
    ):
        openml_jets(api)
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_a_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QAPSULE_CACHE", str(tmp_path))
    with pytest.raises(
        DataError, match=r"could not be read: .* Without a network, give --data sim or the path of an npz"
    ):
        openml_jets((tmp_path / "absent.json").as_uri())


def test_a_strange_class_in_the_arff_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"class b is none of g, q, w, z, t"):
        openml_jets(openml(tmp_path, monkeypatch, label="b"))


def test_a_sample_takes_whole_events_and_balances_the_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    event = np.sort(rng.integers(0, 2000, 3000))
    event = event[np.concatenate([[True, True], event[2:] != event[:-2]])]
    path = write(tmp_path / "jets.npz", X=rng.normal(size=(len(event), 16)), y=event % 5, event_id=event)
    data = load_jets(str(path))
    rows = choose(data, 101)
    assert np.bincount(data.y[rows]).tolist() == [101] * 5
    taken, left = set(data.groups[rows].tolist()), set(np.delete(data.groups, rows).tolist())
    assert not taken & left
    with pytest.raises(DataError, match=r"jets of class g, 10000 are asked for; ask for fewer"):
        choose(data, 10000)


def test_shortened_features_are_the_nearest_short_ones() -> None:
    x = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    short = shorten(x, 11)
    assert np.array_equal(short, shorten(short, 11))
    assert not (short.view(np.uint32) & 0xFFF).any()
    unit = 2.0 ** (np.floor(np.log2(np.abs(x))) - 11)
    assert (np.abs(short - x) <= unit / 2).all()
