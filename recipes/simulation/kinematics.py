"""Four-momenta as arrays (particles, 4) of px, py, pz, E in GeV."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def polar(p: Floats) -> tuple[Floats, Floats, Floats]:
    """Transverse momentum, rapidity and azimuth."""
    pt = np.hypot(p[:, 0], p[:, 1])
    mass_squared = np.maximum(p[:, 3] ** 2 - p[:, 2] ** 2 - pt**2, 0.0)
    transverse_mass = np.sqrt(mass_squared + pt**2)
    return pt, np.arcsinh(p[:, 2] / np.maximum(transverse_mass, 1e-12)), np.arctan2(p[:, 1], p[:, 0])


def pseudorapidity(p: Floats) -> Floats:
    return np.arcsinh(p[:, 2] / np.maximum(np.hypot(p[:, 0], p[:, 1]), 1e-9))


def mass(p: Floats) -> Floats:
    """Of each particle; 0 where rounding makes the square negative."""
    return np.sqrt(np.maximum(p[:, 3] ** 2 - (p[:, :3] ** 2).sum(axis=1), 0.0))


def azimuth_distance(a: Floats, b: Floats) -> Floats:
    return np.abs((a - b + np.pi) % (2.0 * np.pi) - np.pi)


def momenta(records: Any) -> Floats:
    """The four-momenta of a flat awkward array of records."""
    import awkward as ak

    names = ("px", "py", "pz", "E" if "E" in ak.fields(records) else "e")
    return np.column_stack([ak.to_numpy(records[name]) for name in names])


def jagged(p: Floats, counts: NDArray[np.int64]) -> Any:
    """``p`` cut into lists of ``counts`` particles, as FastJet takes them."""
    import awkward as ak
    import vector  # noqa: F401  (gives the records below their behaviour)

    columns = dict(zip(("px", "py", "pz", "E"), p.T, strict=True))
    return ak.unflatten(ak.zip(columns, with_name="Momentum4D"), counts)
