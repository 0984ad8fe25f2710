"""Processes that share work, and end when the one that started them does, however that ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

_PATIENCE_S = 5.0  #: with a process that was told to end


def started(processes: int, begin: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """New processes, which call ``begin`` first; not forks: of a process with threads, as of a progress bar, these may
    hang."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(begin,))


@contextmanager
def sharing(processes: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """``map``, in this process if one is enough, or in several, which Ctrl-C and errors end at once."""
    if processes == 1:
        yield map
        return
    others, pool = set(multiprocessing.active_children()), started(processes)
    try:
        yield pool.map
    except BaseException:
        end(set(multiprocessing.active_children()) - others)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def end(processes: set[BaseProcess]) -> None:
    """Terminates processes, and kills those that a compiler keeps from hearing of it."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_PATIENCE_S)
        if process.is_alive():
            process.kill()


def _begin(begin: Callable[[], None] | None) -> None:
    """Leaves Ctrl-C to the parent, which terminates."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    if begin is not None:
        begin()


def _follow() -> None:
    """The parent may be killed, and tell nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
