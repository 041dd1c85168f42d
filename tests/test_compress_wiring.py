"""What is called dead is dead: nothing that comes in changes what it reads, and without it nothing else changes."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec
from compress.mask import apply_masks, prunable
from compress.wiring import Feed, wiring_of, without_dead

SPEC = QuantSpec(weight_width=5, activation_width=5, input_width=6)


def perceptron() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            input=QuantIdentity(spec=SPEC),
            fc1=QuantLinear(6, 8, spec=SPEC),
            bn1=nn.BatchNorm1d(8),
            relu1=QuantReLU(spec=SPEC),
            fc2=QuantLinear(8, 5, spec=SPEC),
            relu2=nn.Sigmoid(),
            fc3=nn.Linear(5, 3),
        )
    )


def convolutional() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            c1=nn.Conv2d(2, 4, 3, padding=1),
            bn=nn.BatchNorm2d(4),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            depth=nn.Conv2d(4, 8, 3, groups=4, padding=1),
            point=nn.Conv2d(8, 6, 1),
            pairs=nn.Conv2d(6, 4, 1, groups=2),
            act=nn.Tanh(),
            flat=nn.Flatten(),
            fc=nn.Linear(4 * 9, 5),
            out=nn.Linear(5, 3),
        )
    )


NETWORKS = [(perceptron, (6,)), (convolutional, (2, 6, 6))]


def kept(model: nn.Module, dead: dict[str, list[int]]) -> dict[str, Tensor]:
    """Masks that take the weights of these output channels."""
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable(model).items()}
    for name, channels in dead.items():
        masks[name][channels] = False
    return masks


def test_the_feeds_of_a_perceptron() -> None:
    wiring = wiring_of(perceptron())
    assert wiring.feeds == {"fc2.weight": Feed(producer="fc1.weight"), "fc3.weight": Feed(producer="fc2.weight")}
    assert wiring.outputs == {"fc3.weight"}


def test_the_feeds_of_a_convolutional_network() -> None:
    assert wiring_of(convolutional()).feeds == {
        "depth.weight": Feed(producer="c1.weight", groups=4),
        "point.weight": Feed(producer="depth.weight"),
        "pairs.weight": Feed(producer="point.weight", groups=2),
        "fc.weight": Feed(producer="pairs.weight", span=9),
        "out.weight": Feed(producer="fc.weight"),
    }


def test_what_goes_with_channels() -> None:
    model = convolutional()
    masks = without_dead(kept(model, {"c1.weight": [1], "pairs.weight": [2]}), wiring_of(model).feeds)
    assert (~masks["depth.weight"]).flatten(1).all(dim=1).nonzero().flatten().tolist() == [2, 3]  # both of group 1
    assert (~masks["point.weight"]).all(dim=0).flatten().nonzero().flatten().tolist() == [2, 3]  # and so on
    assert masks["pairs.weight"].sum() == 3 * 3
    assert (~masks["fc.weight"]).all(dim=0).nonzero().flatten().tolist() == list(range(18, 27))
    pruned = {name: int((~mask).sum()) for name, mask in masks.items()}
    assert pruned == {"c1.weight": 18, "depth.weight": 18, "point.weight": 12, "pairs.weight": 3, "fc.weight": 45,
                      "out.weight": 0}  # fmt: skip


@pytest.mark.parametrize(("build", "shape"), NETWORKS)
def test_what_is_dead_reads_constants_and_nothing_alive_does(build, shape) -> None:
    """Measured: which inputs of every layer stay the same whatever comes into the network."""
    torch.manual_seed(1)
    model = build()
    feeds = wiring_of(model).feeds
    model(torch.randn(64, *shape))  # calibrates, moves the statistics
    first = next(iter(prunable(model)))
    own = kept(model, {first: [0, 2], "fc2.weight" if "fc2.weight" in prunable(model) else "pairs.weight": [1]})
    apply_masks(model, own)
    closed = without_dead(own, feeds)
    seen: dict[str, Tensor] = {}
    for name in feeds:
        layer = model.get_submodule(name.removesuffix(".weight"))
        layer.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0].detach()}))
    model.eval()(torch.randn(200, *shape))
    for name, x in seen.items():
        groups = getattr(model.get_submodule(name.removesuffix(".weight")), "groups", 1)
        constant = (x == x[:1]).flatten(2).all(dim=2).all(dim=0) if x.dim() > 2 else (x == x[:1]).all(dim=0)
        weight = closed[name]
        outputs = torch.arange(weight.shape[0])[:, None] * groups // weight.shape[0]
        reads = constant[outputs * weight.shape[1] + torch.arange(weight.shape[1])]
        dead = (~closed[name] & own[name]).flatten(2).all(dim=2) if weight.dim() > 2 else ~closed[name] & own[name]
        rows = own[name].flatten(1).any(dim=1)
        assert torch.equal(dead[rows], reads[rows]), name


@pytest.mark.parametrize(("build", "shape"), NETWORKS)
def test_a_pruned_channel_has_no_say_any_more(build, shape) -> None:
    """With what is dead pruned, neither its bias nor its batch norm reaches the outputs."""
    torch.manual_seed(2)
    model = build()
    model(torch.randn(64, *shape))
    first = next(iter(prunable(model)))
    apply_masks(model, without_dead(kept(model, {first: [0, 2]}), wiring_of(model).feeds))
    x = torch.randn(50, *shape)
    before = model.eval()(x)
    with torch.no_grad():
        for name, layer in model.named_children():
            if f"{name}.weight" == first or isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.bias[[0, 2]] += 3.0
    assert torch.equal(model(x), before)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        y = x + self.b(x)
        y = self.d(self.c(self.d(y)).flatten(1))
        return y


def test_a_trail_ends_where_channels_meet_others() -> None:
    """The sum keeps a dead neuron of b alive; d, called twice, has two sources."""
    wiring = wiring_of(Residual())
    assert wiring.feeds == {"b.weight": Feed(producer="a.weight")}
    assert wiring.outputs == frozenset()


class Rows(nn.Module):
    """Dense layers on the last axis of (rows, places, features), where flattening and pooling mix neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.pool, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.MaxPool1d(2), nn.Linear(15, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.pool(self.b(self.a(x))).flatten(1))


def test_dense_layers_on_more_axes() -> None:
    model = Rows()
    assert model(torch.randn(3, 5, 4)).shape == (3, 2)
    assert wiring_of(model).feeds == {"b.weight": Feed(producer="a.weight")}


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).flip(1)).sigmoid())


def test_a_call_that_moves_channels_ends_the_trail() -> None:
    assert wiring_of(Shuffled()).feeds == {"c.weight": Feed(producer="b.weight")}


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Conv2d(2, 4, 1), nn.Flatten(2), nn.Linear(36, 5)], (2, 6, 6)),
        ([nn.Conv1d(2, 4, 1), nn.Flatten(), nn.MaxPool1d(5), nn.Linear(28, 5)], (2, 36)),
        ([nn.Conv2d(2, 4, 1), nn.Linear(6, 5)], (2, 6, 6)),
    ],
    ids=["pixels alone flattened", "pooled over channels", "on a row of pixels"],
)
def test_pictures_that_are_not_read_channel_by_channel(layers: list[nn.Module], shape: tuple[int, ...]) -> None:
    model = nn.Sequential(*layers)
    model(torch.randn(3, *shape))
    assert wiring_of(model).feeds == {}


def test_a_model_that_cannot_be_traced() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) if x.sum() > 0 else x

    with pytest.raises(ValueError, match=r"^Branching: torch.fx cannot trace its forward .*, or prune single weights"):
        wiring_of(Branching())
