"""The command: one small complete run, then everything that can be asked of it and everything that is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compress.checkpoint import load_model, read_checkpoint
from recipes import hardware
from recipes.pipeline import load_compressed, load_splits
from recipes.result import RESULT_FILE, ResultError, read_result
from recipes.run import main

SMALL = [
    *("--set", "baseline.epochs=2", "--set", "pruning.training.epochs=2", "--set", "hardware.samples=300"),
    *("--set", "network.hidden=8", "--set", "network.batch_norm=true"),
]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["run", "digits", "--out", str(out), *SMALL]) == 0
    return out


@pytest.fixture
def copy(digits: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits, tmp_path / "digits"))


def test_the_result_accounts_for_every_network(digits: Path) -> None:
    result = read_result(digits)
    assert [network.name for network in result.networks] == ["float", "qat", "qap 0.5", "qap 0.8"]
    assert [network.sparsity for network in result.networks] == [0.0, 0.0, 296 / 592, 474 / 592]
    for network in result.networks:
        assert (digits / network.checkpoint).is_file()
        assert {name: layer.weights for name, layer in network.layers.items()} == {"fc1": 512, "fc2": 80}
        assert all(layer.pruned <= layer.zeros <= layer.weights for layer in network.layers.values())
        assert network.metrics.samples == result.data.test
        assert network.bops == pytest.approx(sum(layer.bops for layer in network.layers.values()))
        assert network.bops_reduction == pytest.approx(result.networks[0].bops / network.bops)
    assert result.deployed.name == "qap 0.8"
    assert set(result.versions) == {"python", "qapsule", "torch", "brevitas", "numpy", "scikit-learn"}


def test_the_hardware_is_proved_on_every_sample(digits: Path) -> None:
    proof = read_result(digits).hardware.proof
    assert proof.holds and proof.distinct_outputs > 200 and proof.mutation_mismatches > 0
    firsts = [(pair.first, pair.second) for pair in proof.agreements[:3]]
    assert firsts[0] == ("graph", "trained network, float64")
    assert firsts[1][1].startswith("before each of ") and firsts[2][1] == "C++ with qapsule::fixed"
    assert all((pair.samples, pair.mismatches) == (300, 0) for pair in proof.agreements)
    assert len(proof.agreements) + len(proof.not_compared) == 5


def test_the_compressed_network_carries_its_standardisation(digits: Path) -> None:
    result = read_result(digits)
    content = read_checkpoint(digits / result.compressed, "model")
    assert content["about"] == {"mean": list(result.data.mean), "std": list(result.data.std)}
    network = load_compressed(digits, result)
    level = load_compressed(digits, result)
    load_model(digits / result.deployed.checkpoint, level)
    x = torch.rand(50, 64)
    assert torch.equal(network(x), level.eval()(x))


def test_a_resumed_run_ends_the_same(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (copy / RESULT_FILE).read_bytes()
    (copy / RESULT_FILE).unlink()
    (copy / "compressed.pt").unlink()
    shutil.rmtree(copy / "qap" / "level_02")
    assert main(["run", "digits", "--out", str(copy), "--resume", *SMALL]) == 0
    assert (copy / RESULT_FILE).read_bytes() == before
    printed = capsys.readouterr().out
    assert "qap 0.8 *" in printed and str(copy / RESULT_FILE) in printed


def test_check_passes_on_what_was_trained(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(digits), "--samples", "2000"]) == 0
    assert "graph = trained network, float64" in capsys.readouterr().out


def test_check_catches_one_changed_weight(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutation control: what is compared with the trained network differs from it in one weight by one step."""
    lower = hardware.lower

    def mutated(network: torch.nn.Module, *arguments: object, **options: object) -> object:
        weight = network.get_parameter("fc1.parametrizations.weight.original")
        kept = weight.detach().abs().argmax()
        before = weight.detach().clone()
        with torch.no_grad():
            weight.view(-1)[kept] *= 0.9
        try:
            return lower(network, *arguments, **options)  # type: ignore[arg-type]
        finally:
            with torch.no_grad():
                weight.copy_(before)

    monkeypatch.setattr(hardware, "lower", mutated)
    assert main(["check", str(digits), "--samples", "500"]) == 1


def test_made_up_samples_follow_the_real_ones(digits: Path) -> None:
    _, splits = load_splits(read_result(digits).recipe)
    x = hardware.probes(splits, 3000)
    assert x.shape == (3000, 64) and (x[: len(splits.test.y)] == splits.test.x).all()
    assert x[:1797].max() == 1.0 and x[1797:].max() == 4.0
    assert hardware.probes(splits, 7).shape == (7, 64)


def test_a_control_that_is_not_caught_proves_nothing(digits: Path) -> None:
    proof = read_result(digits).hardware.proof
    assert not replace(proof, mutation_mismatches=0).holds
    broken = replace(proof.agreements[-1], mismatches=1)
    assert not replace(proof, agreements=(*proof.agreements[:-1], broken)).holds


def test_export_writes_a_project_of_its_own(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "build"
    assert main(["export", str(digits), "--out", str(out), "--backend", "vitis", "--reuse-factor", "8"]) == 0
    assert (out / "build.tcl").is_file() and any(out.rglob("*.cpp"))
    assert main(["export", str(digits), "--out", str(out), "--reuse-factor", "4"]) == 2
    assert main(["export", str(digits), "--out", str(out), "--io", "stream", "--overwrite"]) == 0
    assert "QAPSULE_DATAFLOW" in (out / "firmware" / "digits.cpp").read_text()
    given = ["--strategy", "dense", "--tmr", "--weights", "reloadable", "--overwrite"]
    assert main(["export", str(digits), "--out", str(out), *given]) == 0
    firmware = (out / "firmware" / "digits.cpp").read_text()
    assert "sparse_dense" not in firmware and "qapsule::vote(" in firmware and "bool load" in firmware


def test_estimate_says_what_the_network_takes(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(digits), "--clock-ns", "4", "--part", "xc7z020clg400-1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("digits at 4 ns on xc7z020clg400-1\nlatency ")
    assert main(["estimate", str(digits), "--interval", "4"]) == 0
    assert "reuse_factor={" in capsys.readouterr().out
    assert main(["estimate", str(digits), "--multipliers", "1"]) == 2
    assert "takes so few multipliers; the least possible is" in capsys.readouterr().err


def test_export_takes_the_options_of_any_backend(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card, device = tmp_path / "card", tmp_path / "device"
    given = ["--set", "batch=64", "--set", "banks=DDR[0],DDR[1]", "--set", "compute_units=2"]
    assert main(["export", str(digits), "--out", str(card), "--backend", "vitis_accel", *given]) == 0
    assert "static const int batch = 64;" in (card / "host" / "vectors.h").read_text()
    assert "sp=digits_kernel_2.fc2_out:DDR[1]" in (card / "connectivity.cfg").read_text()
    assert "set part xcu250-figd2104-2L-e" in (card / "kernel.tcl").read_text()  # not the recipe's, of no card
    given = ["--set", "interface=stream", "--part", "CycloneV", "--clock-ns", "8"]
    assert main(["export", str(digits), "--out", str(device), "--backend", "intel", *given]) == 0
    assert "DEVICE ?= CycloneV\nCLOCK ?= 125MHz\n" in (device / "Makefile").read_text()
    assert "ihc::stream_in<digits_inputs>" in (device / "component" / "digits_component.h").read_text()
    capsys.readouterr()
    for setting, message in (
        ("batch=many", "--set batch=many: a whole number is needed"),
        ("bach=64", "--set bach: there is no bach; did you mean batch?"),
        ("batch", "--set batch: write key=value"),
        ("batch=0", "batch is a whole number from 1 to 16777216; got 0"),
        ("vectors=1", "--set vectors: the test bench gets the run's own test samples"),
    ):
        asked = ["export", str(digits), "--out", str(tmp_path / "no"), "--backend", "vitis_accel", "--set", setting]
        assert main(asked) == 2 and message in capsys.readouterr().err
    asked = ["export", str(digits), "--out", str(tmp_path / "no"), "--backend", "emulator", "--part", "CycloneV"]
    assert main(asked) == 2 and "the backend emulator has no option 'part'" in capsys.readouterr().err


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["jet", "mnist", "digits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "jet", "--data", "nowhere.npz"], "nowhere.npz: no such file or folder; give sim, openml, or the path"),
        (["run", "jet", "--set", "spec.bits=4"], "--set spec.bits: there is no bits; "),
        (["run", "digits", "--seed", "-1"], "seed must be a whole number of at least 0, got -1"),
        (["export", "RUN", "--out", "OUT", "--backend", "vitus"], "vitus"),
        (["export", "RUN", "--out", "OUT", "--part", "spartan"], "'spartan' is not the name of a Xilinx part"),
        (["export", "RUN", "--out", "OUT", "--reuse-factor", "7"], "7"),
        (["check", "RUN", "--samples", "0"], "samples=0: at least one is needed to compare anything"),
        (["check", "OUT"], "result.json: there is no finished run here; make one with qapsule run, or end it"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], message: str, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"RUN": str(digits), "OUT": str(tmp_path / "out")}
    given = [places.get(argument, argument) for argument in arguments]
    if given[0] == "run":
        given += ["--out", str(tmp_path / "out")]
    assert main(given) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("qapsule: ") and printed.err.count("\n") == 1
    assert message in printed.err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_holds_something_is_never_touched(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (copy / RESULT_FILE).read_bytes()
    assert main(["run", "digits", "--out", str(copy), *SMALL]) == 2
    assert "holds a finished run; add --resume to go on with it, or choose another --out" in capsys.readouterr().err
    assert main(["run", "digits", "--out", str(copy), "--resume"]) == 2
    assert "made with network.hidden = [8], this call asks for [32]" in capsys.readouterr().err
    assert (copy / RESULT_FILE).read_bytes() == before

    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.tex").write_text("precious")
    for resume in ([], ["--resume"]):
        assert main(["run", "digits", "--out", str(other), *resume]) == 2
        assert "holds something that is no run; choose another --out or move it away" in capsys.readouterr().err
    assert [path.name for path in other.iterdir()] == ["chapter1.tex"]


def test_a_traceback_is_shown_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ResultError):
        main(["--traceback", "check", str(tmp_path)])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda plain: plain | {"schema": 99}, "schema 99, this version reads 1; use the version that wrote it"),
        (lambda plain: plain | {"sead": 1}, "there is no sead; did you mean seed?"),
        (lambda plain: {k: v for k, v in plain.items() if k != "logs"}, "it lacks logs"),
        (lambda plain: plain | {"seed": "0"}, ".seed: '0' where a whole number is needed"),
        (
            lambda plain: plain | {"hardware": plain["hardware"] | {"network": "qap 0.7"}},
            "hardware.network is 'qap 0.7', the",
        ),
    ],
)
def test_a_result_that_breaks_the_schema_is_refused(copy: Path, damage: object, message: str) -> None:
    path = copy / RESULT_FILE
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))  # type: ignore[operator]
    with pytest.raises(ValueError) as caught:
        read_result(copy)
    assert message in str(caught.value)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ResultError, match="no complete JSON"):
        read_result(copy)
