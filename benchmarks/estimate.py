"""How far ``export.costs.estimate`` is from modules that Vivado HLS and Vitis HLS really synthesized.

    python benchmarks/estimate.py FOLDER [--out benchmarks/results/estimate.json]

FOLDER holds vendor_synthesis.csv: one row per module, with statistics of its integer weights and what the reports say.
The rules and constants of export/costs are put to these statistics, nothing is fitted here. Rows of FITTED are those
that the constants were chosen on, the others were kept apart; rows of one repository share weights and are no
independent samples. An error is |estimate / reported - 1| unless it says otherwise.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, median
from typing import Any

from provenance import RESULTS, provenance, write

from compress.fixed import FixedPoint, Overflow, Rounding
from export.costs import Target, estimate_op
from export.costs.basis import adder_lut, block_rams, levels, pipeline_ff
from export.costs.estimate import SYNTHESIZED_LUT
from export.costs.multipliers import dsp_blocks, lut_of_multiplier
from export.ir import Tensor
from export.ops import Cast, MaxPool, Modes, ReLU
from export.ops.windows import Sliding, Window
from export.streams.flow import flow
from export.streams.rules import access

FITTED = ("ArgyKokk/hls4ml_MLP_estimator", "astitwlathe/example-hls4ml")
#: hls4ml asks for this, Vivado HLS does so by itself.
_UNCERTAINTY = 0.125
#: hls4ml's names of modules end in the format that they make; the modes are numbered as in ap_fixed.
_FORMATS = re.compile(
    r"relu_.*ap_(?P<unsigned>u?)fixed_(?P<width>\d+)_(?P<integer>\d+)_(?P<rounding>\d)_(?P<overflow>\d)_0_relu_config.*"
)
_ROUNDING = (
    Rounding.RND, Rounding.RND_ZERO, Rounding.RND_MIN_INF, Rounding.RND_INF, Rounding.RND_CONV, Rounding.TRN,
    Rounding.TRN_ZERO,
)  # fmt: skip
_OVERFLOW = (Overflow.SAT, Overflow.SAT_ZERO, Overflow.SAT_SYM, Overflow.WRAP)
#: Beyond this latency the tools' sums are chains, not trees: two layers of 196 and 561 inputs.
_CHAIN = 20


class Row(dict[str, str]):
    """A row of the table."""

    def number(self, column: str) -> float:
        return float(self[column])

    def has(self, *columns: str) -> bool:
        return all(self[column] != "" for column in columns)

    @property
    def fitted(self) -> bool:
        return self["source_repo"] in FITTED

    @property
    def latency(self) -> float:
        """The least where a range is reported; old reports have the most alone."""
        return self.number("lat_min" if self.has("lat_min") else "lat_max")


def read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [Row(row) for row in csv.DictReader(file)]
    return [row for row in rows if "SUSPECT" not in row["notes"] + row["mul_binding"]]


def relative(rows: Iterable[Row], estimated: Callable[[Row], float], reported: str) -> dict[str, Any]:
    """Errors over the rows that report more than nothing, those fitted and those kept apart."""
    known = [row for row in rows if row.has(reported) and row.number(reported) > 0]
    return by_origin([(row, abs(estimated(row) / row.number(reported) - 1)) for row in known])


def by_origin(errors: list[tuple[Row, float]]) -> dict[str, Any]:
    def account(some: list[float]) -> dict[str, Any]:
        return (
            {"rows": len(some), "mean": round(mean(some), 3), "largest": round(max(some), 3)} if some else {"rows": 0}
        )

    repositories = sorted({row["source_repo"] for row, _ in errors})
    return {
        "all": account([error for _, error in errors]),
        "fitted": account([error for row, error in errors if row.fitted]),
        "kept apart": account([error for row, error in errors if not row.fitted]),
        "equal": sum(error == 0 for _, error in errors),
        "repositories": {
            name: account([error for row, error in errors if row["source_repo"] == name]) for name in repositories
        },
    }


def multipliers(rows: list[Row]) -> dict[str, Any]:
    """As many as distinct constants of three digits or more, or as the design allows."""
    known = [row for row in rows if row.has("n_mul_dsp", "n_mul_lut", "multiplier_limit")]

    def error(row: Row) -> float:
        expected = min(row.number("w_distinct_signed_csd_ge3"), row.number("multiplier_limit"))
        return abs(expected - row.number("n_mul_dsp") - row.number("n_mul_lut") - float(row["n_mac_dsp"] or 0))

    return by_origin([(row, error(row)) for row in known])


def sums_and_shifts(row: Row) -> tuple[int, int]:
    """Adders of sums, and of shift-and-adds with their negations."""
    sums = row.number("w_nnz") + row.number("b_nnz") - row.number("w_outputs_used")
    shifts = row.number("w_distinct_signed_csd_2") + row.number("w_distinct_neg_sum2")
    fraction = {name: row.number(f"{name}_W") - row.number(f"{name}_I") for name in ("in", "w", "acc")}
    if fraction["in"] + fraction["w"] > fraction["acc"]:
        shifts += row.number("w_inputs_with_neg_po2")
    return int(sums), int(shifts)


def adders(rows: list[Row]) -> dict[str, Any]:
    return by_origin(
        [
            (row, abs(sum(sums_and_shifts(row)) / total - 1))
            for row in rows
            if row.has("n_add", "n_sub") and (total := row.number("n_add") + row.number("n_sub")) > 0
        ]
    )


def lut(row: Row) -> float:
    """With the multipliers of LUTs as reported where the designers forced them into LUTs, else as estimated."""
    sums, shifts = sums_and_shifts(row)
    widths = int(row.number("in_W")), int(row.number("w_W"))
    base = adder_lut(sums, int(row.number("acc_W")), shifts, sum(widths), int(row.number("w_outputs_used")))
    forced = float(row["lut_mul_lut"] or 0) if row["mul_binding"] else None
    rule = 0.0 if dsp_blocks(*widths) else row.number("w_distinct_signed_csd_ge3") * lut_of_multiplier(*widths)
    return base + (rule if forced is None else forced)


def depth(row: Row) -> int:
    part = "xc7" if row["family"] in ("zynq", "virtex7", "artix7") else "xcvu"
    target = Target(row.number("target_clk_ns"), part, _UNCERTAINTY)
    terms = row.number("w_nnz") / max(1.0, row.number("w_outputs_used")) + 1
    return target.cycles(int(row.number("w_distinct_signed_csd_ge3") > 0), levels(-int(-terms // 1)))


def latency(rows: list[Row]) -> dict[str, Any]:
    """In cycles, not relative."""
    known = [row for row in rows if row.has("lat_max") and row.latency < _CHAIN]
    return by_origin([(row, abs(depth(row) - row.latency)) for row in known])


def composition(rows: list[Row]) -> dict[str, Any]:
    """The latency of a design from those reported of its modules: one cycle more for each."""
    projects: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        projects.setdefault((row["source_repo"], row["project"]), []).append(row)
    errors = []
    for members in projects.values():
        whole = [row for row in members if row["kind"] == "whole_net" and row["io_type"] == "io_parallel"]
        modules = [row for row in members if row["kind"] != "whole_net" and row.has("lat_max")]
        if len(whole) == 1 and whole[0].has("lat_max") and len(modules) > 1:
            estimated = sum(row.latency + 1 for row in modules)
            errors.append((whole[0], abs(estimated / whole[0].latency - 1)))
    return by_origin(errors)


def shared(rows: list[Row]) -> dict[str, Any]:
    """Layers that take their weights from a memory (Resource strategy, R > 1): counts, and cycles beyond R."""
    layers = [
        row
        for row in rows
        if row["kind"] in ("dense_resource", "dense_wrapper")
        and row["strategy"] == "resource"
        and row.has("reuse_factor", "n_in", "n_out", "w_W", "in_W")
        and row["reuse_factor"].isdigit()
        and int(row["reuse_factor"]) > 1
    ]

    def count(row: Row) -> int:
        return -(-int(row["n_in"]) * int(row["n_out"]) // int(row["reuse_factor"]))

    def of(estimated: Callable[[Row], int], reported: str) -> dict[str, Any]:
        known = [row for row in layers if row.has(reported)]
        return by_origin([(row, abs(estimated(row) - row.number(reported))) for row in known])

    return {
        "DSP": of(lambda row: count(row) * dsp_blocks(int(row["in_W"]), int(row["w_W"])), "dsp"),
        "BRAM18": of(lambda row: block_rams(count(row) * int(row["w_W"]), int(row["reuse_factor"])), "bram18"),
        "interval, cycles": of(lambda row: int(row["reuse_factor"]), "ii_min"),
        "latency - R, cycles": sorted(
            {int(row.latency) - int(row["reuse_factor"]) for row in layers if row.has("lat_max")}
        ),
    }


def rectifiers(rows: list[Row]) -> dict[str, Any]:
    """ReLU into a format that is part of the module's name, with rounding and overflow."""
    known = [
        (row, modes)
        for row in rows
        if row["kind"] == "relu" and row["io_type"] == "io_parallel" and row.has("n_in", "in_W", "in_I", "lut")
        and (modes := _FORMATS.fullmatch(row["module"]))
    ]  # fmt: skip
    return by_origin([(row, abs(rectifier_lut(row, modes) / row.number("lut") - 1)) for row, modes in known])


def rectifier_lut(row: Row, made: re.Match[str]) -> int:
    """Of the ops that we would have in its place."""
    x = Tensor("x", (int(row["n_in"]),), FixedPoint.of(int(row["in_W"]), int(row["in_I"])))
    relu = ReLU(Tensor("relu", x.shape, ReLU.positive(x.format)), x)
    y = Tensor("y", x.shape, FixedPoint.of(int(made["width"]), int(made["integer"]), not made["unsigned"]))
    modes = Modes(_ROUNDING[int(made["rounding"])], _OVERFLOW[int(made["overflow"])])
    ops = [relu] if y.format.holds(relu.output.format) else [relu, Cast(y, relu.output, modes)]
    return sum(made.lut for op in ops if (made := estimate_op(op, Target())))


def streamed_windows(rows: list[Row]) -> dict[str, Any]:
    """Cycles that pools over streams take for a sample, not relative; two of them take two cycles for each packet."""
    columns = ("in_h", "in_w", "filt_h", "filt_w", "stride_w", "ii_min")
    known = [row for row in rows if row["kind"] == "pooling2d" and row.has(*columns) and row["ii_min"] == row["ii_max"]]

    def interval(row: Row) -> int:
        stride, fmt = int(row["stride_w"]), FixedPoint(8, 4)
        window = Window(tuple(Sliding(int(row[f"in_{axis}"]), int(row[f"filt_{axis}"]), stride) for axis in "hw"))
        x = Tensor("x", (1, *window.size), fmt)
        op = MaxPool(Tensor("y", (1, *window.positions), fmt), x, window)
        return flow(access(op), op).interval

    return by_origin([(row, abs(row.number("ii_min") - interval(row))) for row in known])


def after_synthesis(rows: list[Row]) -> dict[str, Any]:
    """Vivado's LUTs by the HLS tool's, of whole designs that fit and are not known to share multipliers."""
    whole = [
        row
        for row in rows
        if row["kind"] == "whole_net"
        and row["strategy"] != "resource"
        and row.has("psynth_lut", "lut")
        and "does not fit" not in row["notes"]
    ]
    ratios = [row.number("psynth_lut") / row.number("lut") for row in whole]
    spread = {"least": round(min(ratios), 2), "median": round(median(ratios), 2), "most": round(max(ratios), 2)}
    return {**relative(whole, lambda row: SYNTHESIZED_LUT * row.number("lut"), "psynth_lut"), "ratio": spread}


def main() -> None:
    parser = argparse.ArgumentParser(description="errors of the estimates of hardware")
    parser.add_argument("folder", type=Path, help="of vendor_synthesis.csv")
    parser.add_argument("--out", type=Path, default=RESULTS / "estimate.json")
    given = parser.parse_args()
    rows = read(given.folder / "vendor_synthesis.csv")
    layers = [
        row
        for row in rows
        if row["kind"] in ("dense_latency", "dense_wrapper")
        and row["strategy"] == "latency"
        and row.has("w_distinct_signed_csd_ge3", "in_W", "w_W", "acc_W")
    ]
    parallel = [row for row in layers if row["reuse_factor"] == "1"]
    errors = {
        "multipliers, number": multipliers(layers),
        "adders": adders(layers),
        "LUT, R = 1": relative(parallel, lut, "lut"),
        "FF, R = 1, with the latency as reported": relative(
            [row for row in parallel if row.latency < _CHAIN],
            lambda row: pipeline_ff(int(row["w_nnz"]), int(row["acc_W"]), int(row.latency)),
            "ff",
        ),
        "latency, R = 1, cycles": latency(parallel),
        "LUT of a ReLU and its cast": rectifiers(rows),
        "interval of a streamed pool, cycles": streamed_windows(rows),
        "latency of a design from its modules'": composition(rows),
        "LUT after synthesis from the HLS tool's": after_synthesis(rows),
    }
    of_shared = shared(rows)
    print(f"{'':44}{'rows':>6}{'mean':>8}{'largest':>9}{'apart':>8}{'equal':>7}")
    for name, account in {**errors, **{f"R > 1: {k}": v for k, v in of_shared.items() if isinstance(v, dict)}}.items():
        every, apart = account["all"], account["kept apart"]
        print(
            f"{name:44}{every['rows']:6}{every['mean']:8.3f}{every['largest']:9.3f}"
            f"{apart.get('mean', float('nan')):8.3f}{account['equal']:7}"
        )
    print(f"R > 1: latency - R is {', '.join(map(str, of_shared['latency - R, cycles']))}")
    write(
        given.out,
        {
            "benchmark": "estimate",
            "modules": len(rows),
            "fitted_on": FITTED,
            "parallel": errors,
            "shared": of_shared,
            **provenance("numpy"),
        },
    )


if __name__ == "__main__":
    main()
