"""Helper threads: all take part, errors come back when all have stopped, nobody is lost or waits for ever."""

import gc
import os
import threading
import time
import weakref

import halfulp as hu
import numpy as np
import pytest
from halfulp.kernels import team
from halfulp.kernels.backends import Backend, lone_blas
from threadpoolctl import threadpool_info


def test_all_take_part_again_and_again():
    for pause in (0.0, 0.005):  # longer than they stay awake
        for _ in range(20):
            seen, gate = set(), threading.Barrier(3)

            def job(seen=seen, gate=gate):
                gate.wait(10)
                seen.add(threading.get_ident())

            team.work_together(job, 2)
            assert len(seen) == 3
            time.sleep(pause)


@pytest.mark.parametrize("culprit", ["caller", "helper"])
def test_an_error_is_raised_when_all_have_stopped(culprit):
    done, caller = [], threading.get_ident()
    gate = threading.Barrier(2)

    def job():
        gate.wait(10)
        if (threading.get_ident() == caller) == (culprit == "caller"):
            raise ValueError("this one")
        time.sleep(0.01)
        done.append(1)

    with pytest.raises(ValueError, match="this one"):
        team.work_together(job, 1)
    assert done == [1] and not team._helpers[0].free.locked()


def test_after_an_error_no_part_is_begun():
    begun = []

    def part(begin, end):
        begun.append(begin)
        raise ValueError

    with pytest.raises(ValueError):
        Backend(2).share(part, 1 << 20, 100, parts=8)
    assert len(begun) <= 2


def test_a_start_that_is_interrupted_loses_no_helper(monkeypatch):
    team.work_together(lambda: None, 1)

    def interrupted(signal):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(team.Signal, "give", interrupted)
        with pytest.raises(KeyboardInterrupt):
            team.work_together(lambda: None, 1)
    assert not team._helpers[0].free.locked()


def test_nothing_of_a_job_is_kept():
    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)

    def job(held=held):
        raise ValueError

    with pytest.raises(ValueError):
        team.work_together(job, 1)
    del job, held
    time.sleep(0.05)
    gc.collect()
    assert gone() is None


def test_nested_and_competing_calls_go_on_alone():
    inner = []
    team.work_together(lambda: team.work_together(lambda: inner.append(1), 1), 1)
    assert len(inner) >= 2
    a = hu.quantize(np.random.default_rng(0).standard_normal((200, 200)), "fp16")
    wanted = hu.Machine("fp16", threads=2).matmul(a, a).tobytes()
    found = []
    users = [
        threading.Thread(target=lambda: found.append(hu.Machine("fp16", threads=2).matmul(a, a).tobytes()))
        for _ in range(4)
    ]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert set(found) == {wanted}


def test_blas_has_its_threads_back():
    """However ``lone_blas`` is nested, and whatever is raised in it."""
    threads = lambda: [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]  # noqa: E731
    before = threads()
    with pytest.raises(ValueError), lone_blas, lone_blas:
        assert set(threads()) == {1}
        raise ValueError
    assert threads() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_helpers_of_its_own():
    a = hu.quantize(np.random.default_rng(0).standard_normal((200, 200)), "fp16")
    wanted = hu.Machine("fp16", threads=2).matmul(a, a)
    child = os.fork()
    if not child:
        same = np.array_equal(hu.Machine("fp16", threads=2).matmul(a, a), wanted)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
