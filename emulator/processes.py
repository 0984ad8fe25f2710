"""Processes that share work, and end when the one that started them does, however that ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

from .errors import HalfulpError

_PATIENCE_S = 5.0  #: with a process that was told to end


def started(processes: int, begin: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """New processes, which call ``begin`` first; not forks: of a process with threads, as of a progress bar, these may
    hang."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(begin,))


@contextmanager
def sharing(processes: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """``map``, in this process if one is enough, or in several, which Ctrl-C and errors end at once.

    Raises
    ------
    HalfulpError
        A process was killed.
    """
    if processes == 1:
        yield map
        return
    others, pool = set(multiprocessing.active_children()), started(processes)
    try:
        yield partial(_mapped, pool)
    except BaseException as error:
        end(set(multiprocessing.active_children()) - others)
        if isinstance(error, BrokenExecutor):
            raise HalfulpError("a process that shared the work was killed: too little memory?") from None
        raise
    finally:
        pool.shutdown()


def _mapped(pool: ProcessPoolExecutor, function: Callable[..., Any], *given: Iterable[Any]) -> Iterator[Any]:
    """As ``pool.map``, which cancels what is left where something fails: of cancelled work a pool whose processes are
    ended waits for ever."""
    futures = [pool.submit(function, *each) for each in zip(*given, strict=False)]
    return (future.result() for future in futures)


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
    """The parent may be killed, and tell nobody: then what runs is ended as if it had terminated this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PATIENCE_S)
        os._exit(1)
