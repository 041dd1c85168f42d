"""From hard events to jets: shower and hadronise, measure, cluster, match, groom, reduce to features."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.data.jets import CLASSES
from recipes.simulation.detector import Detector
from recipes.simulation.hard import TOP_MASS, pythia, write_hard_events
from recipes.simulation.kinematics import Floats, azimuth_distance, jagged, momenta, polar, pseudorapidity
from recipes.simulation.observables import features

# Shower, underlying event and hadronisation with the Monash 2013 tune, the default. W and Z come decayed in the file;
# t -> b W is left to Pythia, with its matrix element. Particles that reach the calorimeter (c tau > 10 mm) stay.
_SETTINGS = (
    "Print:quiet = on",
    TOP_MASS,
    "24:onMode = off",
    "24:onIfAny = 1 2 3 4 5",
    "ParticleDecays:limitTau0 = on",
    "ParticleDecays:tau0Max = 10.",
)
_RADIUS = 0.8
_JET_PT = (800.0, 1600.0)  # GeV
_JET_MAX_ETA = 2.0
_PARTICLE_MAX_ETA = 3.0
_MATCH_DISTANCE = 0.8
_Z_CUT, _BETA = 0.1, 0.0  # mMDT is soft drop with beta = 0
_NEUTRINOS = (12, 14, 16)
_BATCH = 100  # events


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A unit of work. Its jets depend on nothing else, so the result does not depend on how many run at once."""

    name: str  # of the class
    number: int
    jets: int
    seed: int
    pt_hat: tuple[float, float] = (990.0, 1010.0)  # GeV
    longitudinal: float = 1.0  # fraction of the W and Z, see ``decay_boson``
    detector: Detector | None = None  # None: every stable particle as it is


@dataclass(frozen=True, kw_only=True, eq=False)
class Jets:
    x: Floats  # (jets, 16)
    event: NDArray[np.int64]  # (jets,), counted within the chunk
    events: int  # generated in all


def generate(chunk: Chunk) -> Jets:
    """The jets of a chunk. Raises ``RuntimeError`` where Pythia fails or too few events have an accepted jet."""
    seeds = np.random.SeedSequence([chunk.seed, CLASSES.index(chunk.name), chunk.number])
    pythia_seed = int(seeds.generate_state(1)[0] % 900_000_000) + 1
    rng = np.random.default_rng(seeds.spawn(1)[0])
    hard_events = chunk.jets + 5 * _BATCH  # an event has more than one accepted jet on average
    rows: list[list[float]] = []
    event_of: list[int] = []
    events = 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hard.lhe"
        write_hard_events(file, chunk.name, hard_events, chunk.pt_hat, chunk.longitudinal, pythia_seed, rng)
        generator = pythia((*_SETTINGS, "Beams:frameType = 4", f"Beams:LHEF = {file}"), pythia_seed)
        while len(rows) < chunk.jets:
            if events + _BATCH > hard_events:
                raise RuntimeError(
                    f"class {chunk.name}: {len(rows)} jets in {events} events, {chunk.jets} are needed; "
                    f"is the window {chunk.pt_hat} GeV inside the jets' {_JET_PT} GeV?"
                )
            batch = generator.nextBatch(_BATCH)
            particles, event = _particles(batch, generator.particleData, chunk.detector, rng)
            found = _leading_jets(particles, event, _hard_partons(batch), len(batch))
            rows += _features([particles[index] for _, index in found])
            event_of += [events + number for number, _ in found]
            events += len(batch)
    x = np.array(rows[: chunk.jets])
    if not np.isfinite(x).all():
        raise RuntimeError(
            f"class {chunk.name}, chunk {chunk.number}: {np.count_nonzero(~np.isfinite(x))} features not finite"
        )
    return Jets(x=x, event=np.array(event_of[: chunk.jets]), events=events)


def _particles(
    batch: Any, data: Any, detector: Detector | None, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int64]]:
    """The visible stable particles of a batch, as measured: (n, 4), and the event of each, ascending."""
    import awkward as ak

    record = ak.flatten(batch.prt)
    event = np.repeat(np.arange(len(batch)), ak.to_numpy(ak.num(batch.prt.id)))
    status, pdg = ak.to_numpy(record.status), ak.to_numpy(record.id)
    visible = (status > 0) & ~np.isin(np.abs(pdg), _NEUTRINOS)
    p, pdg, event = momenta(record.p)[visible], pdg[visible], event[visible]
    central = np.abs(p[:, 2]) < np.tanh(_PARTICLE_MAX_ETA) * np.sqrt((p[:, :3] ** 2).sum(axis=1))
    p, pdg, event = p[central], pdg[central], event[central]
    if detector is None:
        return p, event
    kinds, kind_of = np.unique(pdg, return_inverse=True)
    charged = np.array([data.charge(int(kind)) != 0 for kind in kinds])[kind_of]
    return detector.response(p, charged, np.isin(np.abs(pdg), (11, 22)), event, rng)


def _hard_partons(batch: Any) -> Floats:
    """Momenta of the two hard outgoing particles after their recoils: (events, 2, 4).

    They are entries 5 and 6; their copies are followed as long as the only daughter is of the same kind.
    """
    import awkward as ak

    counts = ak.to_numpy(ak.num(batch.prt.id))
    record = ak.flatten(batch.prt)
    pdg, first, last = (ak.to_numpy(record[name]) for name in ("id", "daughter1", "daughter2"))
    p = momenta(record.p)
    found = np.zeros((len(counts), 2, 4))
    for event, offset in enumerate(np.concatenate([[0], np.cumsum(counts)[:-1]])):
        for side in (0, 1):
            at = 5 + side
            while (
                first[offset + at] > 0
                and last[offset + at] in (0, first[offset + at])
                and pdg[offset + first[offset + at]] == pdg[offset + at]
            ):
                at = first[offset + at]
            found[event, side] = p[offset + at]
    return found


def _leading_jets(
    particles: Floats, event: NDArray[np.int64], hard: Floats, events: int
) -> list[tuple[int, NDArray[np.int64]]]:
    """The accepted jets of a batch: number of the event and indices of the constituents in ``particles``.

    Of each event the two leading anti-kT jets, inside the acceptance and within reach of a hard parton.
    """
    import fastjet

    counts = np.bincount(event, minlength=events)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    anti_kt = fastjet.JetDefinition(fastjet.antikt_algorithm, _RADIUS)
    clusters = fastjet.ClusterSequence(jagged(particles, counts), anti_kt)
    min_pt = 0.25 * _JET_PT[0]
    constituents = clusters.constituent_index(min_pt=min_pt).to_list()
    accepted = []
    for number, jets in enumerate(clusters.inclusive_jets(min_pt=min_pt).to_list()):
        if not jets:
            continue
        p = np.array([[jet["px"], jet["py"], jet["pz"], jet["E"]] for jet in jets])
        leading = np.argsort(-np.hypot(p[:, 0], p[:, 1]))[:2]
        pt, rapidity, azimuth = polar(p[leading])
        _, hard_rapidity, hard_azimuth = polar(hard[number])
        d_phi = azimuth_distance(azimuth[:, None], hard_azimuth)
        distance = np.hypot(rapidity[:, None] - hard_rapidity, d_phi).min(axis=1)
        inside = (pt > _JET_PT[0]) & (pt < _JET_PT[1]) & (np.abs(pseudorapidity(p[leading])) <= _JET_MAX_ETA)
        for jet in leading[inside & (distance <= _MATCH_DISTANCE)]:
            accepted.append((number, offsets[number] + np.asarray(constituents[number][jet])))
    return accepted


def _features(jets: list[Floats]) -> list[list[float]]:
    """A row per jet, groomed all in one call: reclustered with Cambridge/Aachen, then soft drop."""
    if not jets:
        return []
    import awkward as ak
    import fastjet

    aachen = fastjet.JetDefinition(fastjet.cambridge_algorithm, 100.0)
    sequence = fastjet.ClusterSequence(jagged(np.concatenate(jets), np.array([len(jet) for jet in jets])), aachen)
    groomed = sequence.exclusive_jets_softdrop_grooming(
        njets=1,
        beta=_BETA,
        symmetry_cut=_Z_CUT,
        symmetry_measure="scalar_z",
        R0=_RADIUS,
        recursion_choice="larger_pt",
    ).constituents
    kept = np.split(momenta(ak.flatten(groomed)), np.cumsum(ak.to_numpy(ak.num(groomed.px)))[:-1])
    return [features(jet, rest) for jet, rest in zip(jets, kept, strict=True)]
