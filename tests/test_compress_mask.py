"""A pruned weight is exactly +0.0 at every moment a reader can look."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress.layers import QuantLinear, QuantReLU
from compress.mask import apply_masks, masks_of, plain_parameters, prunable, remove_masks
from compress.spec import QuantSpec


def net(seed: int = 0, quantized: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    if quantized:
        spec = QuantSpec(weight_width=4, activation_width=4)
        return nn.Sequential(QuantLinear(6, 8, spec=spec), nn.BatchNorm1d(8), QuantReLU(spec=spec), QuantLinear(8, 3))
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def random_masks(model: nn.Module, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(w.shape, generator=generator) < 0.5 for name, w in prunable(model).items()}


def assert_zero(model: nn.Module, masks: dict[str, Tensor]) -> None:
    """+0.0 (no sign bit) in what the layer uses and in the tensor behind it, and something left elsewhere."""
    parameters = plain_parameters(model)
    for name, kept in masks.items():
        for tensor in (prunable(model)[name], parameters[name].detach()):
            assert tensor[~kept].view(torch.int32).count_nonzero() == 0, name
        assert prunable(model)[name][kept].count_nonzero() > 0, name


def one_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(7))
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def test_prunable_are_the_matrices_in_layer_order() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.PReLU(3), nn.Linear(4, 2))
    assert list(prunable(model)) == ["0.weight", "3.weight"]


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, fused=True),
    ],
    ids=["sgd-momentum-decay", "adam-decay", "adamw-fused"],
)
def test_zero_after_every_optimizer_step(
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], quantized: bool
) -> None:
    model = net(quantized=quantized)
    masks = random_masks(model)
    apply_masks(model, masks)
    before = prunable(model)
    optimizer = make(list(plain_parameters(model).values()))
    assert_zero(model, masks)
    for _ in range(5):
        one_step(model, optimizer)
        assert_zero(model, masks)
    assert all(not torch.equal(before[name], weight) for name, weight in prunable(model).items())


def test_momentum_from_before_the_pruning_cannot_bring_a_weight_back() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    one_step(model, optimizer)
    masks = random_masks(model)
    apply_masks(model, masks)
    for _ in range(3):
        one_step(model, optimizer)
        for name, weight in prunable(model).items():
            assert weight[~masks[name]].count_nonzero() == 0


def test_zero_inside_the_forward_and_gradient_zero() -> None:
    model = net()
    masks = random_masks(model)
    apply_masks(model, masks)
    seen: list[Tensor] = []
    model[0].register_forward_hook(lambda layer, _in, _out: seen.append(layer.weight.detach().clone()))
    model(torch.randn(4, 6)).sum().backward()
    assert seen[0][~masks["0.weight"]].count_nonzero() == 0
    gradient = plain_parameters(model)["0.weight"].grad
    assert gradient is not None and gradient.count_nonzero() > 0
    assert gradient[~masks["0.weight"]].count_nonzero() == 0


def test_a_negative_or_nan_weight_becomes_plus_zero() -> None:
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-3.0, float("nan")]]))
    apply_masks(layer, {"weight": torch.tensor([[False, False]])})
    assert layer.weight.detach().view(torch.int32).tolist() == [[0, 0]]


@pytest.mark.parametrize("quantized", [False, True])
def test_deepcopy_after_a_forward_is_masked_and_independent(quantized: bool) -> None:
    model = net(quantized=quantized)
    masks = random_masks(model)
    apply_masks(model, masks)
    model(torch.randn(8, 6))
    twin = copy.deepcopy(model)
    untouched = prunable(model)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.5, momentum=0.9)
    one_step(twin, optimizer)
    assert_zero(twin, masks)
    assert all(torch.equal(untouched[name], weight) for name, weight in prunable(model).items())
    assert not torch.equal(untouched["0.weight"], prunable(twin)["0.weight"])


def test_state_dict_round_trip_into_a_fresh_masked_model() -> None:
    model, fresh = net(0), net(1)
    masks = random_masks(model)
    apply_masks(model, masks)
    apply_masks(fresh, {name: torch.ones_like(mask) for name, mask in masks.items()})
    fresh.load_state_dict(model.state_dict())
    assert_zero(fresh, masks)
    assert all(torch.equal(masks[name], mask) for name, mask in masks_of(fresh).items())


def test_masked_parameters_keep_identity_and_order() -> None:
    model = net()
    plain = plain_parameters(model)
    apply_masks(model, random_masks(model))
    masked = plain_parameters(model)
    assert list(masked) == list(plain)
    assert all(masked[name] is plain[name] for name in plain)
    # the trap that plain_parameters exists for
    assert [id(p) for p in model.parameters()] != [id(p) for p in net().parameters()]
    assert next(model.named_parameters())[0] == "0.bias"


def test_a_mask_replaces_the_one_before_and_copies_what_it_is_given() -> None:
    model = net()
    first, second = random_masks(model, 1), random_masks(model, 2)
    apply_masks(model, first)
    apply_masks(model, second)
    assert_zero(model, {name: first[name] & second[name] for name in first})
    assert len(model[0].parametrizations["weight"]) == 1
    second["0.weight"].fill_(True)
    masks_of(model)["0.weight"].fill_(True)
    assert torch.equal(masks_of(model)["0.weight"], random_masks(model, 2)["0.weight"])


def test_removal_bakes_the_zeros_in() -> None:
    model = net()
    plain = plain_parameters(model)
    masks = random_masks(model)
    apply_masks(model, masks)
    remove_masks(model)
    assert type(model[0]) is nn.Linear and masks_of(model) == {}
    assert_zero(model, masks)
    assert all(parameter is plain[name] for name, parameter in model.named_parameters())


def test_the_quantizer_sees_the_masked_weight() -> None:
    """Codes and scale are those of a layer that holds the zeros plainly, also where the range shrinks."""
    model, baked = net(quantized=True), net(quantized=True)
    size = baked[0].weight.detach().abs()
    small = size < size.flatten().sort().values[8]
    with torch.no_grad():
        baked[0].weight.mul_(small)
    unmasked = model[0].quant_weight()
    apply_masks(model, {"0.weight": small})
    seen, expected = model[0].quant_weight(), baked[0].quant_weight()
    assert torch.equal(seen.value, expected.value) and torch.equal(seen.scale, expected.scale)
    assert seen.scale < unmasked.scale
    x = torch.randn(4, 6)
    assert torch.equal(model[0](x), baked[0](x))


def test_messages() -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    good = torch.ones(8, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"^1.weight: a mask for no prunable weight; there are 0.weight, 3.weight$"):
        apply_masks(model, {"0.weight": good, "1.weight": torch.ones(8, dtype=torch.bool)})
    with pytest.raises(
        ValueError,
        match=r"^3.weight: the mask is torch.bool of shape \(8, 3\), the weight needs torch.bool of shape \(3, 8\)$",
    ):
        apply_masks(model, {"0.weight": good, "3.weight": torch.ones(8, 3, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"^0.weight: the mask is torch.float32"):
        apply_masks(model, {"0.weight": good.float()})
    assert list(model.state_dict()) == list(before)  # nothing was masked halfway

    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match=r"^1.weight is the same tensor as 0.weight; give each layer its own weight"):
        prunable(tied)

    normed = net()
    parametrize.register_parametrization(normed[0], "weight", nn.Identity())
    with pytest.raises(ValueError, match=r"^0.weight carries a parametrization that is not a mask \(Identity\)"):
        masks_of(normed)
