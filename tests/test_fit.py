"""What the cost model promises: how far it is off, on each library, and that more never costs less."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import halfulp as hu
import pytest
from halfulp.emulator import prices
from halfulp.emulator.functions import function
from halfulp.emulator.plan import Plan, plan
from halfulp.emulator.prices import LIBRARIES, library
from halfulp.emulator.silicon.characterize import COMMAND, ENERGIES, Table, parse
from halfulp.emulator.silicon.designs import designs, find
from halfulp.emulator.silicon.fit import fit

TABLES = Path(__file__).parents[1] / "emulator" / "silicon" / "tables"
QUANTITIES = ("area_um2", "leakage_nw", *ENERGIES)
NODES = list(LIBRARIES)


def table(node: str) -> Table:
    return parse((TABLES / f"{LIBRARIES[node]}.csv").read_text(encoding="utf-8"))


@pytest.mark.parametrize("node", NODES)
def test_errors_are_what_is_promised(node: str) -> None:
    errors = library(node).errors
    area, settled, inertial = (errors[q] for q in ("area_um2", "settled_gaussian_pj", "inertial_gaussian_pj"))
    assert area.mean <= 0.05 and area.p90 <= 0.15
    assert settled.mean <= 0.08 and inertial.mean <= 0.15
    assert area.held_mean <= 0.10 and settled.held_mean <= 0.20 and inertial.held_mean <= 0.20


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


# ---- more never costs less


def costs(found: Plan, node: str) -> list[float]:
    return [library(node).price(found, quantity) for quantity in QUANTITIES]


def never_less(more: Plan, less: Plan) -> None:
    for node in NODES:
        for a, b, quantity in zip(costs(more, node), costs(less, node), QUANTITIES, strict=True):
            assert a >= b * (1 - 1e-12), (node, quantity)


def formats() -> list[tuple[int, int]]:
    return [(w, t) for w in range(3, 9) for t in range(1, 24)]


@pytest.mark.parametrize("operation", ["mul", "add", "fma"])
def test_functions_grow_with_each_width(operation: str) -> None:
    for w, t in formats():
        one = plan(function(f"e{w}m{t}_{operation}"))
        never_less(plan(function(f"e{w}m{t + 1}_{operation}")), one)
        never_less(plan(function(f"e{w + 1}m{t}_{operation}")), one)


@pytest.mark.parametrize("order", ["", ":fused4", ":fused8g3", ":tree4", ":systolic4"])
def test_units_grow_with_each_width(order: str) -> None:
    draw = random.Random(1)
    for _ in range(60):
        w, t, v, u = draw.randint(3, 6), draw.randint(1, 10), draw.randint(5, 8), draw.randint(4, 23)
        one = plan(f"e{w}m{t}/e{v}m{u}{order}")
        never_less(plan(f"e{w}m{t + 1}/e{v}m{u}{order}"), one)
        never_less(plan(f"e{w}m{t}/e{v}m{u + 1}{order}"), one)


@pytest.mark.parametrize("order", ["", ":fused4", ":exact8"])
def test_units_of_fixed_point_grow_with_each_width(order: str) -> None:
    for bits, acc in itertools.product(range(2, 17, 2), range(0, 17, 4)):
        one = plan(f"int{bits}/int{2 * bits + acc}{order}")
        never_less(plan(f"int{bits}/int{2 * bits + acc + 1}{order}"), one)
        never_less(plan(f"int{bits + 1}/int{2 * bits + acc}{order}"), one)


def test_more_terms_and_guard_bits_cost_more() -> None:
    for a, acc in (("fp8_e4m3", "fp16"), ("bf16", "fp32"), ("e5m6", "e8m13")):
        for n in range(2, 20):
            never_less(plan(f"{a}/{acc}:fused{n + 1}"), plan(f"{a}/{acc}:fused{n}"))
        for g in range(12):
            never_less(plan(f"{a}/{acc}:fused4g{g + 1}"), plan(f"{a}/{acc}:fused4" + (f"g{g}" if g else "")))


def test_stochastic_is_at_least_nearest_is_at_least_truncating() -> None:
    for w, t in ((4, 3), (5, 10), (8, 7), (8, 23)):
        for operation in ("mul", "add"):
            modes = ["RTZ", "RNE", *(f"SR{k}" for k in range(2, 17))]
            plans = [plan(function(f"e{w}m{t}_{operation}", mode)) for mode in modes]
            for less, more in itertools.pairwise(plans):
                never_less(more, less)


def test_subnormals_cost_something() -> None:
    for w, t in formats():
        for operation in ("mul", "add"):
            never_less(plan(function(f"e{w}m{t}_{operation}")), plan(function(f"e{w}m{t}ftz_{operation}")))


def test_a_fused_unit_is_no_more_than_its_terms_apart() -> None:
    for a, acc in (("fp8_e4m3", "fp16"), ("fp8_e4m3", "fp32"), ("bf16", "fp32"), ("int8", "int32")):
        for n, node in itertools.product((2, 4, 8, 16), NODES):
            fused, one = costs(plan(f"{a}/{acc}:fused{n}"), node), costs(plan(f"{a}/{acc}"), node)
            assert all(x <= n * y for x, y in zip(fused, one, strict=True)), (a, acc, n, node)


def test_there_is_no_cliff() -> None:
    """One bit more is never more than a step of a shifter and of what is wider for it."""
    for node, operation in itertools.product(NODES, ("mul", "add")):
        for w, t in formats():
            if t < 4:
                continue
            one, next_ = (plan(function(f"e{w}m{t + i}_{operation}")) for i in (0, 1))
            for a, b, quantity in zip(costs(one, node), costs(next_, node), QUANTITIES, strict=True):
                assert b <= 1.5 * a, (node, operation, w, t, quantity)


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


def test_a_node_without_a_library_has_no_fit() -> None:
    with pytest.raises(hu.HalfulpError, match="no library was characterised for '5nm': choose 130nm, 7nm, 2nm"):
        library("5nm")
