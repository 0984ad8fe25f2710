"""Prices: everything says what it is, published numbers come out as printed if asked for, and a ledger by hand."""

from __future__ import annotations

import itertools
import math
import re
import time

import halfulp as hu
import pytest
from halfulp.emulator import technology as pricing
from halfulp.emulator.ledger import dot_operations

RNE = hu.RNE
fp16, fp32, bf16, int8 = (hu.format(name) for name in ("fp16", "fp32", "bf16", "int8"))


def test_every_row_has_a_source_and_an_identifier() -> None:
    assert len(pricing.table()) == 36
    for row in pricing.table():
        assert not row.unit.startswith(("sram", "dram"))  # those are in memories.csv
        assert row.node and row.unit and row.value > 0 and len(row.source) > 20
        assert re.fullmatch(r"10\.\d{4,}/\S+|isbn:[\d-]+", row.doi), row


def test_what_is_no_unit_is_refused() -> None:
    with pytest.raises(hu.HalfulpError, match="the name of one, not 3"):
        hu.cost(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("node", "unit", "name", "picojoule"),
    [
        ("45nm", "mul", "fp32", 3.7),
        ("45nm", "add", "fp32", 0.9),
        ("45nm", "mul", "fp16", 1.1),
        ("45nm", "add", "fp16", 0.4),
        ("45nm", "mul", "int8", 0.2),
        ("45nm", "add", "int32", 0.1),
    ],
)
def test_published_energies_come_out_as_printed(node: str, unit: str, name: str, picojoule: float) -> None:
    fmt = hu.format(name)
    price = hu.Technology(node, published=True).unit(hu.Operation(unit, fmt, fmt, fmt, RNE)).energy_pj
    assert price.value == picojoule and price.basis == "table" and len(price.sources) == 1


def test_prices_come_from_libraries() -> None:
    """ASAP7's energies lie around those of Jouppi et al. (ISCA 2021) for 7 nm: both predict a process, not the same."""
    technology, ratios = hu.Technology("7nm"), []
    for row in pricing.table():
        if row.node == "7nm" and row.quantity == "energy_pj" and row.unit in ("mul", "add"):
            fmt = hu.format(row.format)
            price = technology.unit(hu.Operation(row.unit, fmt, fmt, fmt)).energy_pj
            assert price.basis in ("fitted", "extrapolated") and "ASAP7".lower() in "".join(price.sources)
            ratios.append(math.log(price.value / row.value))
    assert len(ratios) == 10 and abs(sum(ratios) / 10) < math.log(1.2) and max(map(abs, ratios)) < math.log(2)


def test_leakage_is_fitted_and_lies_between_two_libraries_elsewhere() -> None:
    for text in ("int8/int32", "fp8_e4m3/fp32:fused4g2"):
        prices = {node: hu.cost(text, node) for node in ("130nm", "45nm", "7nm", "3nm", "2nm")}
        assert [price.basis["leakage_nw"] for price in prices.values()] == [
            "fitted",
            "scaled",
            "fitted",
            "scaled",
            "fitted",
        ]
        values = {node: price.leakage_nw for node, price in prices.items()}
        for node, larger, smaller in (("45nm", "130nm", "7nm"), ("3nm", "7nm", "2nm")):
            low, high = sorted((values[larger], values[smaller]))
            assert 0 < low < values[node] < high and prices[node].band["leakage_nw"][1] > 2 * values[node]
            assert set(prices[node].sources) > {*prices[larger].sources, *prices[smaller].sources}


def test_function_units_are_priced_as_the_operations_of_ledgers() -> None:
    technology = hu.Technology("7nm")
    fp8 = hu.format("fp8_e4m3")
    for name, operation in {
        "fp16_add": hu.Operation("add", fp16, fp16, fp16, hu.RTZ),
        "fp16_sub": hu.Operation("add", fp16, fp16, fp16, hu.RTZ),
        "bf16_mul": hu.Operation("mul", bf16, bf16, bf16, hu.RTZ),
        "bf16_to_fp8_e4m3": hu.Operation("round", bf16, bf16, fp8, hu.RTZ),
    }.items():
        found, unit = hu.cost(name, "7nm", rounding="RTZ"), technology.unit(operation)
        assert found.area_um2 == pytest.approx(unit.area_um2.value) and found.delay_ns == unit.delay_ns.value
        assert found.energy_pj == pytest.approx(unit.energy_pj.value)
    assert hu.cost("fp16_fma", "7nm").area_um2 > hu.cost("fp16_mul", "7nm").area_um2
    assert hu.cost("fp16_fma", "7nm").leakage_nw > 0
    with pytest.raises(hu.HalfulpError, match="no hardware of fp16_div"):
        hu.cost("fp16_div", "7nm")


def test_other_widths_say_that_they_are_estimates() -> None:
    def price(node: str, name: str) -> pricing.UnitCost:
        fmt = hu.format(name)
        return hu.Technology(node).unit(hu.Operation("mul", fmt, fmt, fmt))

    for name in ("e8m15", "q12.4", "tf32", "fp8_e4m3", "fp64", "q3.1"):
        assert price("45nm", name).energy_pj.basis == "scaled"
    for node in ("130nm", "7nm", "2nm"):
        assert {p.basis for p in price(node, "fp16")} == {"fitted"}
        assert {p.basis for p in price(node, "fp64")} == {"extrapolated"}
        assert price(node, "fp64").area_um2.band > price(node, "fp16").area_um2.band
    assert {p.basis for p in price("28nm", "fp16")} == {p.basis for p in price("5nm", "fp16")} == {"scaled"}
    published = hu.Technology("45nm", published=True).unit(hu.Operation("mul", fp32, fp32, fp32))
    assert published.energy_pj.basis == published.area_um2.basis == "table"
    assert price("28nm", "fp32").energy_pj.band > price("7nm", "fp32").energy_pj.band


def test_wider_never_costs_less() -> None:
    for unit in ("mul", "add"):
        for series in (
            ["e4m3", "e5m5", "fp16", "e8m15", "fp32", "e11m40", "fp64"],
            ["q2.2", "q4.4", "q8.4", "q8.8", "q16.8", "q16.16", "q24.24"],
        ):
            for node in ("130nm", "45nm", "28nm", "7nm", "5nm", "2nm"):
                costs = [hu.Technology(node).unit(hu.Operation(unit, f, f, f)) for f in map(hu.format, series)]
                for quantity in pricing.QUANTITIES:
                    values = [getattr(c, quantity).value for c in costs]
                    assert values == sorted(values), (unit, series, quantity, node)


def test_a_run_is_priced_as_counts_times_energies() -> None:
    ledger = hu.Ledger()
    ledger.count(hu.Operation("mul", fp16, fp16, None), 1000)
    ledger.count(hu.Operation("add", fp32, fp32, fp32), 500)
    ledger.move(64 * 7)
    priced = hu.Technology("45nm", published=True).price(ledger)
    assert priced.arithmetic_pj == pytest.approx(1000 * 1.1 + 500 * 0.9, rel=1e-12)
    assert priced.memory_pj == pytest.approx(7 * 20.0, rel=1e-12)  # 64-bit accesses of 32 KiB
    assert priced.band_pj[0] < priced.total_pj < priced.band_pj[1] and len(priced.sources) == 1


def test_cost_of_a_datapath() -> None:
    price = hu.cost("fp16/fp32", published=True)
    assert isinstance(price, hu.Cost)
    assert (
        price.energy_pj == pytest.approx(1.1 + 0.9)
        and price.area_um2 == pytest.approx(1640 + 4184)
        and price.macs_per_cycle == 1
    )
    assert "doi:10.1109/ISSCC.2014.6757323" in "".join(price.sources)
    scaled = {"delay_ns": "scaled", "leakage_nw": "scaled"}
    assert price.basis == {"energy_pj": "table", "area_um2": "table"} | scaled and "source:" in str(price)
    for node in ("45nm", "7nm"):
        one = hu.cost("bf16/fp32", node)
        fused = hu.cost("bf16/fp32:fused4", node)
        assert fused.macs_per_cycle == 4 and fused.basis["energy_pj"] in ("fitted", "scaled")
        # one normalisation and rounding for four terms: less area and energy per term than four separate units
        assert one.area_um2 < fused.area_um2 < 4 * one.area_um2 and fused.energy_pj < one.energy_pj
        guarded = hu.cost("bf16/fp32:fused4g8", node)
        staged = hu.cost("bf16/fp32:twostage4g1s7", node)  # its second stage keeps 8
        assert staged.area_um2 == guarded.area_um2 and staged.energy_pj == guarded.energy_pj
        assert guarded.area_um2 > fused.area_um2 and guarded.energy_pj > fused.energy_pj
        for found in (one, fused, guarded):
            assert all(found.band[q][0] < getattr(found, q) < found.band[q][1] for q in pricing.QUANTITIES)


@pytest.mark.parametrize("node", ["130nm", "28nm", "7nm", "5nm", "2nm"])
def test_cost_keeps_every_part(node: str) -> None:
    rounded = hu.cost(hu.Datapath("fp16", product="bf16", accumulator="fp32", output="bf16"), node)
    names = [name for name, _, _ in rounded.parts]
    assert names.count("round") == 3 and names.count("multiply") == names.count("align") == names.count("add") == 1
    assert rounded.area_um2 == pytest.approx(sum(unit.area_um2.value for _, _, unit in rounded.parts), rel=1e-12)
    plain = hu.cost(hu.Datapath("fp16", product="bf16", accumulator="fp32"), node)
    assert rounded.area_um2 > plain.area_um2 and rounded.energy_pj == pytest.approx(plain.energy_pj, rel=1e-12)


def test_stochastic_rounding_costs_its_bits() -> None:
    for node in ("130nm", "45nm", "7nm", "2nm"):
        costs = [hu.cost(f"bf16@{mode}", node) for mode in ("RTZ", "RNE", "SR4", "SR8", "SR12")]
        for quantity in ("energy_pj", "area_um2"):
            values = [getattr(cost, quantity) for cost in costs]
            assert values == sorted(values) and values[0] < values[1] < values[-1]


@pytest.mark.parametrize(
    "text", ["fp16/fp32", "bf16/fp32@SR8:fused8g2", "int8/int32:fused4", "e4m3/fp16:tree4", "q4.4/q8.4"]
)
@pytest.mark.parametrize("node", ["7nm", "45nm"])
def test_a_ledger_takes_what_its_unit_takes_without_registers(text: str, node: str) -> None:
    ledger, datapath = hu.Ledger(), hu.Datapath.parse(text)
    for operation, n in dot_operations(datapath, 960).items():
        ledger.count(operation, n)
    price = hu.cost(datapath, node)
    registers = sum(unit.energy_pj.value for name, _, unit in price.parts if name == "top") / price.macs_per_cycle
    assert hu.Technology(node).price(ledger).total_pj == pytest.approx(960 * (price.energy_pj - registers), rel=1e-9)


def test_what_is_larger_than_all_that_was_measured_says_so() -> None:
    inside, outside = hu.cost("bf16/fp32", "7nm"), hu.cost("fp64", "7nm")
    assert not inside.warnings and "larger than all that was measured: " in str(outside)
    assert "multiply (" in outside.warnings[0] and outside.basis["area_um2"] == "extrapolated"
    relative = [c.band["area_um2"][1] / c.area_um2 for c in (inside, outside)]
    assert relative[1] > 1.4 * relative[0]


def test_prices_come_in_an_instant() -> None:
    """Those of units never asked for before; the median, in time of this process, as others may run beside it."""
    for node in ("45nm", "7nm", "3nm"):
        hu.cost("fp16", node)
        taken = []
        for t, u in itertools.product(range(1, 11), range(5, 25)):
            datapath = hu.Datapath.parse(f"e5m{t}/e8m{u}{('', ':fused4', '@SR8', ':systolic4')[(t + u) % 4]}")
            start = time.process_time()
            hu.cost(datapath, node)
            taken.append(time.process_time() - start)
        assert sorted(taken)[len(taken) // 2] < 2e-3
    start = time.process_time()
    for _ in range(100):
        hu.cost("fp8_e4m3/fp32:fused8", "7nm")
    assert time.process_time() - start < 100 * 1e-3


def test_leakage_is_that_of_the_whole_unit() -> None:
    price = hu.cost("bf16/fp32:fused4", "7nm")
    assert price.leakage_nw == pytest.approx(sum(unit.leakage_nw.value for _, _, unit in price.parts), rel=1e-12)
    assert price.band["leakage_nw"][0] < price.leakage_nw < price.band["leakage_nw"][1]
    ends = [hu.cost("bf16/fp32:fused4", node).leakage_nw for node in ("130nm", "7nm")]
    scaled = hu.cost("bf16/fp32:fused4", "45nm")
    assert scaled.band["leakage_nw"][0] <= min(ends) <= max(ends) <= scaled.band["leakage_nw"][1]


def test_published_prices_are_of_that_very_unit() -> None:
    technology = hu.Technology("45nm", published=True)
    fp16, fp32 = hu.format("fp16"), hu.format("fp32")
    for result, basis in ((None, "table"), (fp16, "table"), (fp32, "scaled")):
        assert technology.unit(hu.Operation("mul", fp16, fp16, result)).energy_pj.basis == basis
    assert hu.cost("fp16_mul_to_fp32", published=True).basis["area_um2"] == "scaled"
    with pytest.raises(hu.HalfulpError, match="the published price of fp32@RNE is without registers: pipeline=0"):
        hu.cost("fp32", published=True, pipeline=1)


def test_what_is_not_published_is_told() -> None:
    every = "energy_pj, area_um2, delay_ns, leakage_nw"
    for unit, node, said in (
        ("fp16_mul_to_fp32", "45nm", f"no published table here has {every} of fp16_mul_to_fp32"),
        ("int5/int20", "45nm", f"no published table here has {every} of q5.0/q20.0"),
        ("fp16_mul", "7nm", "published prices are those of nodes without a cell library, which 7nm has"),
        ("fp16/fp32", "7nm", "published prices are those of nodes without a cell library, which 7nm has"),
    ):
        found, plain = hu.cost(unit, node, published=True), hu.cost(unit, node)
        assert found.warnings[-1].startswith(said) and found.energy_pj == plain.energy_pj
        assert not any("published" in warning for warning in plain.warnings)
    (some,) = hu.cost("fp16/fp32", "45nm", published=True).warnings
    assert "energy_pj" not in some and "leakage_nw" in some


@pytest.mark.parametrize("written", ["7nm", "7", "07nm", "7NM", " 7 nm", "7.0"])
def test_nodes_have_one_name(written: str) -> None:
    assert hu.cost("int8/int32", written) == hu.cost("int8/int32", "7nm")
    assert hu.Technology(written) == hu.Technology("7nm")
    array = hu.Array(2, 2, "int8/int32", sram_kib=8, clock_mhz=10, node=written)
    assert array.node == "7nm" and array.energy_per_bit_pj("sram").basis == "table"


def test_lanes_that_idle_in_a_blocks_last_clock_take_energy() -> None:
    """A block of 10 products takes a unit of 4 lanes three clocks, as one of 12 does."""
    found, full = (hu.cost(f"fp8_e4m3/fp32:blocked{n}(e8m13@RTZ:fused4)", "7nm") for n in (10, 12))
    assert found.area_um2 == full.area_um2 and found.macs_per_cycle == full.macs_per_cycle == 4
    outer = sum(part.energy_pj for part in full.components if part.name.startswith("block"))
    assert found.energy_pj == pytest.approx(full.energy_pj * 1.2, rel=1e-9) and 0 < outer < full.energy_pj


def test_an_unknown_node_lists_the_known_ones() -> None:
    for node in ("1nm", "180nm", "7um", "seven"):
        with pytest.raises(hu.HalfulpError, match=r"choose 130nm, 90nm, .* or 2nm"):
            hu.cost("fp16", node=node)


def test_ledgers_add_subtract_and_print() -> None:
    one, two = hu.Ledger(), hu.Ledger()
    op = hu.Operation("mul", bf16, bf16, None)
    one.count(op, 3)
    two.count(op, 4)
    two.move(10)
    assert (one + two).n_mul == 7 and (one + two - two) == one and one.copy() == one
    assert one.n_add == 0 and "e8m7*e8m7 -> exact" in repr(one) and repr(hu.Ledger()) == "Ledger (empty)"
