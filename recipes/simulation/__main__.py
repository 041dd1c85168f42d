"""``python -m recipes.simulation``: simulate jets on all cores and write them as an npz file.

The file has X (jets, 16) float32, y (jets,) int8 and event_id (jets,) int32 (the jets of one event share it), with
feature_names and class_names. Classes are exactly balanced, rows shuffled; the number of processes changes nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from recipes.data.jets import CLASSES, FEATURES
from recipes.simulation.detector import Detector
from recipes.simulation.events import Chunk, Jets, generate

_CHUNK = 1000  # jets


def main() -> None:
    given = _parser().parse_args()
    detector = None
    if given.detector is not None:
        try:
            detector = Detector(
                **{key: float(text) for key, _, text in (pair.partition("=") for pair in given.detector)}
            )
        except (TypeError, ValueError) as error:
            known = ", ".join(field.name for field in fields(Detector))
            raise SystemExit(
                f"--detector {' '.join(given.detector)}: {error}; write key=number, keys are {known}"
            ) from None
    chunks = [
        Chunk(
            name=name,
            number=start // _CHUNK,
            jets=min(_CHUNK, given.jets_per_class - start),
            seed=given.seed,
            pt_hat=tuple(given.pt_hat),
            longitudinal=given.longitudinal,
            detector=detector,
        )
        for start in range(0, given.jets_per_class, _CHUNK)
        for name in CLASSES
    ]
    # Pythia's and FastJet's state must not be shared, so every process starts from nothing.
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        bar = tqdm(total=given.jets_per_class * len(CLASSES), unit="jet")
        made = []
        for jets in pool.imap(generate, chunks):
            made.append(jets)
            bar.update(len(jets.x))
    bar.close()
    write(given.out, chunks, made, given.seed)
    print(f"{given.out}: {given.jets_per_class} jets of each class from {sum(jets.events for jets in made)} events")


def write(out: Path, chunks: list[Chunk], made: list[Jets], seed: int) -> None:
    """Put the chunks together in an order drawn from ``seed``."""
    y = np.concatenate(
        [np.full(len(jets.x), CLASSES.index(chunk.name)) for chunk, jets in zip(chunks, made, strict=True)]
    )
    firsts = np.cumsum([0, *(jets.events for jets in made[:-1])])
    event = np.concatenate([first + jets.event for first, jets in zip(firsts, made, strict=True)])
    order = np.random.default_rng([seed, 999]).permutation(len(y))
    np.savez_compressed(
        out,
        X=np.concatenate([jets.x for jets in made])[order].astype(np.float32),
        y=y[order].astype(np.int8),
        event_id=event[order].astype(np.int32),
        feature_names=np.array(FEATURES),
        class_names=np.array(CLASSES),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.simulation", description="Simulate jets with Pythia 8 and FastJet."
    )
    parser.add_argument("--jets-per-class", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("jets.npz"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument(
        "--pt-hat", type=float, nargs=2, default=Chunk.pt_hat, metavar=("MIN", "MAX"), help="partons, in GeV"
    )
    parser.add_argument(
        "--longitudinal", type=float, default=Chunk.longitudinal, help="fraction of W and Z; 1/3 is isotropic"
    )
    parser.add_argument(
        "--detector", nargs="*", metavar="KEY=NUMBER", help="simulate a detector, with its numbers changed"
    )
    return parser


if __name__ == "__main__":
    main()
