"""One backend per target."""

from __future__ import annotations

from export.backend import Backend, BackendError
from export.backends.catapult import CATAPULT
from export.backends.emulator import EMULATOR
from export.backends.intel import INTEL
from export.backends.vitis import VITIS
from export.backends.vitis_accel import VITIS_ACCEL

BACKENDS = {backend.name: backend for backend in (VITIS, VITIS_ACCEL, INTEL, CATAPULT, EMULATOR)}


def find_backend(name: str) -> Backend:
    """The backend called ``name``. Raises BackendError, listing those there are."""
    if name not in BACKENDS:
        raise BackendError(f"there is no backend {name!r}; choose one of {', '.join(sorted(BACKENDS))}")
    return BACKENDS[name]
