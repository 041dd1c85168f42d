"""Who runs trials: something that takes them like a ``concurrent.futures.Executor``, and how many at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

from recipes import processes

#: Seconds to wait for a Dask scheduler.
_PATIENCE = 10


@dataclass(frozen=True)
class Crew:
    executor: Executor
    workers: int  # trials at a time


@contextmanager
def local_processes(workers: int | None = None) -> Iterator[Crew]:
    """Processes of this machine, by default one for each core that this one may use, with one torch thread each.

    None of them outlives this one, however it ends.
    """
    count = len(os.sched_getaffinity(0)) if workers is None else workers
    _check(count)
    with processes.workers(count) as pool:
        yield Crew(pool, count)


@contextmanager
def dask_cluster(address: str, workers: int | None = None) -> Iterator[Crew]:
    """The workers of a running Dask cluster, ``workers`` of them at most, by the address of its scheduler.

    They must see the same files under the same paths, and have this package.

    Raises ``ValueError`` without the package or a worker, ``OSError`` where no scheduler answers.
    """
    if workers is not None:
        _check(workers)
    try:
        from distributed import Client
    except ImportError as missing:
        raise ValueError("--dask needs the package distributed; pip install 'qapsule[dask]'") from missing
    with Client(address, timeout=_PATIENCE, set_as_default=False) as client:
        found = len(client.scheduler_info(n_workers=-1)["workers"])
        if not found:
            raise ValueError(f"--dask {address}: this cluster has no workers; start some with dask worker {address}")
        yield Crew(client.get_executor(pure=False), min(found, workers or found))


def _check(workers: int) -> None:
    if workers < 1:
        raise ValueError(f"workers={workers}: at least one is needed to run trials")
