"""What the cost model promises: how far it is off, on each library, and that more never costs less."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import prices
from halfulp.emulator.prices import LIBRARIES, library
from halfulp.emulator.silicon.characterize import COMMAND, ENERGIES, Table, parse
from halfulp.emulator.silicon.designs import designs, find
from halfulp.emulator.silicon.fit import _summary, fit

TABLES = Path(__file__).parents[1] / "emulator" / "silicon" / "tables"
QUANTITIES = ("area_um2", "leakage_nw", *ENERGIES)
NODES = list(LIBRARIES)


def table(node: str) -> Table:
    return parse((TABLES / f"{LIBRARIES[node]}.csv").read_text(encoding="utf-8"))


@pytest.mark.parametrize("distribution", ["gaussian", "uniform"])
@pytest.mark.parametrize("node", NODES)
def test_errors_are_what_is_promised(node: str, distribution: str) -> None:
    errors = library(node).errors
    area, settled, inertial = (
        errors[q] for q in ("area_um2", f"settled_{distribution}_pj", f"inertial_{distribution}_pj")
    )
    assert area.mean <= 0.05 and area.p90 <= 0.15
    assert settled.mean <= 0.08 and inertial.mean <= 0.121
    assert area.held_mean <= 0.10 and settled.held_mean <= 0.20 and inertial.held_mean <= 0.20
    assert errors["leakage_nw"].mean <= 0.06 and errors["delay_ns"].mean <= 0.10


def test_the_readme_says_how_far_fits_are_off() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    said = " ".join(readme.split())
    assert "off by 4 % of its area on average (by less than 8 % of 90 % of them)" in said
    assert "by 7 to 8 % of its energy without glitches and by 10 to 12 % with them" in said
    for errors in (library(node).errors for node in NODES):
        assert round(errors["area_um2"].mean, 2) == 0.04 and errors["area_um2"].p90 < 0.08
        for distribution in ("uniform", "gaussian"):
            assert 0.07 <= round(errors[f"settled_{distribution}_pj"].mean, 2) <= 0.08
            assert 0.10 <= round(errors[f"inertial_{distribution}_pj"].mean, 2) <= 0.12


@pytest.mark.parametrize("node", NODES)
def test_a_table_says_what_made_it(node: str) -> None:
    found = table(node)
    assert found.header["command"] == COMMAND and len(found.header["digest"]) == 16
    assert found.header["tool"].startswith("Yosys") and "/" not in found.header["library"]
    known = found.designs()
    assert len(known) >= 150 and set(known) <= {design.name for design in designs()}
    assert sum(find(name).held for name in known) >= 15
    for rows in known.values():
        total = next(row for row in rows if row["part"] == "all")
        for quantity in QUANTITIES:
            parts = sum(float(row[quantity]) for row in rows if row["part"] != "all")
            assert parts == pytest.approx(float(total[quantity]), rel=1e-4)
    assert parse(found.text()) == found


@pytest.mark.parametrize("node", NODES)
def test_the_packaged_fit_is_that_of_the_packaged_table(node: str) -> None:
    again = fit(table(node))
    assert again.errors == library(node).errors
    for quantity, kinds in library(node).coefficients.items():
        for kind, values in kinds.items():
            assert again.coefficients[quantity][kind] == pytest.approx(values, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("node", NODES)
def test_nothing_is_negative(node: str) -> None:
    for kinds in library(node).coefficients.values():
        assert all(c >= 0 for values in kinds.values() for c in values)
    assert all(c >= 0 for c in library(node).delay)


# ---- the fit itself


def test_a_fit_finds_what_a_table_was_made_of() -> None:
    """A made-up library, whose parts take exactly coefficients times counts."""
    draw, real = random.Random(2), table("7nm")
    truth = {q: {k: [draw.random() for _ in v] for k, v in library("7nm").coefficients[q].items()} for q in QUANTITIES}
    rows = []
    for name, old in real.designs().items():
        design = find(name)
        found = design.plan()
        parts: dict[str, dict[str, float]] = {}
        for part in found.parts:
            into = parts.setdefault(part.name, dict.fromkeys(QUANTITIES, 0.0))
            for quantity in QUANTITIES:
                counts = prices.features(part, quantity)
                into[quantity] += sum(c * x for c, x in zip(truth[quantity][part.kind], counts, strict=True))
        total = {quantity: sum(values[quantity] for values in parts.values()) for quantity in QUANTITIES}
        for part_name, values in ({"all": total} | parts).items():
            row = {"design": name, "part": part_name, "instances": "1", "delay_ns": old[0]["delay_ns"]}
            rows.append(row | {quantity: repr(value) for quantity, value in values.items()})
    found_fit = fit(Table(real.header, tuple(rows)))
    for quantity in QUANTITIES:
        errors = found_fit.errors[quantity]  # but of designs with a part of which there is no other one
        assert errors.p90 < 1e-3 and errors.held_p90 < 1e-3 and errors.mean < 5e-3


def small(**changed: str) -> Table:
    """Four designs of a table, each cell of a column as it is told."""
    real = table("7nm")
    names = ("int8/int16", "int8/int32", "int4/int16", "q6.6/q8.8")
    return Table(real.header, tuple(row | changed for name in names for row in real.designs()[name]))


def test_tables_that_say_too_little_are_refused() -> None:
    fit(small())
    for cell in ("", "nan", "-1", "x"):
        with pytest.raises(hu.HalfulpError, match=f"area_um2 of int8/int16, all, is '{cell}' in the table: no number"):
            fit(small(area_um2=cell))
    without = small()
    with pytest.raises(hu.HalfulpError, match="the table does not say what all of int8/int16 takes"):
        fit(Table(without.header, tuple(row for row in without.rows if row["part"] != "all")))
    rows = tuple(row | {"leakage_nw": "0"} if row["design"] == "int8/int32" else row for row in without.rows)
    with pytest.raises(hu.HalfulpError, match="int8/int32 leaks nothing in the table, and others do"):
        fit(Table(without.header, rows))


def test_a_library_may_leak_nothing_and_hold_out_nothing() -> None:
    found = fit(small(leakage_nw="0"))
    assert set(found.coefficients["leakage_nw"]["integers"]) == {0.0} and found.errors["leakage_nw"].factor == 1
    assert found.errors["area_um2"].held_mean is not None
    rows = tuple(row for row in small().rows if row["design"] != "q6.6/q8.8")
    assert fit(Table(small().header, rows)).errors["area_um2"].held_p90 is None


def test_a_fitted_library_has_no_impossible_numbers() -> None:
    text = library("7nm").text()
    assert prices.parse(text) == library("7nm")
    for change in ({"delay": [-1.0] * 8}, {"stir": {"add": math.nan}}, {"stir": {"add": "x"}}, {"designs": -1}):
        data = json.loads(text)
        data |= {"delay": [-1.0] * len(data["delay"])} if "delay" in change else change
        with pytest.raises(hu.HalfulpError, match=r"no number from 0 on|no fitted library"):
            prices.parse(json.dumps(data))


def test_bands_are_factors_of_what_is_too_low_as_well() -> None:
    """Predictions at half of what was measured are 50 % off, and a factor of 2."""
    found = _summary(np.full(10, 0.5), np.array([1.25]))
    assert found == prices.Errors(mean=0.5, p90=0.5, factor=2.0, held_mean=0.25, held_p90=0.25)
    assert _summary(np.full(10, 1.5), np.array([])) == prices.Errors(0.5, 0.5, 1.5, None, None)
    assert _summary(np.zeros(10), np.array([])).factor == 10  # the price is 0


def test_a_node_without_a_library_has_no_fit() -> None:
    with pytest.raises(hu.HalfulpError, match="no library was characterised for '5nm': choose 130nm, 7nm, 2nm"):
        library("5nm")
