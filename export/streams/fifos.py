"""How deep the FIFOs between processes must be.

A process is described by the order in which it reads and writes packets; it waits where a FIFO is empty or full. What
such processes compute does not depend on their speed, and neither does whether they all come to an end: one schedule
that ends proves it for every other. :func:`depths` finds such a schedule with as little room as it can, and
:func:`finishes` says whether given depths have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: With a single place writer and reader would take turns, and neither would move a packet in every cycle.
SHALLOWEST = 2


@dataclass(frozen=True)
class Actor:
    """A process: the FIFOs that it reads and writes, one packet at a time, in order.

    An action is the number of a FIFO, as it is where a packet is read, and inverted (``~fifo``) where one is written.
    Ports are left out: the outside is always ready.
    """

    name: str
    actions: Sequence[int]


def depths(actors: Sequence[Actor], costs: Sequence[int], shallowest: int = SHALLOWEST) -> list[int]:
    """The depth of each FIFO with which all ``actors`` come to an end; none can be smaller by one, the others kept.

    ``costs`` are what one place in each FIFO takes, in bits: room is made where it is cheapest. Every packet that is
    written must be read.
    """
    room = [shallowest] * len(costs)
    run = _Run(actors, room)
    while (waiting := run.advance()) is not None:
        grown = min(run.full_in_cycle(waiting), key=lambda fifo: (costs[fifo], fifo))
        room[grown] += 1
        run.awake.append(run.writer[grown])
    for fifo in range(len(room)):
        while room[fifo] > shallowest and finishes(actors, [*room[:fifo], room[fifo] - 1, *room[fifo + 1 :]]):
            room[fifo] -= 1
    return room


def finishes(actors: Sequence[Actor], room: Sequence[int]) -> bool:
    """Whether the actors come to an end with FIFOs of these depths, rather than wait for each other for ever."""
    return _Run(actors, room).advance() is None


class _Run:
    """Actors on their way."""

    def __init__(self, actors: Sequence[Actor], room: Sequence[int]) -> None:
        self._actions = [actor.actions for actor in actors]
        self._room = room  # the caller may enlarge it
        self._next = [0] * len(actors)
        self._held = [0] * len(room)
        self.reader, self.writer = [-1] * len(room), [-1] * len(room)
        for number, actor in enumerate(actors):
            for action in set(actor.actions):
                ends, fifo = (self.reader, action) if action >= 0 else (self.writer, ~action)
                if ends[fifo] >= 0:
                    raise ValueError(f"FIFO {fifo} has two ends of a kind: {actors[ends[fifo]].name} and {actor.name}")
                ends[fifo] = number
        self.awake = list(range(len(actors)))

    def advance(self) -> int | None:
        """Let everybody go on until nobody can. Returns an actor that waits, None where all have come to an end."""
        held, room = self._held, self._room
        while self.awake:
            me = self.awake.pop()
            actions, place = self._actions[me], self._next[me]
            touched = set()
            while place < len(actions):
                action = actions[place]
                if action >= 0:
                    if held[action] == 0:
                        break
                    held[action] -= 1
                    touched.add(self.writer[action])
                else:
                    if held[~action] >= room[~action]:
                        break
                    held[~action] += 1
                    touched.add(self.reader[~action])
                place += 1
            self._next[me] = place
            self.awake.extend(touched.difference(self.awake))
        return next((me for me, actions in enumerate(self._actions) if self._next[me] < len(actions)), None)

    def full_in_cycle(self, start: int) -> list[int]:
        """The full FIFOs in the circle of actors that wait for each other, found from one that waits."""
        order: list[int] = []
        me = start
        while me not in order:
            order.append(me)
            action = self._waits_for(me)
            me = self.writer[action] if action >= 0 else self.reader[~action]
        circle = order[order.index(me) :]
        return [~action for action in map(self._waits_for, circle) if action < 0]

    def _waits_for(self, me: int) -> int:
        if self._next[me] == len(self._actions[me]):
            raise ValueError("a process waits for packets that nobody writes, or that nobody reads")
        return self._actions[me][self._next[me]]
