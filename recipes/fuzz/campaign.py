"""A campaign: as many random networks as asked for, in groups that are compiled together; stopped and resumed at will.

    account = fuzz(Campaign(networks=10_000), Path("runs/fuzz"))

Every group is drawn from the seed and its numbers alone, so that a resumed campaign ends as an uninterrupted one. What
it finds lies in ``finds/``: a network with its samples, to be compared again with :func:`replay`, and to be put among
those that the tests run.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from compress.checkpoint import write_bytes
from export.backend import BackendError
from export.ir import GraphError
from recipes import processes
from recipes.fuzz.case import Case, Disagreement, Refused, draw, in_python
from recipes.fuzz.coverage import features
from recipes.fuzz.designs import compiled
from recipes.fuzz.projects import TARGETS, BenchError, NotHere, bench, drawn_project

ACCOUNT, FINDS = "campaign.json", "finds"

#: What a worker does before another takes its place.
_GROUPS_EACH = 12

#: What reloadable weights are refused with; any other error of a graph that was compared is a find.
_REFUSALS = ("is wired for the weights", "there is nothing to reload")

_COUNTED = ("refused", "features", "compared", "skipped")


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """``together`` networks make a group.

    Of each, one in ``ap_every`` is compiled with Xilinx's slow headers too. Of all networks about one in
    ``bench_every`` becomes the project of a backend, any of them, whose own test bench is run.
    """

    networks: int
    seed: int = 0
    together: int = 60
    ap_every: int = 4
    bench_every: int = 40

    def __post_init__(self) -> None:
        for name in ("networks", "together", "ap_every", "bench_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def groups(self) -> int:
        return -(-self.networks // self.together)

    def numbers(self, group: int) -> range:
        return range(group * self.together, min((group + 1) * self.together, self.networks))


@dataclass(kw_only=True)
class Account:
    """What a campaign has seen so far."""

    groups: int = 0
    networks: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)  # networks by what was compared
    skipped: Counter[str] = field(default_factory=Counter)  # projects by what they need and was not there
    finds: list[dict[str, str]] = field(default_factory=list)

    def add(self, other: Account) -> None:
        self.groups += other.groups
        self.networks += other.networks
        for name in _COUNTED:
            getattr(self, name).update(getattr(other, name))
        self.finds += other.finds

    def plain(self) -> dict[str, Any]:
        counted = {name: dict(sorted(getattr(self, name).items())) for name in _COUNTED}
        return {"groups": self.groups, "networks": self.networks, **counted, "finds": self.finds}

    @classmethod
    def read(cls, content: dict[str, Any]) -> Account:
        counted = {name: Counter(content[name]) for name in _COUNTED}
        return cls(groups=content["groups"], networks=content["networks"], finds=list(content["finds"]), **counted)


def fuzz(
    campaign: Campaign,
    out: Path,
    *,
    resume: bool = False,
    workers: int | None = None,
    progress: bool = True,
    standins: Path | None = None,
) -> Account:
    """Run it, or what is left of it. Raises ``ValueError`` where ``out`` holds another, or one not to be resumed.

    ``standins`` is the folder of what stands in for vendors' headers that are not public
    (:mod:`recipes.fuzz.projects`); without it projects that need them are counted as skipped.
    """
    account = _begun(campaign, out, resume)
    left = range(account.groups, campaign.groups)
    count = workers or len(os.sched_getaffinity(0))
    bar = tqdm(total=campaign.networks, initial=account.networks, desc="fuzz", unit="net", disable=not progress)
    with bar:
        # A library once loaded stays: workers are replaced before they hold many.
        for first in range(0, len(left), _GROUPS_EACH * count):
            groups = left[first : first + _GROUPS_EACH * count]
            with processes.workers(count) as pool:
                for seen in pool.map(_group, [(campaign, group, out / FINDS, standins) for group in groups]):
                    account.add(seen)
                    _write(campaign, account, out)
                    bar.update(seen.networks)
                    bar.set_postfix(finds=len(account.finds))
    return account


def replay(files: Sequence[Path], standins: Path | None = None) -> list[Disagreement]:
    """Compare finds again, in everything but torch. An empty list: all that was found is mended."""
    cases = [Case.loaded(json.loads(file.read_text())) for file in files]
    found: list[Disagreement] = []
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            found += in_python(case)
            for _, differing in compiled([case], Path(folder), every=1):
                found += differing
            found += _benched(case, 1, standins, Account())
    return found


def _begun(campaign: Campaign, out: Path, resume: bool) -> Account:
    file = out / ACCOUNT
    if not file.exists():
        return Account()
    content = json.loads(file.read_text())
    if not resume:
        raise ValueError(f"{out}: holds a campaign already; add --resume to go on with it, or choose another --out")
    # More networks than before are a campaign continued; everything else decides what was drawn.
    if {**content["campaign"], "networks": 0} != {**asdict(campaign), "networks": 0}:
        raise ValueError(f"{out}: holds a campaign with {content['campaign']}; choose another --out")
    return Account.read(content["account"])


def _write(campaign: Campaign, account: Account, out: Path) -> None:
    content = {"campaign": asdict(campaign), "account": account.plain()}
    write_bytes(out / ACCOUNT, json.dumps(content, indent=1).encode())


def _group(task: tuple[Campaign, int, Path, Path | None]) -> Account:
    """One group by itself."""
    campaign, group, finds, standins = task
    seen = Account(groups=1)
    cases: list[Case] = []
    for number in campaign.numbers(group):
        seen.networks += 1
        try:
            case = draw(campaign.seed, number)
        except Refused as refusal:
            seen.refused[str(refusal)] += 1
            continue
        except Exception as error:
            seen.finds.append(Disagreement(f"network_{number}", "drawing", f"{type(error).__name__}: {error}").plain())
            continue
        seen.features.update(features(case))
        cases.append(case)
    found: list[tuple[Case, Disagreement]] = []
    for case in cases:
        try:
            found += [(case, each) for each in in_python(case)]
        except Exception as error:
            found.append((case, Disagreement(case.name, "evaluation", f"{type(error).__name__}: {error}")))
        seen.compared["graph before and after its passes"] += 1
        seen.compared["torch and graph"] += case.expected is not None
    with tempfile.TemporaryDirectory() as folder:
        by_name = {case.name: case for case in cases}
        for networks, differing in compiled(cases, Path(folder), campaign.ap_every):
            seen.compared.update(networks)
            found += [(by_name[each.case], each) for each in differing]
    for case in cases:
        found += [(case, each) for each in _benched(case, campaign.bench_every, standins, seen)]
    for case, disagreement in found:
        seen.finds.append(disagreement.plain())
        content = {**case.dumped(), "disagreement": disagreement.plain(), "campaign": asdict(campaign)}
        write_bytes(finds / f"seed_{campaign.seed}_{case.name}.json", json.dumps(content).encode())
    return seen


def _benched(case: Case, every: int, standins: Path | None, seen: Account) -> Iterator[Disagreement]:
    """What the bench of a project says, for about one case in ``every``."""
    if case.salt is None:
        return
    rng = np.random.default_rng(case.salt)
    if rng.random() * every >= 1:
        return
    backend = TARGETS[rng.integers(len(TARGETS))]
    what = f"the bench of {backend.name}"
    try:
        project, options = drawn_project(rng, case.graph, backend, case.io, tmr=case.tmr, vectors=case.values)
        with tempfile.TemporaryDirectory() as folder:
            bench(project, Path(folder) / case.name, standins)
    except NotHere as missing:
        seen.skipped[f"{what}, {missing}"] += 1
    except BackendError:
        seen.refused[what] += 1
    except Exception as error:
        refusal = next((words for words in _REFUSALS if words in str(error)), None)
        if isinstance(error, GraphError) and refusal:
            seen.refused[f"{what}, {refusal}"] += 1
        else:
            kind = "" if isinstance(error, BenchError) else f"{type(error).__name__}: "
            yield Disagreement(case.name, what, f"{kind}{error}")
    else:
        seen.compared[what] += 1
        seen.features.update(f"{backend.name}: {option}" for option in options)
