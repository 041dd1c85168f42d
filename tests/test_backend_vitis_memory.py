"""Where weights lie on an FPGA: the memories that a user names, per layer or for all, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benches import bench
from designs import conv_net, mlp

from export.backend import Backend, BackendError
from export.backends.intel import INTEL
from export.backends.settings import Memory
from export.backends.vitis import VITIS
from export.backends.vitis_accel import VITIS_ACCEL

both = pytest.mark.parametrize("backend", [VITIS, VITIS_ACCEL], ids=lambda backend: backend.name)


def placed(files: dict[str, str]) -> list[str]:
    """What is said of tables that lie in memories."""
    (source,) = (text for path, text in files.items() if re.fullmatch(r"firmware/\w+\.cpp", path))
    return re.findall(r"QAPSULE_STORAGE\((.*)\)", source)


@both
@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_one_memory_for_all_is_that_of_every_layer_that_shares_multipliers(backend: Backend, io: str) -> None:
    graph = mlp("net", (4, 3, 3, 2), reuse_factors=(2, 1, 3))
    for memory in ("bram", "lutram", Memory.BRAM):
        name = Memory(memory).name
        files = backend.render(graph, io=io, weight_memory=memory).files
        assert placed(files) == [f"fc1_weight, ROM_1P, {name}", f"fc3_weight, ROM_1P, {name}"]
    plain = backend.render(graph, io=io).files
    assert placed(plain) == [] and plain == backend.render(graph, io=io, weight_memory="auto").files


@both
def test_it_may_be_another_for_each_layer(backend: Backend, tmp_path: Path) -> None:
    graph = mlp("net", (4, 3, 3, 2), reuse_factors=(2, 3, 3))
    project = backend.render(graph, weight_memory={"fc3": "lutram", "fc1": "bram", "fc2": "auto"})
    assert placed(project.files) == ["fc1_weight, ROM_1P, BRAM", "fc3_weight, ROM_1P, LUTRAM"]
    done = bench(project, tmp_path / "net")
    assert done.returncode == 0 and "PASSED" in done.stdout, done.stdout


@pytest.mark.parametrize("io", ["parallel", "stream"])
def test_convolutions_and_what_is_loaded_lie_there_too(io: str) -> None:
    graph = conv_net(reuse_factors=(2, 4))
    assert "conv1_weight, ROM_1P, BRAM" in placed(VITIS.render(graph, io=io, weight_memory="bram").files)
    loaded = placed(VITIS.render(graph, io=io, weight_memory="bram", weights="reloadable").files)
    assert "conv1_weight, RAM_1P, BRAM" in loaded and not any("ROM" in each for each in loaded)


def test_three_copies_are_registers() -> None:
    graph = mlp("net", (4, 3, 2), reuse_factors=(2, 3))
    assert placed(VITIS.render(graph, weight_memory="bram", tmr=["fc1"]).files) == ["fc2_weight, ROM_1P, BRAM"]


@both
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fc2": "bram"}, "weight_memory of 'fc2': it reads all of its weights at once, which are wires; give it a "
         "reuse_factor above 1, or leave it out"),
        ({"fc2": "auto"}, "weight_memory of 'fc2': it reads all of its weights at once, which are wires; give it a "
         "reuse_factor above 1, or leave it out"),
        ({"fc4": "bram"}, "weight_memory of 'fc4': there is no layer of this name that reads weights from a memory; "
         "those are 'fc1', 'fc3'"),
        ({"act1": "bram"}, "weight_memory of 'act1': there is no layer of this name that reads weights from a memory; "
         "those are 'fc1', 'fc3'"),
        ({"fc3": "bram"}, "weight_memory of 'fc3': its weights are three copies in registers; leave it out of "
         "weight_memory, or out of tmr"),
        ("uram", "weight_memory is one of 'auto', 'lutram', 'bram'; got 'uram' (ultra RAM powers up empty)"),
        ({"fc1": "rom"}, "weight_memory of 'fc1' is one of 'auto', 'lutram', 'bram'; got 'rom'"),
        (3, "weight_memory is one of 'auto', 'lutram', 'bram'; got 3"),
    ],
)  # fmt: skip
def test_what_is_no_memory_is_refused_by_name(backend: Backend, given: object, message: str) -> None:
    graph = mlp("net", (4, 3, 3, 2), reuse_factors=(2, 1, 3))
    tmr = ["fc3"] if "copies" in message else False
    with pytest.raises(BackendError, match=f"^{re.escape(message)}$"):
        backend.render(graph, weight_memory=given, tmr=tmr)


def test_intel_has_no_such_option() -> None:
    with pytest.raises(BackendError, match="the backend intel has no option 'weight_memory'; it knows part"):
        INTEL.render(mlp("net", (2, 2)), weight_memory="bram")
