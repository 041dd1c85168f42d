"""A light, particle-flow-like detector: smeared tracks and calorimeter towers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recipes.simulation.kinematics import Floats, pseudorapidity

# Towers are numbered event, then eta, then azimuth, with this much room for each coordinate.
_CELLS = 4096


@dataclass(frozen=True, kw_only=True)
class Detector:
    """Resolutions and thresholds; energies and momenta in GeV.

    A charged particle leaves a track with sigma(pT)/pT = track_a (+) track_b pT; photons, electrons and neutral hadrons
    deposit in towers with sigma(E)/E = stochastic / sqrt(E) (+) constant.
    """

    track_a: float = 0.01
    track_b: float = 2.0e-4
    track_max_eta: float = 2.5
    track_min_pt: float = 0.5
    ecal_cell: float = 0.0175  # side of a tower in eta and azimuth
    ecal_stochastic: float = 0.03
    ecal_constant: float = 0.005
    hcal_cell: float = 0.022
    hcal_stochastic: float = 1.00
    hcal_constant: float = 0.05
    tower_min_energy: float = 0.5

    def response(
        self,
        p: Floats,
        charged: NDArray[np.bool_],
        electromagnetic: NDArray[np.bool_],
        event: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> tuple[Floats, NDArray[np.int64]]:
        """What is measured of particles ``p`` (n, 4): momenta and the event of each, sorted by event.

        Tracks keep direction and mass; the particles of a tower are summed into a massless one, then smeared.
        """
        pt = np.hypot(p[:, 0], p[:, 1])
        eta = pseudorapidity(p)
        track = charged & ~electromagnetic & (np.abs(eta) < self.track_max_eta) & (pt > self.track_min_pt)
        # A charged particle outside the tracker ends in the hadronic calorimeter; one too soft for a track curls up.
        hadronic = ~track & ~electromagnetic & ~(charged & (pt <= self.track_min_pt))
        parts = [
            (self._tracks(p[track], rng), event[track]),
            _towers(
                p[~track & electromagnetic],
                event[~track & electromagnetic],
                self.ecal_cell,
                self.ecal_stochastic,
                self.ecal_constant,
                self.tower_min_energy,
                rng,
            ),
            _towers(
                p[hadronic],
                event[hadronic],
                self.hcal_cell,
                self.hcal_stochastic,
                self.hcal_constant,
                self.tower_min_energy,
                rng,
            ),
        ]
        measured, events = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(events, kind="stable")
        return measured[order], events[order]

    def _tracks(self, p: Floats, rng: np.random.Generator) -> Floats:
        pt = np.hypot(p[:, 0], p[:, 1])
        mass_squared = np.maximum(p[:, 3] ** 2 - (p[:, :3] ** 2).sum(axis=1), 0.0)
        sigma = np.hypot(self.track_a, self.track_b * pt)
        scale = np.maximum(1.0 + sigma * rng.standard_normal(pt.size), 0.05)
        momentum = p[:, :3] * scale[:, None]
        return np.column_stack([momentum, np.sqrt((momentum**2).sum(axis=1) + mass_squared)])


def _towers(
    p: Floats,
    event: NDArray[np.int64],
    cell: float,
    stochastic: float,
    constant: float,
    min_energy: float,
    rng: np.random.Generator,
) -> tuple[Floats, NDArray[np.int64]]:
    around = round(2.0 * np.pi / cell)
    eta_cell = np.floor(pseudorapidity(p) / cell).astype(np.int64)
    azimuth = np.arctan2(p[:, 1], p[:, 0])
    azimuth_cell = np.floor((azimuth + np.pi) / (2.0 * np.pi) * around).astype(np.int64) % around
    key = (event * _CELLS + eta_cell + _CELLS // 2) * _CELLS + azimuth_cell
    towers, tower_of = np.unique(key, return_inverse=True)
    energy = np.bincount(tower_of, weights=p[:, 3], minlength=towers.size)
    energy = energy + np.hypot(stochastic * np.sqrt(energy), constant * energy) * rng.standard_normal(energy.size)
    kept = energy > min_energy
    towers, energy = towers[kept], energy[kept]
    phi = ((towers % _CELLS) + 0.5) / around * 2.0 * np.pi - np.pi
    eta = (towers // _CELLS % _CELLS - _CELLS // 2 + 0.5) * cell
    pt = energy / np.cosh(eta)
    return np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy]), towers // _CELLS**2
