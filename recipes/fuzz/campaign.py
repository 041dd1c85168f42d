"""A campaign: as many random networks as asked for, in groups that are compiled together; stopped and resumed at will.

    account = fuzz(Campaign(networks=10_000), Path("runs/fuzz"))

Every group is drawn from the seed and its numbers alone, so that a resumed campaign ends as an uninterrupted one. What
it finds lies in ``finds/``: a network with its samples, to be compared again with :func:`replay`, and to be put among
those that the tests run.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from compress.checkpoint import write_bytes
from export.backend import Backend
from export.backends.emulator import EMULATOR, EMULATOR_AC, EMULATOR_AP
from export.emulation.vendor_headers import ac_include, ap_include
from export.streams.access import Io
from recipes.fuzz.batch import Batch, CompilationError
from recipes.fuzz.case import Case, Disagreement, Refused, draw, in_python, traces_differ
from recipes.fuzz.coverage import features

ACCOUNT, FINDS = "campaign.json", "finds"


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """``together`` networks make a group; of each, one in ``ap_every`` is compiled with Xilinx's slow headers too."""

    networks: int
    seed: int = 0
    together: int = 20
    ap_every: int = 4

    def __post_init__(self) -> None:
        for name in ("networks", "together", "ap_every"):
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
    finds: list[dict[str, str]] = field(default_factory=list)

    def add(self, other: Account) -> None:
        self.groups += other.groups
        self.networks += other.networks
        for mine, theirs in ((self.refused, other.refused), (self.features, other.features)):
            mine.update(theirs)
        self.compared.update(other.compared)
        self.finds += other.finds

    def plain(self) -> dict[str, Any]:
        counted = {name: dict(sorted(getattr(self, name).items())) for name in ("refused", "features", "compared")}
        return {"groups": self.groups, "networks": self.networks, **counted, "finds": self.finds}

    @classmethod
    def read(cls, content: dict[str, Any]) -> Account:
        counted = {name: Counter(content[name]) for name in ("refused", "features", "compared")}
        return cls(groups=content["groups"], networks=content["networks"], finds=list(content["finds"]), **counted)


def fuzz(
    campaign: Campaign, out: Path, *, resume: bool = False, workers: int | None = None, progress: bool = True
) -> Account:
    """Run it, or what is left of it. Raises ``ValueError`` where ``out`` holds another, or one not to be resumed."""
    account = _begun(campaign, out, resume)
    left = range(account.groups, campaign.groups)
    context = multiprocessing.get_context("spawn")
    bar = tqdm(total=campaign.networks, initial=account.networks, desc="fuzz", unit="net", disable=not progress)
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=context) as pool, bar:
        for seen in pool.map(_group, [(campaign, group, out / FINDS) for group in left]):
            account.add(seen)
            _write(campaign, account, out)
            bar.update(seen.networks)
            bar.set_postfix(finds=len(account.finds))
    return account


def replay(files: Sequence[Path]) -> list[Disagreement]:
    """Compare finds again, in everything but torch. An empty list: all that was found is mended."""
    cases = [Case.loaded(json.loads(file.read_text())) for file in files]
    found: list[Disagreement] = []
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            found += in_python(case)
            for _, differing in compiled([case], Path(folder), ap_every=1):
                found += differing
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


def _group(task: tuple[Campaign, int, Path]) -> Account:
    """One group by itself."""
    campaign, group, finds = task
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
    for case, disagreement in found:
        seen.finds.append(disagreement.plain())
        content = {**case.dumped(), "disagreement": disagreement.plain(), "campaign": asdict(campaign)}
        write_bytes(finds / f"seed_{campaign.seed}_{case.name}.json", json.dumps(content).encode())
    return seen


def compiled(cases: list[Case], folder: Path, ap_every: int) -> Iterator[tuple[dict[str, int], list[Disagreement]]]:
    """What differs between graphs and the C++ of each number type, and how many were compared."""
    designs: list[tuple[Backend, list[Case], Path | None, str]] = [(EMULATOR, cases, None, "graph and own C++")]
    if (ac := ac_include()) is not None:
        designs.append((EMULATOR_AC, cases, ac, "graph and C++ with ac_fixed"))
    if (ap := ap_include()) is not None:
        designs.append((EMULATOR_AP, cases[::ap_every], ap, "graph and C++ with ap_fixed"))
    for backend, some, include, between in designs:
        for io in Io:
            group = [case for case in some if case.io is io]
            if group:
                what, place = f"{between}, {io.value}", folder / backend.name / io.value
                yield {what: len(group)}, list(_differing(group, backend, io, place, include, what))


def _differing(
    cases: list[Case], backend: Backend, io: Io, folder: Path, include: Path | None, between: str
) -> Iterator[Disagreement]:
    try:
        batch = Batch([case.graph for case in cases], backend, folder, include, io)
    except CompilationError as error:
        if len(cases) == 1:
            yield Disagreement(cases[0].name, between, f"does not compile: {str(error)[:2000]}")
            return
        for number, case in enumerate(cases):  # find out which
            yield from _differing([case], backend, io, folder / str(number), include, between)
        return
    for case in cases:
        yield from traces_differ(case, between, batch.trace(case.graph.name, case.values))
