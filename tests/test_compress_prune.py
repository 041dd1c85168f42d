"""Exact counts, deterministic ties, monotone masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.prune import Ranking, count_pruned, prune

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
