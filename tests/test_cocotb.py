"""The cocotb example runs on Icarus Verilog, finds a right multiplier right, and a wrong one wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "cocotb_fp16_mul"


@pytest.mark.slow
@pytest.mark.parametrize("defines", [{}, {"TIES_UP": 1}], ids=["right", "wrong"])
def test_the_example_bench(
    defines: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    runner = pytest.importorskip("cocotb_tools.runner", reason="needs cocotb: pip install 'halfulp[test]'")
    if shutil.which("iverilog") is None:
        pytest.skip("needs Icarus Verilog: apt-get install iverilog")
    monkeypatch.syspath_prepend(str(EXAMPLE))  # the simulator's Python gets this path
    simulator = runner.get_runner("icarus")
    simulator.build(
        sources=[EXAMPLE / "fp16_mul.v"], hdl_toplevel="fp16_mul", defines=defines, build_dir=tmp_path, always=True
    )
    failed = ""
    try:
        results = simulator.test(hdl_toplevel="fp16_mul", test_module="bench", build_dir=tmp_path, test_dir=tmp_path)
        failed = "failed" if runner.get_results(results)[1] else ""
    except (SystemExit, RuntimeError) as error:
        failed = str(error)
    printed = capfd.readouterr()
    told = printed.out + printed.err
    if not defines:
        assert not failed and "fp16_mul RNE: 20,000 checked, no mismatch" in told, told
    else:
        assert failed and "fp16_mul RNE: 20,000 checked" in told and "tie" in told
        assert "apart    theirs 1 ulp above ours, the exact result 0.5 ulp above ours" in told
