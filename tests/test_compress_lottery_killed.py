"""Tickets, alone or together, are killed at any moment and resumed to the bit-identical end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tickets import differing_files

KILLING = '''
"""Prunes in forked children. Each is killed by SIGKILL at a given moment: the n-th line of compress/ it executes, or
the n-th call of a function of os. Prints the fate of each life."""
import os, random, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
import tickets
import compress.lottery, compress.train
from compress.lottery import run_together

ROOM = os.path.dirname(compress.train.__file__)
PARTS = ("train", "lottery", "ensemble", "checkpoint", "rewind", "mask", "prune", "structure", "borrowed")

def of_interest(file):
    return file.startswith(ROOM) and os.path.relpath(file, ROOM).split(os.sep)[0].removesuffix(".py") in PARTS

def work(folder, replicas):
    data, ticket = tickets.data(96), replace(tickets.INTRICATE, rewind_step=4)
    more = dict(resume=True, checkpoint_seconds=0, progress=False)
    if not replicas:
        ticket.run(tickets.net(), data, tickets.data(100, 1), out=folder / "0", **more)
        return
    several = {str(s): replace(ticket, training=replace(ticket.training, seed=s)) for s in range(replicas)}
    nets = {str(s): tickets.net(s, 4 + s) for s in range(replicas)}
    run_together(several, nets, data, tickets.data(100, 1), out=folder, **more)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def life(folder, replicas, where=None, nth=0):
    sys.stdout.flush()
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return "killed" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    lines = 0
    def local(frame, event, arg):
        nonlocal lines
        lines += event == "line"
        if where == "line" and lines == nth:
            die()
        return local
    if where in ("fsync", "replace"):
        real, calls = getattr(os, where), iter(range(1, 10**9))
        def deadly(*args):
            if next(calls) == nth:
                die()
            return real(*args)
        setattr(os, where, deadly)
    sys.settrace(lambda frame, event, arg: local if of_interest(frame.f_code.co_filename) else None)
    work(Path(folder), replicas)
    sys.settrace(None)
    Path(folder + ".lines").write_text(str(lines))
    os._exit(0)

whole, cut, replicas = sys.argv[1], sys.argv[2], int(sys.argv[3])
assert life(whole, replicas) == 0
lines = int(Path(whole + ".lines").read_text())
chance = random.Random(20)
moments = [("line", 40), ("replace", 2), ("line", lines // 8), ("fsync", 3)]
moments += [("line", chance.randrange(lines // 20, lines // 4)) for _ in range(12)]
moments += [("fsync", 4), ("replace", 1), ("line", lines // 10), ("replace", 3)]
for moment in moments:
    print(moment, life(cut, replicas, *moment))
print("last", life(cut, replicas))
'''


@pytest.mark.parametrize("replicas", [0, 3], ids=["alone", "together"])
def test_killed_at_any_moment_and_resumed_is_bit_identical(tmp_path: Path, replicas: int) -> None:
    script = tmp_path / "killing.py"
    script.write_text(KILLING)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(script), str(whole), str(cut), str(replicas)],
        env={"PYTHONPATH": f"{root}:{root / 'tests'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *lives, last = done.stdout.splitlines()
    assert last == "last 0", done.stderr
    assert len(lives) == 20 and sum(life.endswith("killed") for life in lives) >= 14, lives
    assert len(list(whole.rglob("level.json"))) == 3 * (replicas or 1)
    assert differing_files(whole, cut, "ensemble" if replicas else "training") == []
