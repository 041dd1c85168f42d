"""FIFO depths: enough that a design comes to an end, and not one place more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from bounded import Bounded
from hypothesis import given, settings
from hypothesis import strategies as st
from planes import far_moved, gated, random_plane, residual

from export.firmware.design import Firmware
from export.firmware.network import Part, actors_of
from export.ir import Graph
from export.streams.access import Io, packets
from export.streams.fifos import Actor, depths, finishes
from recipes.fuzz.graphs import random_inputs


def beside(late: int, count: int = 20) -> list[Actor]:
    """A fork (FIFOs 1 and 2), a process that writes its first packet (3) after it has read ``late``, and a join."""
    fork = [a for _ in range(count) for a in (0, ~1, ~2)]
    join = [a for _ in range(count) for a in (1, 3)]
    slow = Actor("slow", delayed(late, count))
    return [Actor("source", [~0] * count), Actor("fork", fork), slow, Actor("join", join)]


def delayed(late: int, count: int) -> list[int]:
    """Reads FIFO 2, writes FIFO 3."""
    actions: list[int] = []
    for made in range(count):
        ahead = min(count, made + late) - actions.count(2)
        actions += [2] * ahead + [~3]
    return actions


@pytest.mark.parametrize("late", range(1, 20))
def test_a_path_beside_a_slow_one_holds_what_that_has_taken_in(late: int) -> None:
    room = depths(beside(late), [1] * 4)
    # The fork writes this path first, and the join has taken one packet already while it waits for the other.
    assert room == [2, max(2, late - 1), 2, 2]


@pytest.mark.parametrize("late", [4, 9, 19])
def test_one_place_less_never_comes_to_an_end(late: int) -> None:
    actors = beside(late)
    room = depths(actors, [1] * 4)
    assert finishes(actors, room)
    assert not finishes(actors, [room[0], room[1] - 1, *room[2:]])
    assert finishes(actors, [1, room[1], 1, 1])  # elsewhere less room costs time alone


def test_room_is_made_where_it_is_cheapest() -> None:
    """Two FIFOs on the same path: the narrower one takes the packets."""
    count, late = 30, 12
    source = [a for _ in range(count) for a in (~0, ~2)]
    passing = [a for _ in range(count) for a in (0, ~1)]
    slow = delayed(late, count)
    join = [a for _ in range(count) for a in (1, 3)]
    actors = [Actor("source", source), Actor("passing", passing), Actor("slow", slow), Actor("join", join)]
    wide, narrow = depths(actors, [8, 3, 1, 1])[:2]
    assert (wide, narrow > 5) == (2, True)
    wide, narrow = depths(actors, [3, 8, 1, 1])[:2]
    assert (wide > 5, narrow) == (True, 2)


def test_processes_that_do_not_fit_together_are_an_error() -> None:
    with pytest.raises(ValueError, match="waits for packets that nobody writes"):
        depths([Actor("a", [~0]), Actor("b", [0, 0])], [1])
    with pytest.raises(ValueError, match="FIFO 0 has two ends of a kind: b and c"):
        depths([Actor("a", [~0, ~0]), Actor("b", [0]), Actor("c", [0])], [1])
    with pytest.raises(ValueError, match="nobody reads"):
        depths([Actor("a", [~0] * 9), Actor("b", [0])], [1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_in_any_design_no_fifo_can_be_smaller(seed: int) -> None:
    """By one, the others kept: for all that had to be more than the least."""
    network = Firmware(random_plane(np.random.default_rng(seed)), Io.STREAM).network
    assert network
    actors, room = actors_of(network.parts, [f.name for f in network.fifos]), [f.needed for f in network.fifos]
    assert finishes(actors, room)
    for number, fifo in enumerate(network.fifos):
        assert fifo.depth >= fifo.needed >= 2
        if fifo.needed > 2:
            assert not finishes(actors, [*room[:number], room[number] - 1, *room[number + 1 :]]), fifo


def test_every_packet_that_is_written_is_read() -> None:
    for seed in range(80):
        firmware = Firmware(random_plane(np.random.default_rng(seed)), Io.STREAM)
        assert firmware.network
        for part in firmware.network.parts:
            for name in (*part.reads, *part.writes):
                signals = [s for s in firmware.signals.values() if name in (s.name, s.entry, s.exit) or
                           name.startswith(f"{s.name}_fifo")]  # fmt: skip
                assert part.order.count(name) == packets(signals[0].tensor), (seed, name)


def branching() -> Graph:
    """The first random one with several deep FIFOs."""
    for seed in range(1000):
        graph = random_plane(np.random.default_rng(seed))
        network = Firmware(graph, Io.STREAM).network
        if network and sum(fifo.needed > 2 for fifo in network.fifos) > 1:
            return graph
    raise AssertionError("no design has several deep FIFOs")


@pytest.mark.parametrize("make", [residual, branching, lambda: gated(24), far_moved])
def test_the_design_itself_stops_with_one_place_less(make: Callable[[], Graph], tmp_path: Path) -> None:
    """In C++, a thread for each process: with the places that are needed every output is right, with one less than
    that in any of the deep FIFOs no output ever comes."""
    graph = make()
    design = Bounded(graph, tmp_path)
    needed = {fifo.name: fifo.needed for fifo in design.fifos}
    deep = [name for name, places in needed.items() if places > 2]
    assert deep
    for sample in range(3):
        (codes,) = random_inputs(np.random.default_rng(sample), graph, 1)
        expected, made = graph.trace(codes), design.run(codes, needed)
        assert made is not None
        for name, found in made.items():
            assert np.array_equal(found, expected[name][0]), name
    for name in deep:
        assert design.run(codes, needed | {name: needed[name] - 1}) is None, name


def test_a_pipeline_beside_is_no_reason_to_wait() -> None:
    """What a packet is under way through the convolution is added to the path beside it, and to no other."""
    network = Firmware(residual(), Io.STREAM).network
    assert network
    deeper = {fifo.name: fifo.depth - fifo.needed for fifo in network.fifos if fifo.depth > fifo.needed}
    assert list(deeper) == ["x_fifo1"] and deeper["x_fifo1"] > 5


def cycles(parts: Sequence[Part], room: Mapping[str, int], samples: int = 3) -> int:
    """How long a design takes if each part is a pipeline of its stages that moves a packet of each stream per cycle."""
    orders = [part.order * samples for part in parts]
    places, under_way = [0] * len(parts), [deque[tuple[int, str]]() for _ in parts]
    held = dict.fromkeys(room, 0)
    for cycle in range(100_000):
        busy = False
        for number, part in enumerate(parts):
            written, passed = set(), set()
            while under_way[number] and under_way[number][0][0] <= cycle:  # what comes out, in order
                name = under_way[number][0][1]
                if name in written or (name in room and held[name] >= room[name]):
                    break
                written.add(name)
                if name in room:
                    held[name] += 1
                under_way[number].popleft()
            while places[number] < len(orders[number]):  # what goes in
                name = orders[number][places[number]]
                full = name in part.writes and len(under_way[number]) >= part.stages * len(part.writes)
                if name in passed or full or (name in part.reads and held.get(name, 1) == 0):
                    break
                passed.add(name)
                if name in part.writes:
                    under_way[number].append((cycle + part.stages, name))
                elif name in room:
                    held[name] -= 1
                places[number] += 1
            busy |= bool(under_way[number]) or places[number] < len(orders[number])
        if not busy:
            return cycle
    raise AssertionError("never ends")


@pytest.mark.parametrize("graph", [residual(), residual(12)], ids=["small", "large"])
def test_with_the_depths_no_pipeline_waits_for_another_branch(graph: Graph) -> None:
    """Three samples take not a cycle longer than with any room at all, but far longer with what is needed alone."""
    network = Firmware(graph, Io.STREAM).network
    assert network
    plenty = cycles(network.parts, {fifo.name: 10_000 for fifo in network.fifos})
    assert cycles(network.parts, {fifo.name: fifo.depth for fifo in network.fifos}) == plenty
    assert cycles(network.parts, {fifo.name: fifo.needed for fifo in network.fifos}) > 2 * plenty


def test_nor_does_any_other_design_within_a_sample() -> None:
    for seed in range(60):
        network = Firmware(random_plane(np.random.default_rng(seed)), Io.STREAM).network
        assert network
        depth, plenty = {f.name: f.depth for f in network.fifos}, {f.name: 10_000 for f in network.fifos}
        assert cycles(network.parts, depth, samples=1) == cycles(network.parts, plenty, samples=1), seed
