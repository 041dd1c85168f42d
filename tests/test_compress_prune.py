"""Exact counts, deterministic ties, monotone masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.prune import Ranking, count_pruned, prune
from compress.structure import CHANNELS, NEURONS, SPARED, WEIGHTS, Group, Structure, multipliers, structures_of
from compress.wiring import Feed, without_dead

RANKINGS = list(Ranking)


def weights(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (7, 5), "b": (3, 4, 2), "c": (11, 1)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def pruned(masks: dict[str, Tensor]) -> int:
    return sum(int((~mask).sum()) for mask in masks.values())


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0]), min_size=70, max_size=70),
    fractions=st.lists(st.floats(0, 1), min_size=1, max_size=4).map(sorted),
    ranking=st.sampled_from(RANKINGS),
)
def test_counts_are_exact_masks_monotone_and_the_smallest_go(
    values: list[float], fractions: list[float], ranking: Ranking
) -> None:
    parts = torch.tensor(values).split([35, 24, 11])
    net = {name: part.reshape(w.shape) for (name, w), part in zip(weights().items(), parts, strict=True)}
    masks: dict[str, Tensor] = {}
    for fraction in fractions:
        earlier, masks = masks, prune(net, masks, fraction, ranking)
        if ranking is Ranking.PER_LAYER:
            assert {n: int((~m).sum()) for n, m in masks.items()} == {
                n: count_pruned(fraction, w.numel()) for n, w in net.items()
            }
        else:
            assert pruned(masks) == count_pruned(fraction, 70)
        for name, mask in masks.items():
            assert not (mask & ~earlier.get(name, mask)).any()
        # what is kept is at least as large as what went last
        size = {n: w.abs() / w.abs().max() if ranking is Ranking.RELATIVE_TO_LAYER_MAX and w.any() else w.abs()
                for n, w in net.items()}
        for group in [[n] for n in net] if ranking is Ranking.PER_LAYER else [list(net)]:
            gone = torch.cat([size[n][~masks[n]] for n in group])
            left = torch.cat([size[n][masks[n]] for n in group])
            assert not gone.numel() or not left.numel() or gone.max() <= left.min()


@pytest.mark.parametrize("ranking", RANKINGS)
def test_ties_go_by_layer_then_flat_index(ranking: Ranking) -> None:
    net = {"first": torch.tensor([[1.0, -1.0], [1.0, 1.0]]), "second": torch.tensor([[-1.0, 1.0]])}
    masks = prune(net, {}, 0.5, ranking)
    if ranking is Ranking.PER_LAYER:
        assert [m.int().tolist() for m in masks.values()] == [[[0, 0], [1, 1]], [[0, 1]]]
    else:
        assert [m.int().tolist() for m in masks.values()] == [[[0, 0], [0, 1]], [[1, 1]]]


def test_ties_of_a_large_layer_go_by_flat_index() -> None:
    """Sorting algorithms keep the order of equal keys in short arrays whether they promise it or not."""
    net = {"w": torch.ones(100, 300), "v": torch.full((100, 300), -1.0)}
    masks = prune(net, {}, 0.4, Ranking.GLOBAL)
    assert torch.equal(masks["w"].flatten(), torch.arange(30_000) >= 24_000)
    assert masks["v"].all()


def test_the_three_rankings_differ_as_they_say() -> None:
    net = {"small": torch.tensor([[0.01, 0.02, 0.03, 0.04]]), "large": torch.tensor([[1.0, 2.0, 30.0, 40.0]])}
    kept = {r: {n: m.int().flatten().tolist() for n, m in prune(net, {}, 0.5, r).items()} for r in Ranking}
    assert kept[Ranking.GLOBAL] == {"small": [0, 0, 0, 0], "large": [1, 1, 1, 1]}
    assert kept[Ranking.PER_LAYER] == {"small": [0, 0, 1, 1], "large": [0, 0, 1, 1]}
    # relative sizes: .25 .5 .75 1 and .025 .05 .75 1
    assert kept[Ranking.RELATIVE_TO_LAYER_MAX] == {"small": [0, 0, 1, 1], "large": [0, 0, 1, 1]}
    third = prune(net, {}, 0.25, Ranking.RELATIVE_TO_LAYER_MAX)
    assert third["small"].all() and third["large"].int().tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("ranking", RANKINGS)
def test_pruned_stays_pruned_when_its_neighbours_shrink_below_it(ranking: Ranking) -> None:
    net = {"w": torch.tensor([[4.0, 3.0, 2.0, 1.0]])}
    first = prune(net, {}, 0.25, ranking)
    regrown = {"w": torch.tensor([[0.1, 3.0, 2.0, 9.0]])}
    assert prune(regrown, first, 0.5, ranking)["w"].int().tolist() == [[0, 1, 1, 0]]


def test_arguments_stay_as_they_are() -> None:
    net, masks = weights(), prune(weights(), {}, 0.3, Ranking.GLOBAL)
    copies = {name: mask.clone() for name, mask in masks.items()}
    result = prune(net, masks, 0.6, Ranking.GLOBAL)
    for name, mask in result.items():
        mask.fill_(True)
        assert torch.equal(masks[name], copies[name])
        assert torch.equal(net[name], weights()[name])


@pytest.mark.parametrize(
    ("fraction", "number", "expected"),
    [(0.1, 4256, 426), (0.29, 50, 15), (0.5, 5, 3), (0.5, 3, 2), (0.0, 9, 0), (1.0, 9, 9), (0.989, 4256, 4209)],
)
def test_round_half_up_of_the_decimal(fraction: float, number: int, expected: int) -> None:
    assert count_pruned(fraction, number) == expected


def test_nothing_to_prune() -> None:
    assert prune({}, {}, 0.5, Ranking.GLOBAL) == {}
    assert prune({}, {}, 0.5, Ranking.PER_LAYER) == {}


def test_an_all_zero_layer_ranks_lowest() -> None:
    net = {"live": torch.tensor([[1.0, 2.0]]), "dead": torch.zeros(1, 2)}
    masks = prune(net, {}, 0.5, Ranking.RELATIVE_TO_LAYER_MAX)
    assert masks["live"].all() and not masks["dead"].any()


@pytest.mark.parametrize("ranking", RANKINGS)
def test_messages(ranking: Ranking) -> None:
    net = weights()
    net["b"][0, 0, 0], net["b"][1, 0, 0] = float("nan"), float("inf")
    with pytest.raises(ValueError, match=r"^b: 2 of 24 weights are NaN or infinite and cannot be ranked"):
        prune(net, {}, 0.5, ranking)
    with pytest.raises(ValueError, match=r"^the pruned fraction must lie between 0 and 1, got 1.5$"):
        prune(weights(), {}, 1.5, ranking)
    half = prune(weights(), {}, 0.5, ranking)
    with pytest.raises(ValueError, match=r"are pruned already, the fraction 0.1 asks for .*; fractions may only grow"):
        prune(weights(), half, 0.1, ranking)
    with pytest.raises(ValueError, match=r"^d: a mask for no prunable weight; there are a, b, c$"):
        prune(weights(), {"d": half["a"]}, 0.5, ranking)


# --- groups ---

SHAPES = {"conv": (3, 2, 2), "fc1": (4, 6), "fc2": (6, 4)}
FEEDS = {"fc1.weight": Feed(producer="conv.weight", span=2), "fc2.weight": Feed(producer="fc1.weight")}
STRUCTURES = {
    "weights": {},
    "rows": {"conv": CHANNELS, "fc?": NEURONS},
    "mixed": {"conv": CHANNELS, "fc1": multipliers(3), "fc2": WEIGHTS},
    "multipliers": {"fc1": multipliers(12), "fc2": multipliers(2)},
    "emptied": {"conv": Structure(group=Group.CHANNEL, may_empty=True), "fc1": multipliers(2), "fc2": NEURONS},
}


def slowly(
    net: dict[str, Tensor],
    masks: dict[str, Tensor],
    fraction: float,
    ranking: Ranking,
    structure: dict[str, Structure],
    feeds: dict[str, Feed],
) -> dict[str, Tensor]:
    """What ``prune`` is to do, group by group: drop the smallest until the next would be too much."""
    chosen = structures_of(net, structure)
    kept = without_dead({n: masks.get(n, torch.ones_like(w, dtype=torch.bool)) for n, w in net.items()}, feeds)
    pools = [[n] for n in net] if ranking is Ranking.PER_LAYER else [list(net)]
    limit = [count_pruned(fraction, sum(net[n].numel() for n in pool)) for pool in pools]
    rankable = []
    for at, (name, weight) in enumerate(net.items()):
        groups, mask = chosen[name].groups(name, weight.shape), masks.get(name, torch.ones(weight.shape))
        mean = {g: float((weight.double().abs() * mask)[groups == g].mean()) for g in groups.unique().tolist()}
        alive = {g: bool(mask[groups == g].any()) for g in mean}
        scale = max(mean.values()) or 1.0 if ranking is Ranking.RELATIVE_TO_LAYER_MAX else 1.0
        sorted_ = sorted((alive[g], mean[g] / scale if alive[g] else 0.0, at, g) for g in mean)
        rankable += sorted_[:-1] if chosen[name].keeps_one else sorted_
    for pool in pools:
        members = [list(net).index(name) for name in pool]
        for _, _, at, group in sorted(entry for entry in rankable if entry[2] in members):
            name = list(net)[at]
            groups = chosen[name].groups(name, net[name].shape)
            trial = without_dead({**kept, name: kept[name] & (groups != group)}, feeds)
            if any(pruned({n: trial[n] for n in p}) > most for p, most in zip(pools, limit, strict=True)):
                break
            kept = trial
    return kept


@settings(max_examples=150)
@given(
    values=st.lists(st.sampled_from([-2.0, -0.5, -0.0, 0.25, 0.5, 0.75, 1.0, 2.0]), min_size=60, max_size=60),
    fractions=st.lists(st.floats(0, 1), min_size=1, max_size=3).map(sorted),
    ranking=st.sampled_from(RANKINGS),
    name=st.sampled_from(list(STRUCTURES)),
    wired=st.booleans(),
)
def test_whole_groups_go_in_order_up_to_the_fraction_and_never_return(
    values: list[float], fractions: list[float], ranking: Ranking, name: str, wired: bool
) -> None:
    parts = torch.tensor(values).split([12, 24, 24])
    net = {f"{n}.weight": part.reshape(shape) for (n, shape), part in zip(SHAPES.items(), parts, strict=True)}
    structure, feeds = STRUCTURES[name], FEEDS if wired else {}
    masks: dict[str, Tensor] = {}
    for fraction in fractions:
        earlier, masks = masks, prune(net, masks, fraction, ranking, structure=structure, feeds=feeds)
        expected = slowly(net, earlier, fraction, ranking, structure, feeds)
        assert all(torch.equal(masks[n], expected[n]) for n in net)
        assert pruned(masks) <= count_pruned(fraction, 60) or ranking is Ranking.PER_LAYER
        for layer, mask in masks.items():
            assert not (mask & ~earlier.get(layer, mask)).any()
        # a pruned weight is zero to every reader from now on; the others move as they like
        net = {n: torch.where(masks[n], w.roll(1), 0.0) for n, w in net.items()}


@pytest.mark.parametrize("ranking", RANKINGS)
def test_a_group_is_never_split(ranking: Ranking) -> None:
    net = {f"{n}.weight": torch.randn(s, generator=torch.Generator().manual_seed(1)) for n, s in SHAPES.items()}
    structure = {"conv": CHANNELS, "fc1": multipliers(3), "fc2": NEURONS}
    for fraction in (0.3, 0.55, 0.8, 1.0):
        masks = prune(net, {}, fraction, ranking, structure=structure)
        for name, chosen in structures_of(net, structure).items():
            groups = chosen.groups(name, net[name].shape)
            assert all(len(masks[name][groups == group].unique()) == 1 for group in groups.unique())


def test_groups_of_several_sizes_compete_by_their_means() -> None:
    net = {"a": torch.tensor([[1.0, 1.0, 1.0, 1.0], [4.0, 4.0, 4.0, 4.0]]), "b": torch.tensor([[2.0], [3.0]])}
    masks = prune(net, {}, 0.5, Ranking.GLOBAL, structure={"*": NEURONS})
    assert masks["a"].tolist() == [[False] * 4, [True] * 4] and masks["b"].tolist() == [[False], [True]]
    # relative to the largest row of the layer: 0.25 and 1, 0.67 and 1
    masks = prune(net, {}, 0.4, Ranking.RELATIVE_TO_LAYER_MAX, structure={"*": NEURONS})
    assert masks["a"].tolist() == [[False] * 4, [True] * 4] and masks["b"].all()


def test_fewer_than_asked_for_but_never_more() -> None:
    net = {"w": torch.arange(1.0, 13.0).reshape(4, 3)}
    counts = [pruned(prune(net, {}, n / 12, Ranking.GLOBAL, structure={"w": NEURONS})) for n in range(13)]
    assert counts == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9, 9, 9]  # and the last neuron stays


def test_every_layer_keeps_its_strongest_group_unless_told() -> None:
    net = {"a": torch.tensor([[1.0, 1.0], [2.0, 1.0]]), "b": torch.tensor([[9.0, 9.0], [8.0, 9.0]])}
    masks = prune(net, {}, 1.0, Ranking.GLOBAL, structure={"*": NEURONS})
    assert masks["a"].tolist() == [[False, False], [True, True]] == [row[::-1] for row in masks["b"].tolist()[::-1]]
    told = {"a": Structure(group=Group.NEURON, may_empty=True), "b": NEURONS}
    assert not prune(net, {}, 1.0, Ranking.GLOBAL, structure=told)["a"].any()
    assert pruned(prune(net, {}, 1.0, Ranking.GLOBAL)) == 8


def test_what_a_neuron_takes_with_it_is_counted() -> None:
    net = {"a.weight": torch.tensor([[1.0, 1.0], [2.0, 2.0], [9.0, 9.0]]), "b.weight": torch.full((4, 3), 5.0)}
    feeds = {"b.weight": Feed(producer="a.weight")}
    six = prune(net, {}, 6 / 18, Ranking.GLOBAL, structure={"a": NEURONS}, feeds=feeds)
    assert pruned(six) == 2 + 4 and not six["b.weight"][:, 0].any()
    five = prune(net, {}, 5 / 18, Ranking.GLOBAL, structure={"a": NEURONS}, feeds=feeds)
    assert pruned(five) == 0


def test_a_group_that_has_lost_weights_goes_with_what_is_left_of_it() -> None:
    net = {"w": torch.tensor([[3.0, 7.0, 3.0], [2.5, 2.5, 2.5], [5.0, 5.0, 5.0]])}
    masks = {"w": net["w"] != 7}  # what is pruned counts as zero even where the tensor says otherwise
    after = prune(net, masks, 4 / 9, Ranking.GLOBAL, structure={"w": NEURONS})
    assert after["w"].sum(dim=1).tolist() == [0, 3, 3]  # means 2, 2.5, 5; one weight was pruned before
    assert prune(net, masks, 6 / 9, Ranking.GLOBAL, structure={"w": NEURONS})["w"].sum(dim=1).tolist() == [0, 0, 3]


def test_a_spared_layer_loses_nothing_and_gets_no_mask() -> None:
    net = {"a.weight": torch.tensor([[1.0, 1.0], [9.0, 9.0]]), "b.weight": torch.full((4, 2), 0.1)}
    feeds = {"b.weight": Feed(producer="a.weight")}
    for ranking in Ranking:
        masks = prune(net, {}, 1.0, ranking, structure={"a": NEURONS, "b": SPARED}, feeds=feeds)
        assert list(masks) == ["a.weight"] and masks["a.weight"].tolist() == [[False] * 2, [True] * 2]
    # weights of spared layers are original weights all the same: 3 of 12
    assert pruned(prune(net, {}, 0.25, Ranking.GLOBAL, structure={"b": SPARED})) == 3
    earlier = {"b.weight": net["b.weight"] > 0}
    earlier["b.weight"][0, 0] = False
    masks = prune(net, earlier, 0.25, Ranking.GLOBAL, structure={"b": SPARED})
    assert pruned(masks) == 3 and torch.equal(masks["b.weight"], earlier["b.weight"])
    masks = prune(net, earlier, 0.5, Ranking.GLOBAL, structure={"a": NEURONS, "b": SPARED}, feeds=feeds)
    assert pruned(masks) == 3 and torch.equal(masks["b.weight"], earlier["b.weight"])
