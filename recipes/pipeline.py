"""A run from data to hardware: the float baseline, quantization-aware pruning, figures, and the proof.

    runs/jet/
      recipe.json    what the folder is for, written first
      float/         the float baseline: last.pt to resume from, model.pt
      qap/level_00/  quantized and unpruned (QAT), then one folder for every pruned fraction
      compressed.pt  the network that goes to hardware, with its standardisation
      hls/           its hardware project
      logs/          for TensorBoard
      result.json    written last: a run that has it is done

Every stage finds out by itself whether it was done before, so a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from compress.bops import bops
from compress.checkpoint import check_same, describe, load_model, save_model, write_bytes
from compress.lottery import Level
from compress.train import Data, threads, train
from recipes.data.dataset import Dataset, Part, Splits, split
from recipes.hardware import prove, write_project
from recipes.metrics import evaluate
from recipes.network import float_network, quantized_network
from recipes.recipe import Recipe
from recipes.result import (
    RESULT_FILE,
    SCHEMA,
    DataAccount,
    HardwareAccount,
    LayerAccount,
    NetworkAccount,
    Result,
    write_result,
)

RECIPE_FILE = "recipe.json"
COMPRESSED_FILE = "compressed.pt"
PROJECT_FOLDER = "hls"
#: Bits of every number in the network that reductions of BOPs are stated against.
REFERENCE_WIDTH = 32


def run(recipe: Recipe, out: Path, *, resume: bool = False, progress: bool = True) -> Result:
    """Everything the recipe says, into the folder ``out``; with ``resume`` from where an earlier call was stopped.

    Raises ``ValueError`` for an ``out`` that holds anything else, unusable data, and whatever the stages refuse.
    """
    check_free(out, recipe, resume)
    data, splits = load_splits(recipe)
    # Only now: a run that cannot have its data leaves no folder behind.
    write_bytes(out / RECIPE_FILE, (json.dumps(describe(recipe), indent=2) + "\n").encode())
    train_data, validation_data = tensors(splits.train), tensors(splits.validation)
    inputs, outputs = len(data.features), len(data.classes)
    logs = out / "logs"

    baseline = float_network(recipe.network, inputs, outputs, recipe.baseline.seed)
    train(
        baseline,
        train_data,
        validation_data,
        recipe.baseline,
        out=out / "float",
        resume=True,
        log_dir=logs / "float",
        progress=progress,
        label="float",
    )
    save_model(out / "float" / "model.pt", baseline)
    reference = bops(baseline, input_width=REFERENCE_WIDTH).total

    network = quantized_network(recipe, inputs, outputs)
    levels = recipe.pruning.run(
        network, train_data, validation_data, out=out / "qap", resume=True, log_dir=logs / "qap", progress=progress
    )

    with threads(recipe.baseline.threads):
        accounts = [_account("float", baseline, 0.0, splits.test, data, reference, "float/model.pt")]
        for level in levels:
            load_model(level.folder / "model.pt", network)
            checkpoint = str((level.folder / "model.pt").relative_to(out))
            accounts.append(_account(_name(level), network, level.fraction, splits.test, data, reference, checkpoint))

    chosen = next(level for level in levels if level.fraction == recipe.deploy)
    load_model(chosen.folder / "model.pt", network)
    scale = splits.standardisation
    save_model(out / COMPRESSED_FILE, network, {"mean": list(scale.mean), "std": list(scale.std)})
    write_project(network, splits, recipe.hardware, out / PROJECT_FOLDER, name=recipe.name, overwrite=True)
    proof = prove(network, splits, recipe.hardware, recipe.hardware.samples, name=recipe.name)

    result = Result(
        schema=SCHEMA,
        recipe=recipe,
        seed=recipe.baseline.seed,
        versions=_versions(),
        data=DataAccount(
            source=data.source,
            digest=data.digest,
            train=len(splits.train.y),
            validation=len(splits.validation.y),
            test=len(splits.test.y),
            features=data.features,
            classes=data.classes,
            mean=scale.mean,
            std=scale.std,
        ),
        networks=tuple(accounts),
        hardware=HardwareAccount(
            network=_name(chosen), backend=recipe.hardware.backend, project=PROJECT_FOLDER, proof=proof
        ),
        compressed=COMPRESSED_FILE,
        logs=logs.name,
    )
    write_result(out, result)
    return result


def check_free(out: Path, recipe: Recipe, resume: bool) -> None:
    """Raises ``ValueError`` unless ``out`` is absent, empty or, with ``resume``, the folder of a run of this recipe."""
    file = out / RECIPE_FILE
    if file.exists():
        if not resume:
            state = "finished" if (out / RESULT_FILE).exists() else "unfinished"
            raise ValueError(f"{out}: holds a {state} run; add --resume to go on with it, or choose another --out")
        check_same(out, json.loads(file.read_text(encoding="utf-8")), describe(recipe))
    elif out.exists() and (not out.is_dir() or any(entry.name != f".{RECIPE_FILE}.tmp" for entry in out.iterdir())):
        raise ValueError(f"{out}: holds something that is no run; choose another --out or move it away")


def load_splits(recipe: Recipe) -> tuple[Dataset, Splits]:
    """The recipe's data, whole and split."""
    config = recipe.data
    data = config.kind.load(config.source)
    return data, split(
        data, validation=config.validation, test=config.test, scaling=config.scaling, seed=config.split_seed
    )


def load_compressed(folder: Path, result: Result) -> nn.Module:
    """The network of a finished run that goes to hardware, in eval mode."""
    network = quantized_network(result.recipe, len(result.data.features), len(result.data.classes))
    load_model(folder / result.compressed, network)
    return network.eval()


def tensors(part: Part) -> Data:
    return torch.from_numpy(part.x), torch.from_numpy(part.y)


def _name(level: Level) -> str:
    return f"qap {level.fraction:g}" if level.level else "qat"


def _account(
    name: str, network: nn.Module, fraction: float, test: Part, data: Dataset, reference: float, checkpoint: str
) -> NetworkAccount:
    report = bops(network, input_width=REFERENCE_WIDTH) if name == "float" else bops(network)
    layers = {
        layer.name: LayerAccount(
            weights=(weights := layer.inputs * layer.outputs),
            pruned=round(layer.masked * weights),
            zeros=round((layer.masked + layer.rounded) * weights),
            bops=layer.bops,
        )
        for layer in report.layers
    }
    return NetworkAccount(
        name=name,
        pruned_fraction=fraction,
        metrics=evaluate(network, test, data.classes),
        layers=layers,
        sparsity=sum(layer.pruned for layer in layers.values()) / sum(layer.weights for layer in layers.values()),
        input_width=report.input_width,
        bops=report.total,
        bops_reduction=reference / report.total,
        checkpoint=checkpoint,
    )


def _versions() -> dict[str, str]:
    """Of Python and every package that decides a number."""
    found = {"python": platform.python_version()}
    for package in ("qapsule", "torch", "brevitas", "numpy", "scikit-learn"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"  # qapsule itself, run from a checkout
    return found
