"""Files that are whole or absent: checkpoints and the small texts beside them.

A file is written beside its destination, forced to the disk and moved into place in one step, so a reader, a crash or a
full disk never meets half of it. Checkpoints hold tensors, numbers, strings, lists and dicts alone and load with
``weights_only=True``; each carries a schema version and its kind.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.mask import apply_masks, masks_of, remove_masks
from compress.rewind import ModelState, check_architecture, model_state, restore_model

#: Raised by one whenever a reader of the earlier form would misread the new one.
SCHEMA = 1


class CheckpointError(ValueError):
    """A checkpoint that is absent, damaged, of another kind or of another schema."""


def save_model(path: Path, model: nn.Module, about: Mapping[str, Any] | None = None) -> None:
    """Write the network with its masks; ``about`` (tensors and plain values) travels with it."""
    state = model_state(model)
    write_checkpoint(path, "model", {"model": vars(state), "masks": masks_of(model), "about": dict(about or {})})


def load_model(path: Path, model: nn.Module) -> dict[str, Any]:
    """Put a saved network, its masks included, into ``model`` and return what was saved ``about`` it.

    Raises :class:`CheckpointError`, or ``ArchitectureError`` naming the first tensor that differs and both shapes; the
    model is untouched then.
    """
    content = read_checkpoint(path, "model")
    state = ModelState(**content["model"])
    check_architecture(model, state, str(path))
    remove_masks(model)
    apply_masks(model, content["masks"])
    restore_model(model, state, str(path))
    about: dict[str, Any] = content["about"]
    return about


def write_checkpoint(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write ``content`` so that :func:`read_checkpoint` returns it. Raises ``OSError``; the previous file survives."""
    buffer = io.BytesIO()
    torch.save({"schema": SCHEMA, "kind": kind, "content": dict(content)}, buffer)
    write_bytes(path, buffer.getvalue())


def read_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """The content of a checkpoint, tensors on the CPU. Raises :class:`CheckpointError`."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint; train with this folder as output first")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no common type for what a damaged file may raise
        raise CheckpointError(f"{path}: not a readable checkpoint ({error}); delete it and train again") from error
    if not isinstance(saved, dict) or not {"schema", "kind", "content"} <= saved.keys():
        raise CheckpointError(f"{path}: a torch file, but no checkpoint of ours; load it with torch.load")
    if saved["schema"] != SCHEMA:
        raise CheckpointError(
            f"{path}: written in schema {saved['schema']}, this version reads {SCHEMA}; use the version that wrote it"
        )
    if saved["kind"] != kind:
        raise CheckpointError(f"{path}: a checkpoint of a {saved['kind']}, a {kind} is needed; name the other file")
    content: dict[str, Any] = saved["content"]
    return content


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``, all at once and for good; makes its folder. Raises ``OSError``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # One fixed name: what a killed process leaves behind is overwritten by the next one, not collected.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def describe(config: Any) -> dict[str, Any]:
    """The fields of a configuration dataclass as plain values; what one or a mapping holds as ``outer.inner``."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        flat |= _described(field.name, getattr(config, field.name))
    return flat


def _described(name: str, value: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(value):
        return {f"{name}.{inner}": plain for inner, plain in describe(value).items()}
    if isinstance(value, Mapping):
        return {key: plain for inner in value for key, plain in _described(f"{name}.{inner}", value[inner]).items()}
    if isinstance(value, Enum):
        return {name: value.value}
    return {name: list(value) if isinstance(value, tuple) else value}


def check_same(where: Path, saved: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` naming the first field in which a folder and a call differ, and both values."""
    for name in [*asked, *(name for name in saved if name not in asked)]:
        if saved.get(name) != asked.get(name):
            raise ValueError(
                f"{where}: made with {name} = {saved.get(name)!r}, this call asks for {asked.get(name)!r}; "
                "resume with the same configuration or choose another folder"
            )
