"""Prices: published numbers come out as printed, everything else says what it is, and a ledger prices by hand."""

from __future__ import annotations

import re

import halfulp as hu
import pytest
from halfulp.emulator import cost as pricing

RNE = hu.RNE
fp16, fp32, bf16, int8 = (hu.format(name) for name in ("fp16", "fp32", "bf16", "int8"))


def test_every_row_has_a_source_and_an_identifier() -> None:
    assert len(pricing.table()) > 40
    for row in pricing.table():
        assert row.node and row.unit and row.value > 0 and len(row.source) > 20
        assert re.fullmatch(r"10\.\d{4,}/\S+|isbn:[\d-]+", row.doi), row


@pytest.mark.parametrize(
    ("node", "unit", "name", "picojoule"),
    [
        ("45nm", "mul", "fp32", 3.7),
        ("45nm", "add", "fp32", 0.9),
        ("45nm", "mul", "fp16", 1.1),
        ("45nm", "add", "fp16", 0.4),
        ("45nm", "mul", "int8", 0.2),
        ("45nm", "add", "int32", 0.1),
        ("7nm", "mul", "bf16", 0.21),
        ("7nm", "add", "fp32", 0.38),
        ("7nm", "mul", "int8", 0.07),
    ],
)
def test_published_energies_come_out_as_printed(node: str, unit: str, name: str, picojoule: float) -> None:
    fmt = hu.format(name)
    price = hu.Technology(node).unit(hu.Operation(unit, fmt, fmt, fmt, RNE)).energy_pj
    assert price.value == picojoule and price.basis == "table" and len(price.sources) == 1


def test_other_widths_say_that_they_are_estimates() -> None:
    technology = hu.Technology("45nm")

    def basis(name: str) -> str:
        fmt = hu.format(name)
        return technology.unit(hu.Operation("mul", fmt, fmt, fmt)).energy_pj.basis

    assert basis("e8m15") == "interpolated"  # p = 16 between 11 and 24
    assert basis("q12.4") == "interpolated"
    assert basis("tf32") == "interpolated"  # fp16's precision, but not fp16
    assert basis("fp8_e4m3") == basis("fp64") == basis("q3.1") == "extrapolated"
    price = hu.Technology("7nm").unit(hu.Operation("mul", fp32, fp32, fp32))
    assert price.energy_pj.basis == "table" and price.area_um2.basis == "scaled"


def test_wider_never_costs_less() -> None:
    for unit in ("mul", "add"):
        for series in (
            ["e4m3", "e5m5", "fp16", "e8m15", "fp32", "e11m40", "fp64"],
            ["q2.2", "q4.4", "q8.4", "q8.8", "q16.8", "q16.16", "q24.24"],
        ):
            costs = [hu.Technology("45nm").unit(hu.Operation(unit, f, f, f)) for f in map(hu.format, series)]
            for quantity in pricing.QUANTITIES:
                values = [getattr(c, quantity).value for c in costs]
                assert values == sorted(values), (unit, series, quantity)


def test_a_run_is_priced_as_counts_times_energies() -> None:
    ledger = hu.Ledger()
    ledger.count(hu.Operation("mul", fp16, fp16, None), 1000)
    ledger.count(hu.Operation("add", fp32, fp32, fp32), 500)
    ledger.move(64 * 7)
    priced = hu.Technology("45nm").price(ledger)
    assert priced.arithmetic_pj == pytest.approx(1000 * 1.1 + 500 * 0.9, rel=1e-12)
    assert priced.memory_pj == pytest.approx(7 * 20.0, rel=1e-12)  # 64-bit accesses of 32 KiB
    assert priced.band_pj[0] < priced.total_pj < priced.band_pj[1] and len(priced.sources) == 1


def test_cost_of_a_datapath() -> None:
    price = hu.cost("fp16/fp32")
    assert isinstance(price, hu.Cost)
    assert (
        price.energy_pj == pytest.approx(1.1 + 0.9)
        and price.area_um2 == pytest.approx(1640 + 4184)
        and price.macs_per_cycle == 1
    )
    fused = hu.cost(hu.Datapath("fp16", accumulator="fp32", order=hu.fused(4)))
    assert fused.macs_per_cycle == 4 and fused.basis["energy_pj"] == "assumed"
    # one normalisation and rounding for four terms: less area and energy per term than four separate units
    assert price.area_um2 < fused.area_um2 < 4 * price.area_um2 and fused.energy_pj < price.energy_pj
    guarded = hu.cost(hu.Datapath("fp16", accumulator="fp32", order=hu.fused(4, guard_bits=8)))
    staged = hu.cost(hu.Datapath("fp16", accumulator="fp32", order=hu.two_stage(4, 1, 7)))  # its second stage keeps 8
    assert staged.area_um2 == guarded.area_um2 and staged.energy_pj == guarded.energy_pj and staged.macs_per_cycle == 4
    assert guarded.area_um2 > fused.area_um2 and guarded.energy_pj > fused.energy_pj
    assert "doi:10.1109/ISSCC.2014.6757323" in "".join(price.sources)
    assert all(price.band[q][0] < getattr(price, q) < price.band[q][1] for q in pricing.QUANTITIES)
    assert price.basis == {"energy_pj": "table", "area_um2": "table", "delay_ns": "assumed"} and "source:" in str(price)


def test_cost_keeps_every_part() -> None:
    rounded = hu.cost(hu.Datapath("fp16", product="bf16", accumulator="fp32", output="bf16"))
    assert rounded.energy_pj == pytest.approx(1.1 + 0.9)
    names = [name for name, _, _ in rounded.parts]
    assert [name.split()[0] for name in names] == ["mul", "add", "round"]
    plain = hu.cost("fp16/fp32")
    assert rounded.area_um2 == pytest.approx(
        plain.area_um2 + hu.Technology("45nm")._scalar("add", False, 16, "area_um2").value
    )


def test_stochastic_rounding_costs_its_bits() -> None:
    plain, stochastic = hu.cost("bf16@RNE"), hu.cost("bf16@SR8")
    assert stochastic.energy_pj == pytest.approx(plain.energy_pj + 0.03) and stochastic.area_um2 == pytest.approx(
        plain.area_um2 + 36
    )


def test_an_unknown_node_lists_the_known_ones() -> None:
    with pytest.raises(hu.HalfulpError, match="45nm or 7nm"):
        hu.cost("fp16", node="3nm")


def test_ledgers_add_subtract_and_print() -> None:
    one, two = hu.Ledger(), hu.Ledger()
    op = hu.Operation("mul", bf16, bf16, None)
    one.count(op, 3)
    two.count(op, 4)
    two.move(10)
    assert (one + two).n_mul == 7 and (one + two - two) == one and one.copy() == one
    assert one.n_add == 0 and "e8m7*e8m7 -> exact" in repr(one) and repr(hu.Ledger()) == "Ledger (empty)"
