"""How many random networks agree in everything that is compared about them: ``qapsule fuzz``, recorded.

    python benchmarks/fuzz.py [--networks 10000] [--seed 0] [--run runs/fuzz]

Goes on with the campaign in ``--run``, if there is one, and writes benchmarks/results/fuzz.json: what was drawn,
refused and compared, what has never been met, and every disagreement.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from provenance import RESULTS, provenance, write

from recipes.fuzz.campaign import Campaign, fuzz
from recipes.fuzz.coverage import never


def main() -> int:
    parser = argparse.ArgumentParser(description="whether random networks agree in every bit")
    parser.add_argument("--networks", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=Path("runs/fuzz"), help="folder of the campaign")
    parser.add_argument("--out", type=Path, default=RESULTS / "fuzz.json")
    given = parser.parse_args()
    standins = Path(__file__).parent.parent / "tests" / "standins"
    campaign = Campaign(networks=given.networks, seed=given.seed)
    account = fuzz(campaign, given.run, resume=True, standins=standins)
    seen = {**account.plain(), "never": never(account.features)}
    versions = provenance("numpy", "torch", "brevitas", "hls4ml")
    write(given.out, {"benchmark": "fuzz", "campaign": asdict(campaign), **seen, **versions})
    return 1 if account.finds else 0


if __name__ == "__main__":
    raise SystemExit(main())
