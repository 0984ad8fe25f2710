"""What units take mapped as one module, beside the sum of their modules that prices are fitted to."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import halfulp as hu
import pytest
from halfulp.emulator.formats import FixedFormat
from halfulp.emulator.silicon.characterize import read_table
from halfulp.emulator.silicon.designs import find
from halfulp.kernels.hardware import measured_cost, normal_dots
from silicon_cases import LIBRARIES, needs_libraries, needs_yosys

ROOT = Path(__file__).parents[1]


def rows() -> list[dict[str, str]]:
    text = (ROOT / "reports" / "measured" / "one_module.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def ratio(row: dict[str, str]) -> float:
    return float(row["one_module_um2"]) / float(row["modules_um2"])


def test_the_readme_says_what_was_measured() -> None:
    assert len(rows()) == 302
    means = {}
    for library in ("asap7", "gt2n"):
        for fixed in (True, False):
            of = [r for r in rows() if r["library"] == library and fixed_point(r["design"]) is fixed]
            means[library, fixed] = math.exp(sum(math.log(ratio(r)) for r in of) / len(of))
    assert all(0.98 <= means[library, True] <= 0.99 for library in ("asap7", "gt2n")), means
    assert all(0.92 <= means[library, False] <= 0.935 for library in ("asap7", "gt2n")), means
    said = {r["design"]: ratio(r) for r in rows() if r["library"] == "gt2n"}
    assert round(said["fp8_e4m3/fp16"], 2) == 0.90 and round(said["fp32"], 2) == 0.98


def fixed_point(name: str) -> bool:
    datapath = find(name).parse()
    return isinstance(datapath.a, FixedFormat) and isinstance(datapath.accumulator, FixedFormat)


@needs_yosys
@needs_libraries
@pytest.mark.parametrize("name", ["fp8_e4m3/fp16", "int4/int16"])
def test_a_row_comes_out_again(name: str) -> None:
    pytest.importorskip("amaranth")
    found = measured_cost(name, LIBRARIES["gt2n"], normal_dots(hu.Datapath.parse(name)))
    (row,) = (r for r in rows() if (r["library"], r["design"]) == ("gt2n", name))
    assert float(row["one_module_um2"]) == pytest.approx(found.whole.area_um2, rel=1e-5)


def test_the_sums_of_modules_are_those_of_the_tables() -> None:
    for library in ("asap7", "gt2n"):
        table = read_table(ROOT / "emulator" / "silicon" / "tables" / f"{library}.csv").designs()
        for row in (r for r in rows() if r["library"] == library):
            (whole,) = (r for r in table[row["design"]] if r["part"] == "all")
            assert float(row["modules_um2"]) == float(whole["area_um2"])
