"""Jets with 16 high-level features in five classes: g, q, w, z, t.

Three sources: ``sim``, a sample of simulated jets that comes with the package (:mod:`recipes.data.sample` tells how it
was made); ``openml``, the original (data set 42468, ``hls4ml_lhc_jets_hlf``, 830,000 jets; Duarte et al.,
arXiv:1804.06913); and an npz file of one's own, as ``python -m recipes.simulation`` writes it. The simulated jets are a
stand-in of a similar difficulty; a figure on them is not one on the original.
"""

from __future__ import annotations

import json
import urllib.request
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.data.dataset import DataError, Dataset
from recipes.data.fetch import TIMEOUT_S, cache_folder, fetch

CLASSES = ("g", "q", "w", "z", "t")
FEATURES = (
    "zlogz",
    "c1_b0_mmdt",
    "c1_b1_mmdt",
    "c1_b2_mmdt",
    "c2_b1_mmdt",
    "c2_b2_mmdt",
    "d2_b1_mmdt",
    "d2_b2_mmdt",
    "d2_a1_b1_mmdt",
    "d2_a1_b2_mmdt",
    "m2_b1_mmdt",
    "m2_b2_mmdt",
    "n2_b1_mmdt",
    "n2_b2_mmdt",
    "mass_mmdt",
    "multiplicity",
)
OPENML = "https://www.openml.org/api/v1/json/data/42468"
_FORMAT = "X (jets, 16) of floats, y (jets,) of whole numbers and, where known, event_id (jets,)"


def load_jets(source: str) -> Dataset:
    """Jets from ``"sim"``, ``"openml"``, an npz file or a folder with exactly one. Raises :class:`DataError`."""
    if source == "sim":
        with resources.as_file(resources.files("recipes.data") / "jets_sim.npz") as path:
            return read_jets(path, source)
    if source == "openml":
        return openml_jets()
    path = Path(source)
    if path.is_dir():
        found = sorted(path.glob("*.npz"))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise DataError(
                f"{path}: a folder of jets holds exactly one npz file, this one {len(found)} ({names}); name the file"
            )
        path = found[0]
    return read_jets(path, str(path))


def read_jets(path: Path, source: str) -> Dataset:
    """The jets of an npz file. Without ``event_id`` every jet counts as an event of its own."""
    if not path.is_file():
        raise DataError(
            f"{source}: no such file or folder; give sim, openml, or the path of an npz file with {_FORMAT}"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        size = path.stat().st_size
        raise DataError(
            f"{source}: {size} bytes that are no complete npz file ({error}); copy or fetch it again"
        ) from error
    if missing := [name for name in ("X", "y") if name not in arrays]:
        raise DataError(
            f"{source}: its arrays are {', '.join(arrays) or 'none'}, not {' and '.join(missing)}; store {_FORMAT}"
        )
    x, y = arrays["X"], arrays["y"]
    groups = arrays.get("event_id", np.arange(len(y)))
    for name, array, kinds, wanted in (
        ("X", x, "f", "floats"),
        ("y", y, "iu", "whole numbers"),
        ("event_id", groups, "iu", "whole numbers"),
    ):
        if array.dtype.kind not in kinds:
            raise DataError(f"{source}: {name} is an array of {array.dtype}, {wanted} are needed; store {_FORMAT}")
    if x.ndim != 2 or x.shape[1] != len(FEATURES) or y.shape != x.shape[:1]:
        raise DataError(
            f"{source}: X has shape {x.shape} and y {y.shape}, ({len(y)}, 16) and ({len(y)},) are needed; "
            f"store {_FORMAT}"
        )
    for name, ours in (("feature_names", FEATURES), ("class_names", CLASSES)):
        theirs = tuple(arrays.get(name, np.array(ours)).tolist())
        if theirs != ours:
            raise DataError(
                f"{source}: its {name} are {', '.join(map(str, theirs))}; bring them into the order {', '.join(ours)}"
            )
    return Dataset(
        source=source,
        x=x.astype(np.float32),
        y=y.astype(np.int64),
        groups=groups.astype(np.int64),
        features=FEATURES,
        classes=CLASSES,
    )


def openml_jets(api: str = OPENML) -> Dataset:
    """The original data set, fetched by the checksum that OpenML states for it and kept in the cache folder.

    It does not say which jets share an event, so each counts as an event of its own. Raises :class:`DataError`.
    """
    parsed = cache_folder() / "openml_42468.npz"
    if not parsed.exists():
        instead = "Without a network, give --data sim or the path of an npz file"
        about = _description(api, instead)
        arff = fetch([about["url"]], cache_folder() / "openml_42468.arff", about["md5_checksum"], instead)
        x, y = read_arff(arff)
        part = parsed.with_name("openml_42468.part.npz")
        np.savez_compressed(part, X=x, y=y)
        part.replace(parsed)
        arff.unlink()
    return read_jets(parsed, "openml")


def _description(api: str, instead: str) -> dict[str, Any]:
    """What OpenML says about the data set: its address (``url``) and checksum (``md5_checksum``)."""
    try:
        with urllib.request.urlopen(api, timeout=TIMEOUT_S) as response:
            about: dict[str, Any] = json.load(response)["data_set_description"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{api} could not be read: {error!r}. {instead}") from error
    if missing := {"url", "md5_checksum"} - about.keys():
        raise DataError(f"{api}: the description lacks {' and '.join(sorted(missing))}. {instead}")
    return about


def read_arff(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features (jets, 16) and classes (jets,) of a dense ARFF file with our features and a class, in any order."""
    with path.open(encoding="utf-8") as file:
        names = []
        for line in file:
            words = line.split(None, 2)
            if words and words[0].lower() == "@attribute":
                names.append(words[1].strip("'\""))
            if words and words[0].lower() == "@data":
                break
        if sorted(names) != sorted([*FEATURES, "class"]):
            raise DataError(
                f"{path}: its attributes are {', '.join(names) or 'none'}; {', '.join(FEATURES)} and class are needed"
            )
        kinds = [(name, "U8" if name == "class" else "f4") for name in names]
        try:
            table = np.loadtxt(file, dtype=kinds, delimiter=",", comments="%", ndmin=1)
        except ValueError as error:
            raise DataError(
                f"{path}: a row cannot be read ({error}); delete the file and it is fetched again"
            ) from error
    labels = np.char.strip(table["class"], " '\"")
    if strange := sorted(set(labels.tolist()) - set(CLASSES)):
        raise DataError(
            f"{path}: class {', '.join(strange)} is none of {', '.join(CLASSES)}; delete the file and fetch it again"
        )
    x = np.column_stack([table[name] for name in FEATURES])
    return x, np.select([labels == name for name in CLASSES], range(len(CLASSES))).astype(np.int64)
