"""Who runs trials: something that takes them like a ``concurrent.futures.Executor``, and how many at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch

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
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    _check(workers)
    context = get_context("spawn")  # a forked torch may hang
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_enlist, initargs=(theirs,))
    try:
        yield Crew(pool, workers)
    except BaseException:
        ours.close()  # whatever the workers are doing, they stop here
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


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


def _enlist(parent: Connection) -> None:
    """In a new worker."""
    os.setsid()  # Ctrl-C in a terminal is for the process that hands out the work
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: Connection) -> None:
    """End this process as soon as the other end of the pipe is gone; every file here can stand that at any moment."""
    parent.poll(None)
    os._exit(1)
