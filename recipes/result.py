"""``result.json``: what a run found, as one documented, versioned value.

The file is the JSON form of :class:`Result`; this module is its schema. Paths are relative to the run's folder.
A file that lacks a field, has one too many or one of another type is refused with its name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from compress.checkpoint import write_bytes
from recipes.metrics import Metrics
from recipes.plain import from_plain, to_plain
from recipes.recipe import Recipe

#: Raised by one whenever a reader of the earlier form would misread the new one.
SCHEMA = 1
RESULT_FILE = "result.json"


class ResultError(ValueError):
    """A result that is absent, damaged or of another schema."""


@dataclass(frozen=True, kw_only=True)
class DataAccount:
    """The samples that were used, and the standardisation that is part of every network of the run."""

    source: str
    digest: str  # sha256 over samples, labels, groups and names
    train: int  # samples in each part
    validation: int
    test: int
    features: tuple[str, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]  # the networks see (x - mean) / std, fitted on the training part
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LayerAccount:
    """The weights of one dense layer."""

    weights: int  # the original number
    pruned: int  # of these under the mask
    zeros: int  # of these zero in hardware: pruned, or quantized to zero
    bops: float


@dataclass(frozen=True, kw_only=True)
class NetworkAccount:
    """One trained network and how it does on the test part."""

    name: str  # "float", "qat", or "qap" with the fraction: "qap 0.8"
    pruned_fraction: float  # asked for, of all dense weights
    metrics: Metrics
    layers: dict[str, LayerAccount]  # by name, in order
    sparsity: float  # share of pruned weights among the original ones
    input_width: int  # bits of what enters the network, as BOPs count them
    bops: float  # bit operations of one inference (compress.bops); pruned weights cost none, those rounded to zero do
    bops_reduction: float  # those of the same network at 32 bits, inputs too, and unpruned, over ``bops``
    checkpoint: str


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two descriptions of the deployed network, compared bit for bit."""

    first: str
    second: str
    samples: int
    mismatches: int  # numbers that differ, over all tensors that were compared


@dataclass(frozen=True, kw_only=True)
class Proof:
    """All that was compared."""

    agreements: tuple[Agreement, ...]
    distinct_outputs: int  # different output vectors among the samples: few would prove little
    not_compared: tuple[str, ...]  # what this machine lacks for further comparisons
    notes: tuple[str, ...]  # how float scales and batch norms became integers, what was proved, what was left out
    mutation: str  # the control: which bit of which weight was flipped on one side
    mutation_mismatches: int  # numbers that differ then; none would mean that the comparison sees nothing

    @property
    def holds(self) -> bool:
        return self.mutation_mismatches > 0 and not any(agreement.mismatches for agreement in self.agreements)


@dataclass(frozen=True, kw_only=True)
class HardwareAccount:
    """The network that went to hardware, and the proof that it is the trained one."""

    network: str  # the ``name`` of its account
    backend: str
    project: str
    proof: Proof


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished run."""

    schema: int
    recipe: Recipe
    seed: int
    versions: dict[str, str]  # of Python and every package that decides a number
    data: DataAccount
    networks: tuple[NetworkAccount, ...]  # float, qat, then one per level of pruning
    hardware: HardwareAccount
    compressed: str  # checkpoint of the deployed network, with its standardisation
    logs: str  # the folder for ``tensorboard --logdir``

    def __post_init__(self) -> None:
        names = [network.name for network in self.networks]
        if self.hardware.network not in names:
            raise ResultError(f"hardware.network is {self.hardware.network!r}, the networks are {', '.join(names)}")

    @property
    def deployed(self) -> NetworkAccount:
        return next(network for network in self.networks if network.name == self.hardware.network)


def write_result(folder: Path, result: Result) -> Path:
    """Write ``folder/result.json``, whole or not at all; returns its path."""
    path = folder / RESULT_FILE
    write_bytes(path, (json.dumps(to_plain(result), indent=2, allow_nan=False) + "\n").encode())
    return path


def read_result(folder: Path) -> Result:
    """The result of the run in ``folder``. Raises :class:`ResultError` or ``PlainError``, naming the file."""
    path = folder / RESULT_FILE
    if not path.is_file():
        raise ResultError(f"{path}: there is no finished run here; make one with qapsule run, or end it with --resume")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultError(f"{path}: no complete JSON ({error}); run again with --resume to rewrite it") from error
    schema = plain.get("schema") if isinstance(plain, dict) else None
    if schema != SCHEMA:
        raise ResultError(f"{path}: schema {schema}, this version reads {SCHEMA}; use the version that wrote it")
    return from_plain(Result, plain, str(path))
