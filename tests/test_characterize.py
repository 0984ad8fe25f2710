"""Tables of libraries: made design by design, gone on with where they were, and no design stops the others."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator.functions import function
from halfulp.emulator.silicon import characterize
from halfulp.emulator.silicon.characterize import COLUMNS, characterise, parse, stem
from halfulp.emulator.silicon.designs import DISTRIBUTIONS, VECTORS, Design, designs, find, operands
from silicon_cases import LIBRARIES, needs_libraries, needs_yosys


class Port:
    """What ``operands`` sees of an Amaranth signal."""

    def __init__(self, name: str, bits: int) -> None:
        self.name, self.bits = name, bits

    def __len__(self) -> int:
        return self.bits


def test_designs_have_names_of_their_own_and_can_be_found_by_them() -> None:
    known = designs()
    assert len({design.name for design in known}) == len(known) > 170
    assert sum(design.held for design in known) == 22
    for design in known:
        assert find(design.name) == design
        assert isinstance(design.parse(), hu.Datapath) != design.is_function


def test_parts_are_named_by_what_they_are() -> None:
    names = {"multiply3_1": "multiply", "unpack_accumulator0": "unpack", "sum.x": "sum", "": "top"}
    assert {name: stem(name) for name in names} == names


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_operands_are_numbers_and_the_same_again(distribution: str) -> None:
    for text in ("fp16_add", "e2m1finite_mul", "q4.12_to_fp16", "posit16_to_fp32", "e4m3ftz_mul"):
        unit = function(text)
        ports = [Port(name, fmt.bits) for name, fmt in zip("abc", unit.numbers, strict=False)]
        drawn, again = (operands(ports, unit, distribution) for _ in range(2))
        assert drawn == again and all(len(codes) == VECTORS for codes in drawn.values())
        for codes, fmt in zip(drawn.values(), unit.numbers, strict=True):
            assert np.isfinite(fmt.decode(np.array(codes, np.uint64))).all()
            assert len(set(codes)) > min(10, 2 ** (fmt.bits - 1))


def test_operands_of_a_datapath_fill_its_lanes() -> None:
    datapath = hu.Datapath.parse("mxfp8_e4m3/fp32:fused4")
    ports = [Port("clear", 1), Port("a", 32), Port("a_scale", 8), Port("b", 32), Port("b_scale", 8)]
    drawn = operands(ports, datapath, "gaussian")
    assert set(drawn) == {port.name for port in ports}
    assert max(drawn["a"]).bit_length() > 24 and all(0 < code < 255 for code in drawn["a_scale"])
    assert drawn["clear"][0] == 1 and sum(drawn["clear"]) == VECTORS / 50


@needs_yosys
@needs_libraries
def test_a_table_is_gone_on_with(tmp_path: Path) -> None:
    pytest.importorskip("amaranth")
    out, seen = tmp_path / "asap7.csv", list[tuple[int, int, str]]()
    first, none, third = Design("e2m1finite_mul@RNE"), Design("fp16_div@RNE"), Design("int4/int16")
    failures = characterise(LIBRARIES["asap7"], out, lambda *done: seen.append(done), only=[first, none])
    assert list(failures) == ["fp16_div@RNE"] and "there is no RTL of fp16_div" in failures["fp16_div@RNE"]
    assert sorted(seen)[-1][:2] == (2, 2)
    before = parse(out.read_text())
    assert list(before.designs()) == [first.name] and not list(tmp_path.glob(".*"))
    seen.clear()
    assert characterise(LIBRARIES["asap7"], out, lambda *done: seen.append(done), only=[third, first]) == {}
    assert seen == [(1, 2, ""), (2, 2, third.name)]
    table = parse(out.read_text())
    assert list(table.designs()) == [third.name, first.name]
    assert table.designs()[first.name] == before.designs()[first.name]
    assert table.header["library"] == "asap7_rvt_tt.lib.gz" and table.header["tool"].startswith("Yosys ")
    row = table.designs()[third.name][0]
    assert row["part"] == "all" and float(row["area_um2"]) > 0 and float(row["delay_ns"]) > 0
    assert 0 < float(row["settled_gaussian_pj"]) <= float(row["inertial_gaussian_pj"])
    with pytest.raises(hu.HalfulpError, match=r"is another table \(library, name, digest"):
        characterise(LIBRARIES["gt2n"], out, only=[third])
    for line in ("tool: Yosys 0.1", "halfulp: 0.0.1"):
        other = re.sub(rf"# {line.split(':')[0]}: .*", f"# {line}", out.read_text())
        (tmp_path / "other.csv").write_text(other)
        with pytest.raises(hu.HalfulpError, match=rf"is another table \({line.split(':')[0]} differ\): remove it"):
            characterise(LIBRARIES["asap7"], tmp_path / "other.csv", only=[third])
        assert (tmp_path / "other.csv").read_text() == other


def killed_midway(design: Design, liberty: str) -> list[dict[str, str]]:
    """Instead of ``measure_design``: one of them has too little memory."""
    if design.subject == "int8/int32":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    return [dict.fromkeys(COLUMNS, "1") | {"design": design.name, "part": "all"}]


@needs_yosys
@needs_libraries
def test_a_killed_process_takes_no_more_than_what_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(characterize, "measure_design", killed_midway)
    names = [
        "int4/int16",
        "int8/int16",
        "int8/int24",
        "int8/int32",
        "int16/int48",
        "int8/int48",
        "int12/int32",
        "int24/int64",
    ]
    failures = characterise(LIBRARIES["gt2n"], tmp_path / "t.csv", processes=2, only=list(map(Design, names)))
    assert "int8/int32" in failures and len(failures) <= 2
    assert all("was killed: too little memory?" in why for why in failures.values())
    assert set(parse((tmp_path / "t.csv").read_text()).designs()) == set(names) - set(failures)
