"""Processes that share work: they end with the one that started them, however that ends."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from halfulp.emulator.processes import sharing

SCRIPT = """
import multiprocessing
import time
from halfulp.emulator.processes import sharing
if __name__ == "__main__":
    with sharing(2) as do:
        waiting = do(time.sleep, [600, 600])
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        list(waiting)
"""


def _alive(pid: int) -> bool:
    """A zombie, which nobody waits for, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _comes(true: Callable[[], bool], within_s: float = 60.0) -> bool:
    end = time.monotonic() + within_s
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def test_they_do_the_same_in_the_same_order() -> None:
    for processes in (1, 2):
        with sharing(processes) as do:
            assert list(do(pow, [2, 3, 5], [5, 2, 1])) == [32, 9, 5]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_they_end_when_the_one_that_started_them_is_killed(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, tmp_path / "work.py"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2 and all(map(_alive, pids))
    process.kill()
    process.wait()
    assert _comes(lambda: not any(map(_alive, pids)))


FAILING = """
import os
import sys
import time
from halfulp.emulator.errors import HalfulpError
from halfulp.emulator.processes import sharing

def work(seconds, much):
    if seconds < 0:
        raise HalfulpError("told")
    if seconds == 0:
        os._exit(1)
    time.sleep(seconds)

if __name__ == "__main__":
    first = int(sys.argv[1])
    try:
        with sharing(2) as do:
            results = do(work, [first] + [600] * 9, [bytes(1_000_000)] * 10)  # more than a pipe holds
            if first == 600:
                raise KeyboardInterrupt
            list(results)
    except BaseException as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (600, "KeyboardInterrupt"),
        (-1, "HalfulpError told"),
        (0, "HalfulpError a process that shared the work was"),
    ],
)
def test_what_goes_wrong_ends_them_at_once(tmp_path: Path, first: int, told: str) -> None:
    (tmp_path / "work.py").write_text(FAILING)
    command = [sys.executable, tmp_path / "work.py", str(first)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith(told) and not done.stderr


SCRATCH = """
import signal
import subprocess
import sys
import tempfile
import time
from halfulp.emulator.processes import started
from halfulp.emulator.silicon.characterize import _worker

def work(folder):
    with tempfile.TemporaryDirectory(dir=folder):
        time.sleep(600)

if __name__ == "__main__":
    pool = started(1, _worker)
    pool.submit(work, sys.argv[1])
    time.sleep(600)
"""


def test_what_a_process_was_at_is_tidied_up_when_the_first_is_killed(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "work.py").write_text(SCRATCH)
    process = subprocess.Popen([sys.executable, tmp_path / "work.py", scratch])
    assert _comes(lambda: any(scratch.iterdir()))
    process.kill()
    process.wait()
    assert _comes(lambda: not any(scratch.iterdir()))
