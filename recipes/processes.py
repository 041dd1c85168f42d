"""Processes of this machine that work for this one, and end with it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch


@contextmanager
def workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """``count`` of them, with one torch thread each.

    None of them outlives this process, however it ends.
    """
    context = get_context("spawn")  # a forked torch may hang
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_enlist, initargs=(theirs,))
    try:
        yield pool
    except BaseException:
        ours.close()  # whatever the workers are doing, they stop here
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


def _enlist(parent: Connection) -> None:
    """In a new worker."""
    os.setsid()  # Ctrl-C in a terminal is for the process that hands out the work
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: Connection) -> None:
    """End this process as soon as the other end of the pipe is gone; every file here can stand that at any moment."""
    parent.poll(None)
    os._exit(1)
