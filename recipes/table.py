"""What a run prints at its end."""

from __future__ import annotations

from pathlib import Path

from compress.columns import columns
from recipes.result import RESULT_FILE, NetworkAccount, Proof, Result


def run_table(result: Result, folder: Path) -> str:
    """The networks that matter, the proof for the deployed one, and where everything lies."""
    deployed = result.deployed
    shown = [
        network
        for network in result.networks
        if not network.pruned_fraction or network.pruned_fraction >= deployed.pruned_fraction
    ]
    head = (
        "network",
        "accuracy",
        "macro AUC",
        *(f"AUC {name}" for name in result.data.classes),
        "pruned",
        "BOPs",
        "less",
    )
    rows = [_row(network, network is deployed) for network in shown]
    hardware = result.hardware
    paths = {
        "result": RESULT_FILE,
        "compressed network": result.compressed,
        "hardware project": hardware.project,
        "TensorBoard logs": result.logs,
    }
    width = max(map(len, paths))
    return "\n".join(
        [
            f"{result.recipe.name}: {result.data.test} test samples of {result.data.source}, seed {result.seed}",
            "",
            *columns([head, *rows]),
            "",
            f"* in hardware ({hardware.backend})",
            *proof_lines(hardware.proof),
            "",
            *(f"{what.ljust(width)}  {folder / path}" for what, path in paths.items()),
        ]
    )


def proof_lines(proof: Proof) -> list[str]:
    """What was compared, what could not be, what was proved, and how much a comparison of these samples can see."""
    head = ("compared bit for bit", "samples", "mismatches")
    rows = [(f"{pair.first} = {pair.second}", f"{pair.samples:,}", f"{pair.mismatches:,}") for pair in proof.agreements]
    return [
        *columns([head, *rows]),
        *(f"not compared: {what}" for what in proof.not_compared),
        *proof.notes,
        f"different outputs among the samples: {proof.distinct_outputs:,}",
        f"control, {proof.mutation} flipped: {proof.mutation_mismatches:,} mismatches",
    ]


def _row(network: NetworkAccount, deployed: bool) -> tuple[str, ...]:
    metrics = network.metrics
    return (
        f"{network.name} *" if deployed else network.name,
        f"{metrics.accuracy:.4f}",
        f"{metrics.macro_auc:.4f}",
        *(f"{area:.3f}" for area in metrics.class_auc.values()),
        f"{network.sparsity:.1%}",
        f"{network.bops:,.0f}",
        f"{network.bops_reduction:.1f}x",
    )
