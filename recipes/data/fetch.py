"""Files from the network: fetched once, checked, and kept in a cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from recipes.data.dataset import DataError

TIMEOUT_S = 60.0
_BLOCK = 1 << 20


def cache_folder() -> Path:
    """``$QAPSULE_CACHE``, or ``qapsule`` in the user's cache folder (``$XDG_CACHE_HOME``, else ``~/.cache``)."""
    if given := os.environ.get("QAPSULE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qapsule"


def fetch(urls: Sequence[str], path: Path, md5: str, instead: str) -> Path:
    """``path``, fetched from the first of ``urls`` that answers unless it is there already, with the checksum ``md5``.

    MD5 is what the publishers of these files state; it tells damage, not malice. Nothing incomplete is ever left at
    ``path``. Raises :class:`DataError`, which ends with ``instead``: what a user without a network can do.
    """
    if path.exists():
        if (found := _md5(path)) != md5:
            raise DataError(f"{path}: its md5 is {found}, {md5} is expected; delete it and it is fetched again")
        return path
    part = path.with_name(path.name + ".part")
    failures = []
    for url in urls:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, part.open("wb") as file:
                shutil.copyfileobj(response, file, _BLOCK)
            if (found := _md5(part)) == md5:
                return part.replace(path)
            failures.append(f"{url} sent {part.stat().st_size} bytes with md5 {found}, {md5} is expected")
        except OSError as error:
            failures.append(f"{url}: {error}")
        finally:
            part.unlink(missing_ok=True)
    raise DataError(f"{path.name} could not be fetched: {'; '.join(failures)}. {instead}")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
