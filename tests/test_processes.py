"""Processes that share work: they end with the one that started them, however that ends."""

from __future__ import annotations

import subprocess
import sys
import time
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


def _gone(pids: list[int], within_s: float = 30.0) -> bool:
    end = time.monotonic() + within_s
    while any(map(_alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(_alive, pids))


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
    assert _gone(pids)


def test_what_goes_wrong_ends_them_at_once() -> None:
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), sharing(2) as do:
        do(time.sleep, [600, 600, 600])
        raise KeyboardInterrupt
    assert time.monotonic() - begin < 60
