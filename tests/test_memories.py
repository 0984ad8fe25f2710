"""The table of memories: sources, capacities, nodes, a table of the user's, and what is refused."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import halfulp as hu
import pytest
from array_cases import array
from halfulp.emulator import memories


def test_every_row_has_a_source_and_an_identifier() -> None:
    rows = memories.published()
    assert {row.kind for row in rows} == {"sram", "dram"} and len(rows) == 25
    for row in rows:
        assert len(row.source) > 20 and row.note, row
        assert re.fullmatch(r"10\.\d{4,}/\S+|jedec:JESD\S+", row.doi), row
        assert row.doi in row.cite


@pytest.mark.parametrize(
    ("node", "kib", "pj_per_64b", "basis"),
    [
        ("45nm", 8, 10, "table"),
        ("45nm", 32, 20, "table"),
        ("45nm", 1024, 100, "table"),
        ("7nm", 8, 7.5, "table"),
        ("7nm", 32, 8.5, "table"),
        ("7nm", 1024, 14, "table"),
        ("45nm", 16, 10 * 2**0.5, "interpolated"),
        ("45nm", 2, 10 / 2, "extrapolated"),
    ],
)
def test_sram_energy(node: str, kib: float, pj_per_64b: float, basis: str) -> None:
    each = array(node=node, sram_kib=kib).energy_per_bit_pj("sram")
    assert 64 * each.value == pytest.approx(pj_per_64b) and each.basis == basis


def test_rows_for_the_same_thing_are_averaged_in_a_band_that_covers_them() -> None:
    area = memories.price(memories.published(), "sram", "7nm", "area_um2_per_bit", 100)
    low, high = (1e6 * value / 8192 for value in (0.00028055, 0.00085449))
    assert area.value == pytest.approx((low * high) ** 0.5) and len(area.sources) == 2
    assert area.value / area.band <= low * 1.001 and area.value * area.band >= high * 0.999
    row = memories.published()[0]._replace(capacity_kib=None)
    apart = memories.price([row._replace(value=1.0), row._replace(value=100.0)], "sram", "45nm", "energy_pj_per_bit")
    assert apart.value == pytest.approx(10 / 64) and apart.band == pytest.approx(10)
    (noted,) = (row._replace(note="scaled from 45 nm") for row in [row])
    assert memories.price([noted], "sram", "45nm", "energy_pj_per_bit").basis == "scaled"


@pytest.mark.parametrize("quantity", ["energy_pj_per_bit", "area_um2_per_bit"])
def test_memories_are_scaled_to_nodes_without_a_row(quantity: str, kind: str = "sram") -> None:
    rows = memories.published()
    larger, smaller = (memories.price(rows, kind, node, quantity, 32) for node in ("45nm", "7nm"))
    between = memories.price(rows, kind, "16nm", quantity, 32)
    share = math.log(45 / 16) / math.log(45 / 7)
    assert between.value == pytest.approx(larger.value ** (1 - share) * smaller.value**share)
    assert between.basis == "scaled" and between.band == 2 * max(larger.band, smaller.band)
    assert between.sources == larger.sources | smaller.sources
    assert memories.price(rows, kind, "130nm", quantity, 32).value > larger.value
    with pytest.raises(hu.HalfulpError, match="for 45nm, not for '16nm'"):
        memories.price([row for row in rows if row.technology == "45nm"], kind, "16nm", quantity, 32)


def test_nodes_lie_between_those_beside_them() -> None:
    rows = [
        memories.published()[0]._replace(kind="register", technology=node, capacity_kib=None, value=value)
        for node, value in (("28nm", 5.0), ("22nm", 3.0), ("5nm", 1.0), ("asap7", 7.0))
    ]
    found = [memories.price(rows, "register", f"{n}nm", "energy_pj_per_bit") for n in (45, 28, 25, 22, 14, 11, 7, 5, 3)]
    assert all(a.value > b.value for a, b in itertools.pairwise(found))
    share = math.log(22 / 14) / math.log(22 / 5)
    assert 64 * found[4].value == pytest.approx(3.0 ** (1 - share))
    assert found[0].band == 2 * found[4].band  # beyond the table
    again = [rows[0], rows[0]._replace(technology="28.0nm"), rows[2]]
    assert memories.price(again, "register", "10nm", "energy_pj_per_bit").value > 0


HEAD = "technology,kind,capacity_kib,quantity,value,source,doi,note\n"
OWN = HEAD + (
    "45nm,sram,256,energy_pj_per_bit,0.5,our macro,,\n45nm,sram,,area_mm2_per_kib,0.002,our macro,,\n"
    "45nm,register,,energy_pj_per_bit,0.001,ours,,\n45nm,register,,area_um2_per_bit,4,ours,,\n"
    "HBM9,dram,,energy_pj_per_bit,1.5,ours,10.1000/9,not re-verified\nHBM9,dram,,bandwidth_gb_per_s,4000,ours,,\n"
)


def test_a_users_table_replaces_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(OWN)
    own = array(memories=tmp_path / "own.csv", dram="HBM9", sram_kib=256)
    assert own.energy_per_bit_pj("sram").value == 0.5 and own.dram_bytes_per_s == 4e12
    assert own.energy_per_bit_pj("dram").sources == {"ours; doi:10.1000/9 (not re-verified against the original)"}
    assert own.energy_per_bit_pj("register").value == 0.001 and own.area_by_part_um2["operand registers"] == 16 * 16 * 4
    assert array(memories=tmp_path / "own.csv", dram="HBM9", sram_kib=64).energy_per_bit_pj("sram").basis == "assumed"
    with pytest.raises(hu.HalfulpError, match="for HBM9, not for 'HBM2'"):
        array(memories=tmp_path / "own.csv")
    (tmp_path / "own.csv").write_text("".join(line for line in OWN.splitlines(True) if ",register," not in line))
    library = array(memories=tmp_path / "own.csv", dram="HBM9").energy_per_bit_pj("register")
    assert library == hu.Technology("45nm").register.energy_pj


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("technology,kind\n45nm,sram\n", "has no column capacity_kib, quantity"),
        (HEAD + "45nm,flash,,energy_pj_per_bit,1,x,,\n", "line 2: the kind is register, sram, dram, not 'flash'"),
        (HEAD + "45nm,sram,,energy_nj,1,x,,\n", "line 2: the quantity is .* not 'energy_nj'"),
        (HEAD + "45nm,sram,,energy_pj_per_bit,-1,x,,\n", "line 2: value is a positive number, not '-1'"),
        (HEAD + "45nm,sram,many,energy_pj_per_bit,1,x,,\n", "line 2: capacity_kib is a positive number, not 'many'"),
        (HEAD + "45nm,sram,,energy_pj_per_bit,1,,,\n", "line 2: no number without a technology and a source"),
        (HEAD, "has energy_pj_per_bit of sram for nothing, not for '45nm'"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_table_gets_a_sentence(text: str | None, sentence: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "own.csv").write_text(text)
    with pytest.raises(hu.HalfulpError, match=sentence):
        array(memories=tmp_path / "own.csv")
