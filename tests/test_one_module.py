"""What units take mapped as one module, beside the sum of their modules that prices are fitted to."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator.formats import FixedFormat
from halfulp.emulator.silicon.characterize import read_table
from halfulp.emulator.silicon.designs import Design, find
from halfulp.reports import one_module
from silicon_cases import LIBRARIES, needs_libraries, needs_yosys

ROOT = Path(__file__).parents[1]


def rows(path: Path = ROOT / "reports" / "measured" / "one_module.csv") -> list[dict[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def ratio(row: dict[str, str]) -> float:
    return float(row["one_module_um2"]) / float(row["modules_um2"])


def test_the_readme_says_what_was_measured() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "of fixed point by 1 to 2 % on average, with floats by 7 to 8 %, nine in ten of these by 1 to 15 %" in readme
    assert "(`fp8_e4m3/fp16` 10 to 11 %, `fp32` 1 to 4 %): 155 datapaths on three libraries" in readme
    assert len(rows()) == 3 * 155 and {r["library"] for r in rows()} == set(LIBRARIES)
    for library in LIBRARIES:
        of = {r["design"]: 1 - ratio(r) for r in rows() if r["library"] == library}
        fixed, floats = ([x for name, x in of.items() if fixed_point(name) is wanted] for wanted in (True, False))
        assert round(mean(fixed), 2) in (0.01, 0.02) and round(mean(floats), 2) in (0.07, 0.08)
        assert 0.01 <= round(np.quantile(floats, 0.05), 2) < round(np.quantile(floats, 0.95), 2) <= 0.15
        assert round(of["fp8_e4m3/fp16"], 2) in (0.10, 0.11) and 0.01 <= round(of["fp32"], 2) <= 0.04


def mean(smaller: list[float]) -> float:
    """Geometric, of the ratios."""
    return 1 - math.exp(sum(math.log(1 - x) for x in smaller) / len(smaller))


def fixed_point(name: str) -> bool:
    datapath = find(name).parse()
    return isinstance(datapath.a, FixedFormat) and isinstance(datapath.accumulator, FixedFormat)


@needs_yosys
@needs_libraries
@pytest.mark.parametrize("name", ["fp8_e4m3/fp16", "int4/int16"])
def test_a_row_comes_out_again(name: str) -> None:
    pytest.importorskip("amaranth")
    for library in LIBRARIES:
        (row,) = (r for r in rows() if (r["library"], r["design"]) == (library, name))
        assert row["one_module_um2"] == f"{one_module.area_um2(name, str(LIBRARIES[library])):.6g}"


@needs_yosys
@needs_libraries
@pytest.mark.parametrize(("name", "times"), [("fp16_to_fp32", "1.6"), ("fp8_e5m2_to_fp16", "7")])
def test_conversions_between_floats_are_priced_too_dear(name: str, times: str) -> None:
    pytest.importorskip("amaranth")
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "priced 1.6 to 7 times what they take as one module (ASAP7" in readme
    found = hu.cost(name, "7nm").area_um2 / one_module.area_um2(f"{name}@RNE", str(LIBRARIES["asap7"]))
    assert f"{found:.{len(times.replace('.', ''))}g}" == times


@needs_yosys
@needs_libraries
def test_the_command_writes_such_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("amaranth")
    monkeypatch.setattr(one_module, "designs", lambda: [Design("int4/int16"), Design("e4m3_add@RNE")])
    one_module.main([str(LIBRARIES["gt2n"]), "--out", str(tmp_path / "rows.csv"), "--jobs", "1"])
    (row,) = rows(tmp_path / "rows.csv")
    assert row in rows()
    with pytest.raises(hu.HalfulpError, match="none of the packaged tables is of this library, sha256 0"):
        one_module.packaged("0")


def test_the_sums_of_modules_are_those_of_the_tables() -> None:
    for library in LIBRARIES:
        table = read_table(ROOT / "emulator" / "silicon" / "tables" / f"{library}.csv").designs()
        for row in (r for r in rows() if r["library"] == library):
            (whole,) = (r for r in table[row["design"]] if r["part"] == "all")
            assert row["modules_um2"] == whole["area_um2"]
