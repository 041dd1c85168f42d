"""How the embedded jets were made: a reduced sample of a larger file of simulated jets.

    python -m recipes.data.sample jets_sim_100k.npz recipes/data/jets_sim.npz

The larger file, 99,975 jets of :mod:`recipes.simulation` with seed 1 (sha256 c404322ba218bb66...), is not part of the
project; a sample of one's own may be taken from any file that the simulation writes.

Whole events are taken in the order of a hash of their number until every class has the same number of jets; the
features keep 11 of float32's 23 fraction bits (a relative error below 1/4000, far below the resolution of any
detector). The same input gives the same file, to the last byte.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.data.dataset import DataError, Dataset, uniform
from recipes.data.jets import CLASSES, FEATURES, read_jets

JETS_PER_CLASS = 8000
FRACTION_BITS = 11
SEED = 1  # not the split's: the same hash would fill the sample with one side of the split


def choose(data: Dataset, jets_per_class: int) -> NDArray[np.intp]:
    """The rows of whole events with exactly ``jets_per_class`` jets of each class, in the order of the file."""
    rows = []
    order = np.lexsort((data.groups, uniform(data.groups, SEED)))
    for number, name in enumerate(data.classes):
        of_class = order[data.y[order] == number]
        # Jets of one event and class are neighbours in this order; the others of its number are other events.
        sizes = np.unique(np.cumsum(np.diff(data.groups[of_class], prepend=-1) != 0), return_counts=True)[1]
        events = np.split(of_class, np.cumsum(sizes)[:-1])
        wanted = jets_per_class
        for event in events:
            if len(event) <= wanted:
                rows.append(event)
                wanted -= len(event)
        if wanted:
            raise DataError(
                f"{data.source}: {len(of_class)} jets of class {name}, {jets_per_class} are asked for; ask for fewer"
            )
    return np.sort(np.concatenate(rows))


def shorten(x: NDArray[np.float32], fraction_bits: int) -> NDArray[np.float32]:
    """``x`` to the nearest float32 with ``fraction_bits`` bits after the leading one (ties away from zero)."""
    dropped = 23 - fraction_bits
    bits = x.view(np.uint32).astype(np.uint64) + (1 << (dropped - 1))
    return (bits >> dropped << dropped).astype(np.uint32).view(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.data.sample", description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="npz file of jets with event_id")
    parser.add_argument("out", type=Path)
    parser.add_argument("--jets-per-class", type=int, default=JETS_PER_CLASS)
    given = parser.parse_args()
    data = read_jets(given.source, str(given.source))
    rows = choose(data, given.jets_per_class)
    np.savez_compressed(
        given.out,
        X=np.asfortranarray(shorten(data.x[rows], FRACTION_BITS)),  # column by column it packs a tenth smaller
        y=data.y[rows].astype(np.int8),
        event_id=data.groups[rows].astype(np.int32),
        feature_names=np.array(FEATURES),
        class_names=np.array(CLASSES),
    )
    print(f"{given.out}: {len(rows)} jets, {given.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
