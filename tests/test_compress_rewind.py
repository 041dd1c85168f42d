"""A rewind returns everything: parameters, statistics, scales, flags, the optimiser's memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.layers import QuantIdentity, QuantLinear, QuantReLU
from compress.mask import apply_masks, masks_of, plain_parameters, prunable
from compress.prune import Ranking, prune
from compress.rewind import ArchitectureError, Snapshot, model_state, restore_model, rewind, take_snapshot
from compress.spec import QuantSpec


class Counting(nn.Module):
    """Keeps the flag of its calibration the way Brevitas does: as plain numbers beside its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = 0
        self.ready = False

    def forward(self, x: Tensor) -> Tensor:
        self.counter += 1
        self.ready = self.counter > 3
        return x


def net(hidden: int = 8, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    spec = QuantSpec(weight_width=4, activation_width=4, input_width=4)
    return nn.Sequential(
        QuantIdentity(spec=spec),
        QuantLinear(6, hidden, spec=spec),
        nn.BatchNorm1d(hidden),
        QuantReLU(spec=spec),
        Counting(),
        QuantLinear(hidden, 3, spec=spec),
    )


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(list(plain_parameters(model).values()), lr=0.05)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, seed: int = 3) -> None:
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(number):
        optimizer.zero_grad()
        model(torch.randn(16, 6, generator=generator)).square().mean().backward()
        optimizer.step()


def take(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> Snapshot:
    return take_snapshot(step, model, optimizer, {})


def assert_same(left: Any, right: Any) -> None:
    if isinstance(left, Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    else:
        assert left == right


@pytest.mark.parametrize("step", [0, 1, 5])
def test_everything_returns_and_the_future_repeats(step: int) -> None:
    model = net()
    optimizer = adam(model)
    steps(model, optimizer, step)
    snapshot = take(model, optimizer, step)
    witness = copy.deepcopy(snapshot.to_plain())
    steps(model, optimizer, 6, seed=4)
    then = take(model, optimizer, 0).to_plain()
    for name, tensor in then["model"]["tensors"].items():
        # Brevitas keeps constants in buffers outside the state dict; a calibration moves once, in the first step
        if name in model.state_dict() and not name.endswith("calibrated"):
            assert not torch.equal(tensor, snapshot.model.tensors[name]), f"{name} never moved"

    rewind(snapshot, model, optimizer)
    assert_same(take(model, optimizer, step).to_plain(), witness)
    assert model[4].counter == step and model[4].ready == (step > 3)
    steps(model, optimizer, 6, seed=4)
    assert_same(take(model, optimizer, 0).to_plain(), then)
    assert_same(snapshot.to_plain(), witness)  # the training after the rewind does not write into the snapshot


def test_calibration_returns() -> None:
    model = net()
    optimizer = adam(model)
    start = take(model, optimizer, 0)
    assert not bool(model[3].calibrated)
    steps(model, optimizer, 1)
    calibrated = take(model, optimizer, 1)
    assert bool(model[3].calibrated)
    rewind(start, model, optimizer)
    assert not bool(model[3].calibrated) and optimizer.state_dict()["state"] == {}
    rewind(calibrated, model, optimizer)
    assert bool(model[3].calibrated)


def test_a_state_goes_into_a_model_that_is_masked_otherwise() -> None:
    """The masks that are there stay, and an optimiser's memory lands on the tensor it belongs to."""
    model = net()
    optimizer = adam(model)
    steps(model, optimizer, 3)
    snapshot = take(model, optimizer, 3)
    expected = {name: dict(optimizer.state[p]) for name, p in plain_parameters(model).items()}
    expected = copy.deepcopy(expected)
    steps(model, optimizer, 3)
    masks = prune(prunable(model), {}, 0.5, Ranking.GLOBAL)
    apply_masks(model, masks)
    again = adam(model)
    rewind(snapshot, model, again)

    assert_same(masks_of(model), masks)
    for name, parameter in plain_parameters(model).items():
        kept = masks.get(name, torch.ones_like(parameter, dtype=torch.bool))
        assert torch.equal(parameter[kept], snapshot.model.tensors[name][kept])
        assert parameter[~kept].count_nonzero() == 0
        moment = again.state[parameter]["exp_avg"]
        assert torch.equal(moment[kept], expected[name]["exp_avg"][kept])
        assert moment[~kept].count_nonzero() == 0
    for _ in range(3):
        steps(model, again, 1)
        for name, mask in masks.items():
            assert plain_parameters(model)[name][~mask].count_nonzero() == 0


def test_a_masked_state_goes_into_an_unmasked_model() -> None:
    model, fresh = net(seed=0), net(seed=1)
    apply_masks(model, prune(prunable(model), {}, 0.5, Ranking.GLOBAL))
    restore_model(fresh, model_state(model))
    assert masks_of(fresh) == {}
    assert_same(prunable(fresh), prunable(model))


def test_plain_form_round_trip() -> None:
    model = net()
    optimizer = adam(model)
    steps(model, optimizer, 2)
    snapshot = take_snapshot(2, model, optimizer, {"order": torch.Generator().get_state()})
    assert_same(Snapshot.from_plain(snapshot.to_plain()).to_plain(), snapshot.to_plain())


def test_another_architecture_is_refused_before_anything_changes() -> None:
    model = net(hidden=8)
    before = model_state(model)
    with pytest.raises(
        ArchitectureError,
        match=r"^1.bias: shape \(9,\) in the snapshot, \(8,\) in the model; build the model that was saved",
    ):
        restore_model(model, model_state(net(hidden=9, seed=5)))
    with pytest.raises(ArchitectureError, match=r"^5.bias: the snapshot has no such tensor, the model has one of"):
        restore_model(model, model_state(net(seed=5)[:5]))
    longer = nn.Sequential(*net(seed=5), nn.Linear(3, 2))
    with pytest.raises(ArchitectureError, match=r"^6.bias: of shape \(2,\) in the snapshot, the model has no such"):
        restore_model(model, model_state(longer))
    assert_same(vars(model_state(model)), vars(before))


def test_equal_shapes_of_another_kind_are_refused() -> None:
    """The shapes of 4 and of 6 bits, of a ReLU and of an identity are the same."""
    four, six = (nn.Sequential(QuantLinear(6, 3, spec=QuantSpec(weight_width=width))) for width in (4, 6))
    with pytest.raises(
        ArchitectureError, match=r"^0: QuantLinear\(6, 3, 4-bit weights, .* in the snapshot, QuantLinear\(6, 3, 6-bit"
    ):
        restore_model(six, model_state(four))
    apply_masks(six, {"0.weight": torch.ones(3, 6, dtype=torch.bool)})
    restore_model(six, model_state(nn.Sequential(QuantLinear(6, 3, spec=QuantSpec(weight_width=6)))))  # masked or not
    with pytest.raises(ArchitectureError, match=r"^1: ReLU\(\) in the snapshot, Tanh\(\) in the model; build the"):
        restore_model(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), model_state(nn.Sequential(nn.Linear(2, 2), nn.ReLU())))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_scripted_module_is_refused() -> None:
    scripted = nn.Sequential(nn.Linear(2, 2), torch.jit.script(nn.ReLU()))
    with pytest.raises(ValueError, match=r"^1 is a scripted module, whose calibration cannot be saved"):
        model_state(scripted)
