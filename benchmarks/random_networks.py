"""Random networks through torch, the graph, its passes and the C++ of three number types: whether every bit agrees.

    python benchmarks/random_networks.py [--networks 1000] [--seed 0]

Runs tests/test_random_networks.py, which stops at the first number that differs, on that many networks, and writes
benchmarks/results/random_networks.json. Every fourth is also compiled with Xilinx's headers, which take longest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from provenance import RESULTS, provenance, write

TESTS = Path(__file__).parents[1] / "tests" / "test_random_networks.py"


def main() -> int:
    parser = argparse.ArgumentParser(description="whether random networks agree in every bit")
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "random_networks.json")
    given = parser.parse_args()
    environment = {**os.environ, "QAPSULE_NETWORKS": str(given.networks), "QAPSULE_SEED": str(given.seed)}
    start = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-v", "--no-header", str(TESTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout)
    tested = [line.split()[:2] for line in done.stdout.splitlines() if "::" in line and "%]" in line]
    content = {
        "benchmark": "random_networks",
        "networks": given.networks,
        "seed": given.seed,
        "all_agree": done.returncode == 0,
        "outcomes": {name.partition("::")[2]: outcome.lower() for name, outcome in tested},
        "wall_seconds": round(time.monotonic() - start),
        **provenance("numpy", "torch", "brevitas", "hls4ml"),
    }
    write(given.out, content)
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
