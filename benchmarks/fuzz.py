"""How many random networks agree in everything that is compared about them: ``qapsule fuzz``, recorded.

    python benchmarks/fuzz.py [--networks 10000] [--seed 0] [--run runs/fuzz]

Goes on with the campaign in ``--run``, if there is one, and writes it into benchmarks/results/fuzz.json: what was
drawn, refused and compared, and every disagreement. A campaign of another seed stands beside those that are recorded
there, with its own commit, since it draws other networks; one of the same seed takes the place of the older. Of all
together the file has the number of networks, what was compared, and what has never been met.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from provenance import RESULTS, provenance, write

from recipes.fuzz.campaign import Campaign, fuzz
from recipes.fuzz.coverage import never


def together(campaigns: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums over all of them."""
    features: Counter[str] = sum((Counter(each["features"]) for each in campaigns), Counter())
    compared: Counter[str] = sum((Counter(each["compared"]) for each in campaigns), Counter())
    return {
        "networks": sum(each["networks"] for each in campaigns),
        "finds": sum(len(each["finds"]) for each in campaigns),
        "compared": dict(sorted(compared.items())),
        "never": never(features),
    }


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
    about = provenance("numpy", "torch", "brevitas", "hls4ml")
    recorded = json.loads(given.out.read_text())["campaigns"] if given.out.exists() else []
    others = [each for each in recorded if each["campaign"]["seed"] != campaign.seed]
    campaigns = [*others, {"campaign": asdict(campaign), **account.plain(), **about}]
    campaigns.sort(key=lambda each: each["campaign"]["seed"])
    write(given.out, {"benchmark": "fuzz", "together": together(campaigns), "campaigns": campaigns})
    return 1 if account.finds else 0


if __name__ == "__main__":
    raise SystemExit(main())
