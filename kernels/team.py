"""Helper threads that stay awake for a moment after their work: the next part of it often comes within microseconds.

Waking a sleeping thread takes some 50 to 100 microseconds, and often brings it onto the caller's own processor.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .subset import compiled

_LOOKS = 1 << 22  #: about 1.6 ms
_YIELDS = 1 << 16  #: looks after which whoever else waits for the processor may have it


@intrinsic
def _read(typing, address):
    """The 64-bit integer at an address, as other threads have left it."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        return builder.load_atomic(builder.inttoptr(args[0], word.as_pointer()), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def _give_way(typing):
    """Let another thread that is ready run on this processor."""

    def codegen(context, builder, signature, args):
        if not hasattr(os, "sched_yield"):
            return ir.Constant(ir.IntType(32), 0)
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])

    return types.int32(), codegen


@compiled
def _differs(address: int, seen: int, looks: int) -> bool:
    """Whether the integer at an address differs from ``seen``, after so many looks at most."""
    for i in range(looks):
        if _read(address) != seen:  # type: ignore[call-arg]
            return True
        if i % _YIELDS == _YIELDS - 1:
            _give_way()  # type: ignore[call-arg]
    return False


class Signal:
    """One thread gives it, again and again; another takes it: awake for a moment, then asleep."""

    def __init__(self) -> None:
        self._given = np.zeros(1, np.int64)
        self._address = self._given.ctypes.data
        self._taken = 0
        self._guard = threading.Lock()
        self._asleep = False
        self._bell = threading.Semaphore(0)
        self.error: BaseException | None = None  #: what comes with it

    @property
    def given(self) -> int:
        return int(self._given[0])

    def give(self) -> None:
        with self._guard:
            self._given[0] += 1
            asleep, self._asleep = self._asleep, False
        if asleep:
            self._bell.release()

    def take(self) -> None:
        if not _differs(self._address, self._taken, _LOOKS):
            with self._guard:
                self._asleep = asleep = bool(self._given[0] == self._taken)
            if asleep:
                self._bell.acquire()
        self._taken += 1


class Helper:
    """A thread that runs one job after the other."""

    def __init__(self) -> None:
        self.free = threading.Lock()  #: held by whoever orders a job, until that is done
        self._ordered = Signal()
        self._job: Callable[[], None] | None = None
        self._done: Signal | None = None
        threading.Thread(target=self._run, name="halfulp", daemon=True).start()

    def start(self, job: Callable[[], None]) -> Signal:
        """Run a job; the signal is given when it is done. The caller has acquired ``free``."""
        self._job, self._done = job, Signal()
        done, before = self._done, self._ordered.given
        try:
            self._ordered.give()
        except BaseException:  # Ctrl-C, say
            if self._ordered.given == before:
                self.free.release()
            raise
        return done

    def _run(self) -> None:
        while True:
            self._ordered.take()
            job, done = self._job, self._done
            self._job = self._done = None
            assert job is not None and done is not None
            try:
                job()
            except BaseException as error:  # whoever waits for it raises it
                done.error = error
            del job  # and the arrays in it
            self.free.release()
            done.give()
            del done


_helpers: list[Helper] = []
if hasattr(os, "register_at_fork"):  # a child process has none of these threads
    os.register_at_fork(after_in_child=_helpers.clear)


def free_helpers(count: int) -> Iterator[Helper]:
    """Up to so many helpers that nobody else has, acquired one by one."""
    for i in range(count):
        if i == len(_helpers):
            _helpers.append(Helper())
        if _helpers[i].free.acquire(blocking=False):
            yield _helpers[i]


def work_together(job: Callable[[], None], helpers: int) -> None:
    """``job()`` on this thread and, at the same time, on up to so many helpers; all have ended when an error of one of
    them is raised."""
    signals = [helper.start(job) for helper in free_helpers(helpers)]
    errors: list[BaseException] = []
    try:
        job()
    except Exception as error:
        errors.append(error)
    for signal in signals:
        signal.take()
        errors += [signal.error] if signal.error is not None else []
    if errors:
        raise errors[0]
