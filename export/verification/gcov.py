"""Line and branch coverage of a design, told truthfully: what was reached, what is proved unreachable, what is neither.

Generated projects carry this file, which therefore needs nothing beyond Python's own library:

    python3 coverage.py GCOV COMPARISONS.json OBJECT.o ...

The objects were compiled by g++ with --coverage and have run. Files outside the project (the vendor's types, the
system's) are left out. Every instance of a template counts for itself. The exit status is 0 if every line and branch
was reached or is proved unreachable, else 1.

There are two proofs. Data decide in a single place, the multiplexer `select`; which sides of it cannot be taken is
found by interval arithmetic when the project is written. Everywhere else sizes and constants of the layers decide: the
kernels are also compiled for numbers that are several samples at once, whose comparisons are no conditions of C++, so
that no `if` and no loop can depend on one. There every sample goes the same way: what one does not reach, none does.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The kernels' multiplexer: select<T>(bool held, ...).
_SELECT = re.compile(r"_ZN7qapsule6selectI(.+)EET_bRKS")


_BY_SIZE = "decided by the sizes and constants of a layer, not by data"


@dataclass(frozen=True)
class Place:
    """Something that has or has not been executed. ``proof`` is why it cannot be."""

    file: str
    line: int
    function: str
    what: str
    reached: bool
    proof: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what} in {self.function}"


def places(report: dict[str, Any], comparisons: dict[str, Any]) -> list[Place]:
    """Every line and branch of the project's own files in one of gcov's JSON reports."""
    found = []
    for file in report["files"]:
        path = Path(file["file"])
        if path.is_absolute() or ".." in path.parts:
            continue
        functions = {f["name"]: f for f in file["functions"]}
        for line in file["lines"]:
            name = line.get("function_name", "")
            function = functions.get(name, {"demangled_name": name, "execution_count": 0})
            where = str(path), line["line_number"], function["demangled_name"]
            select = _SELECT.match(name)
            decided = _BY_SIZE if function["execution_count"] and not select else None
            found.append(Place(*where, "line", line["count"] > 0, decided))
            branches = [b for b in line["branches"] if not b["throw"]]
            for number, branch in enumerate(branches):
                what, proof = f"branch {number + 1} of {len(branches)}", decided
                if select:
                    side = "held" if branch["fallthrough"] else "failed"
                    what = f"the side where the comparison {side}"
                    proof = comparisons["select"].get(select[1], {}).get(side)
                found.append(Place(*where, what, branch["count"] > 0, proof))
    return found


def summary(found: list[Place]) -> tuple[list[str], bool]:
    """What to print, and whether everything was reached or cannot be."""
    lines = []
    for kind, some in (
        ("lines", [p for p in found if p.what == "line"]),
        ("branches", [p for p in found if p.what != "line"]),
    ):
        reached = sum(p.reached for p in some)
        proved = sum(not p.reached and p.proof is not None for p in some)
        tail = f", {proved} proved unreachable" if proved else ""
        lines.append(f"{kind}: {reached} of {len(some)} reached{tail}")
    excluded = [p for p in found if not p.reached and p.proof is not None]
    by_size = Counter((p.file, p.line, p.proof) for p in excluded if p.proof == _BY_SIZE)
    lines += [f"unreachable: {file}:{line}: {count} x {why}" for (file, line, why), count in sorted(by_size.items())]
    lines += [f"unreachable: {p}: {p.proof}" for p in excluded if p.proof != _BY_SIZE]
    missed = [p for p in found if not p.reached and p.proof is None]
    return lines + [f"NOT REACHED: {p}" for p in missed], bool(found) and not missed


def main(gcov: str, comparisons: str, *objects: str) -> int:
    known = json.loads(Path(comparisons).read_text())
    found = []
    for path in objects:
        command = [gcov, "--json-format", "--stdout", "--branch-probabilities", "--demangled-names", path]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        for document in done.stdout.splitlines():
            if document.startswith("{"):
                found += places(json.loads(document), known)
    lines, complete = summary(found)
    print("\n".join(lines + known["summary"]))
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
